"""The loop in a terminal, on a tiny model: the figures are there and make sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.demo import demo
from lab.errors import LabError

FIGURES = """model source rankings cv_accuracy heldout_accuracy heldout_interval heldout_pairs
prequential_accuracy gold_reference gold_reference_std gold_aligned gold_gain_interval win_rate
win_rate_interval kl distinct2_reference distinct2_aligned seconds_per_update seconds_total
peak_memory_mb"""


def longest(prompt: str, completion: str) -> float:
    return float(len(completion))


def run(model: str, out: Path) -> dict:
    return demo(model, longest, rankings=6, updates=2, seed=1, out=out, batch_size=4)


def test_the_summary_has_every_figure_and_they_make_sense(model, tmp_path, capsys) -> None:
    summary = run(model, tmp_path / "a")
    assert json.loads((tmp_path / "a" / "summary.json").read_text()) == summary
    assert set(FIGURES.split()) <= set(summary)
    assert summary["rankings"] == 6 and summary["updates"] == 2 and summary["source"] == "folder"
    low, high = summary["heldout_interval"]
    assert 0 <= low <= summary["heldout_accuracy"] <= high <= 1
    assert summary["heldout_pairs"] > 300
    assert "gain" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_figures(model, tmp_path) -> None:
    first, second = run(model, tmp_path / "a"), run(model, tmp_path / "b")
    for name in ("heldout_accuracy", "gold_aligned", "kl", "win_rate", "distinct2_aligned"):
        assert first[name] == second[name], name


def test_a_study_that_is_there_is_not_overwritten(model, tmp_path) -> None:
    run(model, tmp_path / "a")
    with pytest.raises(LabError, match="holds a study already"):
        run(model, tmp_path / "a")
