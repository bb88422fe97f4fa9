"""Words of the dictionary as subjects."""

from __future__ import annotations

import pytest

from lab.errors import BadCorpus
from lab.words import plural_of, read_words, subject_of


@pytest.mark.parametrize(
    ("word", "plural"),
    [
        ("lamp", "lamps"),
        ("box", "boxes"),
        ("berry", "berries"),
        ("key", "keys"),
        ("inch", "inches"),
    ],
)
def test_a_plural_follows_the_rule(word, plural) -> None:
    assert plural_of(word) == plural


def test_what_is_said_of_a_word_follows_from_it() -> None:
    word = subject_of("otter", "otters", "a furry animal that swims", "animal")
    assert word.article == "an" and word.words()["subjects"] == ["otters"]
    assert ("What is an otter?", "An otter is a furry animal that swims.") in word.asked
    assert "The word otter has five letters." in word.facts


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[thing]\nlamp = []\n", r"\[thing\] lamp: give a definition"),
        ("[thing]\nlamp = 3\n", r"\[thing\] lamp: give a definition"),
        ('[stars]\nsun = "a star"\n', r"\[stars\] sun: the kind must be one of"),
        ("lamp = 3\n", r"must be a table"),
    ],
)
def test_a_dictionary_that_cannot_be_used_names_the_word(tmp_path, text, place) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(BadCorpus, match=place):
        list(read_words(tmp_path))
