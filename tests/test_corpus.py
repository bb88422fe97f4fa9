"""The generator of pocket's corpus, and the corpus that ships."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from lab.corpus import SHIPPED, Corpus, held_out, suited
from lab.errors import BadCorpus

FOX = """[fox]
plural = "foxes"
article = "a"
is = "a small wild dog"
adjectives = ["red"]
facts = ["A fox digs a den."]
asked = [["What is a fox?", "A small wild dog."], ["What do foxes eat?", "Mice."]]
"""
MOON = """[moon]
article = "the"
is = "a ball of stone"
adjectives = ["round"]
facts = ["Dust lies on the moon."]
asked = [["What is the moon?", "A ball of stone."]]
"""
NOTE = """[note]
text = ["Dear {name1}, {name1} {name2}. {Subjects} {are} {adjective}. {question} {answer}"]
"""


@pytest.fixture
def corpus(tmp_path):
    """Writes a small corpus, with other forms where they are given."""

    def write(forms: str = NOTE, animals: str = FOX) -> Corpus:
        for name in ("subjects", "forms"):
            (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / "shared.toml").write_text('name = ["Ann", "Ben"]\n')
        (tmp_path / "subjects" / "animal.toml").write_text(animals)
        (tmp_path / "subjects" / "nature.toml").write_text(MOON)
        (tmp_path / "forms" / "letters.toml").write_text(forms)
        return Corpus(tmp_path)

    return write


def test_the_same_seed_writes_the_same_documents(corpus) -> None:
    texts = [[d.text for d in corpus().documents(20, seed)] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_a_slot_with_a_digit_keeps_what_it_was_filled_with(corpus) -> None:
    for document in corpus().documents(20):
        first, again, other = re.match(r"Dear (\w+), (\w+) (\w+)\.", document.text).groups()
        assert first == again and other in ("Ann", "Ben")


def test_an_answer_answers_the_question_that_came_last(corpus) -> None:
    pairs = {"What is a fox?": "A small wild dog.", "What do foxes eat?": "Mice."}
    found = Counter()
    for document in corpus().documents(60):
        for question, answer in pairs.items():
            if question in document.text:
                found[question] += 1
                assert document.text.endswith(answer)
    assert set(found) == set(pairs)


def test_verbs_agree_with_what_is_counted_and_what_is_not(corpus) -> None:
    texts = {d.text.split(". ")[1] for d in corpus().documents(60)}
    assert texts == {"Foxes are red", "The moon is round"}


def test_no_way_to_put_a_rule_comes_twice_before_each_was_taken(corpus) -> None:
    forms = '[list]\ntext = ["{word} {word} {word} {word}"]\nword = ["a", "b", "c"]\n'
    for document in corpus(forms).documents(20):
        assert len(set(document.text.split()[:3])) == 3


def test_a_choice_in_brackets_is_made(corpus) -> None:
    forms = '[line]\ntext = ["It is [hot|cold] and [the|a] {subject}[ sings|]."]\n'
    texts = {d.text for d in corpus(forms).documents(80)}
    assert len(texts) == 16 and not any(set("[]|{}") & set(text) for text in texts)


def test_a_form_about_a_kind_has_subjects_of_that_kind_alone(corpus) -> None:
    documents = corpus('[line]\nabout = ["nature"]\ntext = ["{a_subject}"]\n').documents(20)
    assert {d.text for d in documents} == {"the moon"}


@pytest.mark.parametrize(
    ("forms", "animals", "place"),
    [
        ("[note]\n", FOX, r"letters\.toml, \[note\]"),
        ('[note]\ntext = ["x"]\nopening = []\n', FOX, "opening must be a list"),
        ("[note\n", FOX, r"letters\.toml could not be read"),
        ("", FOX, "no forms"),
        ('[note]\ntext = ["x"]\nabout = "animal"\n', FOX, "about must be a list"),
        (NOTE, FOX.replace('["A fox digs a den."]', '"A fox digs."'), "facts must be a list"),
        (NOTE, '[fox]\narticle = "a"\n', r"animal\.toml, \[fox\]: not a whole subject"),
    ],
)
def test_a_corpus_that_cannot_be_used_says_where(corpus, forms, animals, place) -> None:
    with pytest.raises(BadCorpus, match=place):
        corpus(forms, animals)


def test_a_slot_that_nothing_fills_names_the_form(corpus) -> None:
    with pytest.raises(BadCorpus, match=r"note has a slot \{weather\}"):
        list(corpus('[note]\ntext = ["{weather}"]\n').documents(1))


def test_rules_that_call_each_other_name_the_form(corpus) -> None:
    forms = '[note]\ntext = ["{one}"]\none = ["{two}"]\ntwo = ["{one}"]\n'
    with pytest.raises(BadCorpus, match="note has rules that call each other"):
        list(corpus(forms).documents(1))


def test_pages_of_the_primer_are_about_what_trains_alone(corpus, tmp_path, monkeypatch) -> None:
    assert {d.form for d in corpus().documents(40)} == {"note"}
    monkeypatch.setattr("lab.corpus.held_out", lambda name: name == "fox")
    (tmp_path / "primer.toml").write_text('[primer]\ntext = ["{A_subject}. {A_subject}."]\n')
    documents = list(corpus().documents(200))
    pages = [d for d in documents if d.form == "primer"]
    assert 0.1 < len(pages) / len(documents) < 0.3
    assert {d.text for d in pages} == {"The moon. The moon."}
    assert "fox" in {d.subject for d in documents}


def test_the_shipped_corpus_is_as_large_and_as_varied_as_it_says() -> None:
    corpus = Corpus()
    assert len(corpus.forms) >= 60 and len(corpus.subjects) >= 150
    known = corpus.subjects + corpus.words
    assert len({s.name for s in known}) == len(known)
    heldout = [f.name for f in corpus.forms if held_out(f.name)]
    assert 3 <= len(heldout) <= 12
    assert 10 <= sum(held_out(s.name) for s in corpus.subjects) <= 35
    documents = list(corpus.documents(2000))
    assert len({d.text for d in documents}) > 1990
    openings = Counter(d.text.split()[0] for d in documents)
    assert openings.most_common(1)[0][1] < 0.1 * len(documents)  # none begins every tenth


def test_every_shipped_form_writes_about_every_subject_it_suits() -> None:
    corpus, rng = Corpus(SHIPPED), random.Random(0)
    for form in corpus.forms:
        for subject in suited(form, corpus.subjects + corpus.words[::7]):
            text = corpus.write(form, subject, corpus.subjects, rng)
            assert len(text.split()) > 5 and not set("{}") & set(text), (form.name, text)
            assert not re.search(r"\bthe the\b|\ba the\b", text, re.IGNORECASE), (form.name, text)
