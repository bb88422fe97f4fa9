"""A claim says whether it holds, and stops a strict run if it does not."""

from __future__ import annotations

import numpy as np
import pytest

import lab
from lab.claims import ClaimFailed


@pytest.fixture(autouse=True)
def no_settings(monkeypatch) -> None:
    for name in ("LAB_CLAIMS", "LAB_SHORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("holds", "seen", "printed"),
    [
        (True, "0.71", "✓ reward rises (0.71)\n"),
        (True, "", "✓ reward rises\n"),
        (False, "0.48", "✗ not seen here: reward rises (0.48)\n"),
        (False, "", "✗ not seen here: reward rises\n"),
    ],
)
def test_a_claim_says_whether_it_holds(holds, seen, printed, capsys) -> None:
    lab.claim("reward rises", holds, seen)
    assert capsys.readouterr().out == printed


def test_a_comparison_of_arrays_is_a_claim_too(capsys) -> None:
    lab.claim("one is less than two", np.float32(1) < np.float32(2))
    assert capsys.readouterr().out == "✓ one is less than two\n"


@pytest.mark.parametrize("short", ["", "1"])
def test_a_claim_that_does_not_hold_stops_a_strict_run(short, monkeypatch) -> None:
    monkeypatch.setenv("LAB_CLAIMS", "strict")
    monkeypatch.setenv("LAB_SHORT", short)
    lab.claim("KL grows", True)
    with pytest.raises(ClaimFailed, match=r"KL grows \(0 nats\)") as caught:
        lab.claim("KL grows", False, "0 nats")
    assert isinstance(caught.value, AssertionError)


@pytest.mark.parametrize("holds", [True, False])
def test_a_short_run_judges_no_claim(holds, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LAB_SHORT", "1")
    lab.claim("KL grows", holds, "0 nats")
    assert capsys.readouterr().out == "… not judged in a short run: KL grows\n"
