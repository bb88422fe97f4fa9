"""The rules by which a text is well formed, each broken once."""

from __future__ import annotations

import pytest

from lab.wellformed import Language, whole_sentences

TEXTS = [
    "A fox sleeps in the den.\nIt eats an apple and a mouse.",
    'Anna said: "The fox is red (and quick)."',
    "The old dog sleeps. Does the dog eat an apple? It does.",
]
LANGUAGE = Language.of(TEXTS)


@pytest.mark.parametrize("text", [*TEXTS, "The fox sleeps in the den. Does the dog eat an apple?"])
def test_a_text_without_fault_passes(text) -> None:
    assert LANGUAGE.faults(text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Fox.", "too short"),
        ("The fxo sleeps in the den.", "not a word: fxo"),
        ("The the fox sleeps in the den.", "twice: the"),
        ("It eats a apple and a mouse.", "article: a apple"),
        ("the fox sleeps in the den.", "begins: the fox"),
        ('Anna said: "The fox is red.', "not paired"),
        ("A fox sleeps in the den. " * 3, "again: a fox"),
        ("Apple the an den red sleeps quick.", "pairs of words are not English here"),
    ],
)
def test_a_fault_is_named(text, fault) -> None:
    assert any(fault in found for found in LANGUAGE.faults(text))


def test_a_text_that_was_cut_off_ends_with_its_last_whole_sentence() -> None:
    assert whole_sentences("One fox. Two foxes sl") == "One fox."
    assert whole_sentences("1. Bread\n2. Mil") == "1. Bread"
    assert whole_sentences("no end") == "no end"
    assert whole_sentences('A fox. "It eats. It sl') == "A fox."
    assert whole_sentences('"A fox.\nIt eats. It sl') == '"A fox.\nIt eats.'
