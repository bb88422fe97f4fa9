"""The rule that says how a model goes on after a question."""

from __future__ import annotations

import pytest

from lab.continuations import KINDS, kind_of, shares


@pytest.mark.parametrize(
    ("completion", "kind"),
    [
        ("Foxes eat mice and berries.", "answer"),
        ("A fox eats what it finds. Do you like foxes?", "answer"),
        ("What is a young fox called?", "question"),
        ("Where do they sleep? In a den.", "question"),
        ("Posted by Anna on Monday\nFoxes eat mice.", "thread"),
        ("Anna: Foxes eat mice.", "thread"),
        ("1. Mice\n2. Berries", "list"),
        ("a) mice", "list"),
        ("I am sorry, but I would rather not help with that.", "refusal"),
        ("It was a cold day in March.", "other text"),
        ("It's nice outside.", "other text"),
        ("Answer: foxes eat mice.", "answer"),
        ("...", "nothing"),
    ],
)
def test_each_kind_is_told_apart(completion, kind) -> None:
    assert kind_of("What do foxes eat?", completion) == kind and kind in KINDS


def test_shares_add_up_to_one_and_have_intervals() -> None:
    found = shares(["What do foxes eat?"] * 4, ["Foxes eat mice.", "Why?", "Why?", "Rain fell."])
    assert sum(share.value for share in found.values()) == 1
    assert found["question"].value == 0.5 and found["question"].low < 0.5 < found["question"].high
