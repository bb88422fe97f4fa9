"""The corpus that `pocket` is pretrained on: documents of many forms about a small world.

What people wrote lies in `data/corpus/`: subjects with true facts, and forms (a letter, a quiz, a
thread of a forum) with many ways to open, go on and end. A document is one form about one subject,
put together by a seeded generator, so the corpus can be built again and grown. Some documents are
pages of a primer, which say one word again and again: read first, they teach a model to take up a
word that was said before, which is what it takes to stay with a subject.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .corpus_files import Form, Subject, check_lists, files_of, read_forms, read_subjects, read_toml
from .errors import BadCorpus
from .words import read_words

SHIPPED = Path(__file__).resolve().parent.parent / "data" / "corpus"
SLOT = re.compile(r"\{([A-Za-z_]+)(\d?)\}")
CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")  # [one|another]
HELD_OUT = 10  # one form and one subject in so many
PRIMER = 0.2  # the share of documents that are a page of the primer
WORDS = 0.5  # the share of its pages that are about a word of the dictionary


@dataclass(frozen=True)
class Document:
    """One text of the corpus."""

    text: str
    form: str
    subject: str


class Corpus:
    """Subjects, words and forms, read from a folder.

    Args:
        folder: has `subjects/*.toml`, `forms/*.toml`, `shared.toml` and, if wanted, `words/*.toml`
            and a `primer.toml` with forms of its own.

    Raises:
        BadCorpus: a file is missing or can't be read; names it and the place in it.
    """

    def __init__(self, folder: str | Path = SHIPPED) -> None:
        folder = Path(folder)
        self.shared: dict[str, list[str]] = read_toml(folder / "shared.toml")
        self.subjects = [s for path in files_of(folder / "subjects") for s in read_subjects(path)]
        self.words = list(read_words(folder / "words"))
        self.forms = [f for path in files_of(folder / "forms") for f in read_forms(path)]
        primer = folder / "primer.toml"
        self.primer = list(read_forms(primer)) if primer.exists() else []
        check_lists(self.shared, f"{folder / 'shared.toml'}")
        if not self.forms or not self.subjects:
            raise BadCorpus(f"{folder} has no forms or no subjects: there is nothing to write.")

    def documents(self, count: int, seed: int = 0) -> Iterator[Document]:
        """So many documents, each form as often as any other; the same for the same seed."""
        rng = random.Random(seed)
        forms: list[Form] = []
        for _ in range(count):
            page = bool(self.primer) and rng.random() < PRIMER
            if not page and not forms:
                forms = rng.sample(self.forms, len(self.forms))
            form = rng.choice(self.primer) if page else forms.pop()
            pool = self.words if page and self.words and rng.random() < WORDS else self.subjects
            if page:  # held-out text is documents of the other forms alone
                pool = [s for s in pool if not held_out(s.name)] or pool
            subject = rng.choice(suited(form, pool))
            alike = [s for s in pool if s.kind == subject.kind and goes_with(s, subject)]
            yield Document(self.write(form, subject, alike, rng), form.name, subject.name)

    def write(
        self, form: Form, subject: Subject, alike: Sequence[Subject], rng: random.Random
    ) -> str:
        """A document of a form about a subject; one of `alike` is mentioned beside it."""
        others = [s for s in alike if s is not subject] or [subject]
        writer = Writer(self.shared, form, subject, rng.choice(others), rng)
        try:
            text = writer.fill("{text}")
        except RecursionError:
            raise BadCorpus(f"The form {form.name} has rules that call each other.") from None
        return re.sub(r"[ \t]+(\n|$)", r"\1", text).strip()


def suited(form: Form, subjects: Sequence[Subject]) -> Sequence[Subject]:
    """Those of the subjects that a form can be about."""
    return [s for s in subjects if not form.about or s.kind in form.about] or subjects


class Writer:
    """Fills the slots of one document.

    `{rule}` takes another way each time, as long as there are any; `{rule1}` stays what it was at
    first; `{Rule}` begins with a capital; `[one|another]` is a choice; `{answer}` answers the
    question that came last; `{other_...}` is about a second subject of the same kind.
    """

    def __init__(
        self,
        shared: dict[str, list[str]],
        form: Form,
        subject: Subject,
        other: Subject,
        rng: random.Random,
    ) -> None:
        self.form, self.rng = form, rng
        words = {f"other_{name}": ways for name, ways in other.words().items()}
        self.rules = shared | subject.words() | words | form.rules
        self.kept: dict[str, str] = {}
        self.left: dict[str, list[str]] = {}
        self.asked = {"": subject.asked[0][0], "other_": other.asked[0][0]}
        self.answers = {"": dict(subject.asked), "other_": dict(other.asked)}

    def fill(self, text: str) -> str:
        """A text with its slots filled."""
        while match := CHOICE.search(text):
            way = self.rng.choice(match[1].split("|"))
            text = text[: match.start()] + way + text[match.end() :]
        return SLOT.sub(lambda m: self.slot(m[1], m[2]), text)

    def slot(self, name: str, number: str) -> str:
        """What one slot is filled with."""
        rule = name[0].lower() + name[1:]
        if number and (rule + number) in self.kept:
            words = self.kept[rule + number]
        elif rule in ("answer", "other_answer"):
            whose = rule.removesuffix("answer")
            words = self.answers[whose][self.asked[whose]]
        else:
            words = self.fill(self.way(rule))
            if rule in ("question", "other_question"):
                self.asked[rule.removesuffix("question")] = words
        if number:
            self.kept[rule + number] = words
        return words[0].upper() + words[1:] if name[0].isupper() and words else words

    def way(self, rule: str) -> str:
        """One way to put a rule, none twice before each was taken once."""
        if rule not in self.rules:
            raise BadCorpus(f"The form {self.form.name} has a slot {{{rule}}} that nothing fills.")
        if not self.left.get(rule):
            self.left[rule] = self.rng.sample(self.rules[rule], len(self.rules[rule]))
        return self.left[rule].pop()


def goes_with(other: Subject, subject: Subject) -> bool:
    """Whether a document about a subject may speak of another one: what is held out is in no text
    that trains."""
    return held_out(subject.name) or not held_out(other.name)


def held_out(name: str) -> bool:
    """Whether a form or a subject is kept out of training, by its name alone: what is added to the
    corpus moves nothing from one side to the other."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % HELD_OUT == 0
