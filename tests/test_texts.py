"""What is read to pretrain on, and what of it is held out."""

from __future__ import annotations

import pytest

from lab.corpus import Corpus, Document, held_out
from lab.errors import BadCorpus
from lab.texts import GROUPS, Texts, group_of


def test_a_list_of_texts_is_cleaned_and_every_tenth_is_held_out() -> None:
    texts = Texts.of([f"text {i}" for i in range(20)] + ["  ", "lone \ud800 surrogate"])
    assert texts.all_heldout == ["text 9", "text 19"]
    assert len(texts.train) == 19 and texts.train[-1] == "lone \ufffd surrogate"


def test_a_file_has_a_blank_line_between_two_texts(tmp_path) -> None:
    (tmp_path / "own.txt").write_text("one\nline more\n\ntwo\n\n\n\nthree\n", "utf-8")
    assert Texts.of(tmp_path / "own.txt").train == ["one\nline more", "two", "three"]


@pytest.mark.parametrize("source", [[], ["", " \n "], [3]])
def test_no_text_is_an_error(source) -> None:
    with pytest.raises(BadCorpus, match="the list of texts"):
        Texts.of(source)


def test_a_file_that_cannot_be_read_is_named(tmp_path) -> None:
    with pytest.raises(BadCorpus, match=r"none\.txt could not be read"):
        Texts.of(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(BadCorpus, match=r"latin\.txt could not be read"):
        Texts.of(tmp_path / "latin.txt")


def test_the_shipped_corpus_is_held_out_by_form_and_by_subject() -> None:
    texts = Texts.written(count=1500)
    assert set(texts.heldout) == set(GROUPS) and all(texts.heldout.values())
    assert not set(texts.train) & set(texts.all_heldout)
    assert 0.1 < len(texts.all_heldout) / 1500 < 0.35


def test_the_pages_of_the_primer_come_first_and_measure_nothing() -> None:
    pages = [d.text for d in Corpus().documents(300) if d.form == "primer"]
    texts = Texts.written(count=300)
    assert pages and texts.train[: len(pages)] == pages
    assert not set(pages) & set(texts.all_heldout)


def test_no_question_or_fact_of_a_held_out_subject_is_in_a_text_that_trains() -> None:
    train = "\n".join(Texts.written(count=8_000).train)
    subjects, told, shared = Corpus().subjects, [], set()
    for s in subjects:
        if held_out(s.name):
            told += [*s.facts, *(q for q, _ in s.asked)]
        else:  # a birthday cake's candles are a fact about birthdays too
            shared |= {*s.facts, *(a for _, a in s.asked)}
    told = [t for t in told if t not in shared]
    assert len(told) > 200 and [t for t in told if t in train] == []


def test_a_document_is_held_out_by_its_names_alone(monkeypatch) -> None:
    monkeypatch.setattr("lab.texts.held_out", lambda name: name.startswith("new"))
    named = [("old", "old"), ("old", "new"), ("new", "old"), ("new", "new")]
    groups = [group_of(Document("", form, subject)) for form, subject in named]
    assert groups == [None, "new subject", "new form", "new form and subject"]
