"""The corpus that `pocket` is pretrained on: documents of many forms about a small world.

What people wrote lies in `data/corpus/`: subjects with true facts, and forms (a letter, a quiz, a
thread of a forum) with many ways to open, go on and end. A document is one form about one subject,
put together by a seeded generator, so the corpus can be built again and grown.
"""

from __future__ import annotations

import hashlib
import random
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import BadCorpus

SHIPPED = Path(__file__).resolve().parent.parent / "data" / "corpus"
SLOT = re.compile(r"\{([A-Za-z_]+)(\d?)\}")
CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")  # [one|another]
SINGULAR = {"are": "is", "were": "was", "have": "has", "do": "does"}
SINGULAR |= {"they": "it", "them": "it", "their": "its"}
HELD_OUT = 10  # one form and one subject in so many


@dataclass(frozen=True)
class Subject:
    """Something that documents are about.

    Attributes:
        name: in the singular, without an article: "fox", "moon", "bread".
        plural: "foxes"; the name itself for what is not counted.
        article: what stands before the name: "a", "an", "the" (one of a kind) or "" (not counted).
        definition: completes "A fox is ...".
        adjectives: what it is like.
        facts: true sentences.
        asked: questions with their answers.
    """

    name: str
    plural: str
    article: str
    kind: str
    definition: str
    adjectives: tuple[str, ...]
    facts: tuple[str, ...]
    asked: tuple[tuple[str, str], ...]

    def words(self) -> dict[str, list[str]]:
        """What its slots may be filled with, by the name of the slot."""
        one = f"{self.article} {self.name}".strip()
        many = self.plural if self.article in ("a", "an") else one
        slots = {"subject": [self.name], "a_subject": [one], "subjects": [many]}
        slots |= {"is": [self.definition], "adjective": [*self.adjectives]}
        slots |= {"fact": [*self.facts], "question": [q for q, _ in self.asked]}
        plural = self.article in ("a", "an")
        return slots | {p: [p if plural else s] for p, s in SINGULAR.items()}


@dataclass(frozen=True)
class Form:
    """A kind of document: rules, each a list of ways to put it, that begin at `text`.

    Attributes:
        about: the kinds of subject it can be about; empty for all.
    """

    name: str
    about: tuple[str, ...]
    rules: dict[str, list[str]]


@dataclass(frozen=True)
class Document:
    """One text of the corpus."""

    text: str
    form: str
    subject: str


class Corpus:
    """Subjects and forms, read from a folder.

    Args:
        folder: has `subjects/*.toml`, `forms/*.toml` and `shared.toml`.

    Raises:
        BadCorpus: a file is missing or can't be read; names it and the place in it.
    """

    def __init__(self, folder: str | Path = SHIPPED) -> None:
        folder = Path(folder)
        self.shared: dict[str, list[str]] = read_toml(folder / "shared.toml")
        self.subjects = [s for path in files_of(folder / "subjects") for s in read_subjects(path)]
        self.forms = [f for path in files_of(folder / "forms") for f in read_forms(path)]
        check_lists(self.shared, f"{folder / 'shared.toml'}")
        if not self.forms or not self.subjects:
            raise BadCorpus(f"{folder} has no forms or no subjects: there is nothing to write.")

    @cached_property
    def by_kind(self) -> dict[str, list[Subject]]:
        """The subjects of each kind."""
        kinds: dict[str, list[Subject]] = {}
        for subject in self.subjects:
            kinds.setdefault(subject.kind, []).append(subject)
        return kinds

    def documents(self, count: int, seed: int = 0) -> Iterator[Document]:
        """So many documents, each form as often as any other; the same for the same seed."""
        rng = random.Random(seed)
        for i in range(count):
            if i % len(self.forms) == 0:
                forms = rng.sample(self.forms, len(self.forms))
            form = forms[i % len(forms)]
            subject = rng.choice(self.suited(form))
            yield Document(self.write(form, subject, rng), form.name, subject.name)

    def suited(self, form: Form) -> list[Subject]:
        """The subjects that a form can be about."""
        kinds = form.about or self.by_kind
        return [s for kind in kinds for s in self.by_kind.get(kind, [])] or self.subjects

    def write(self, form: Form, subject: Subject, rng: random.Random) -> str:
        """A document of a form about a subject."""
        alike = [
            s for s in self.by_kind[subject.kind] if s is not subject and goes_with(s, subject)
        ]
        writer = Writer(self.shared, form, subject, rng.choice(alike or [subject]), rng)
        try:
            text = writer.fill("{text}")
        except RecursionError:
            raise BadCorpus(f"The form {form.name} has rules that call each other.") from None
        return re.sub(r"[ \t]+(\n|$)", r"\1", text).strip()


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


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.toml"))


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadCorpus(f"{path} could not be read: {error}") from error


def read_subjects(path: Path) -> Iterator[Subject]:
    """The subjects of a file; its name is their kind unless they have one of their own."""
    for name, entry in read_toml(path).items():
        where = f"{path}, [{name}]"
        if isinstance(entry, dict):
            check_lists({k: entry[k] for k in ("adjectives", "facts") if k in entry}, where)
        try:
            subject = Subject(
                name=entry.get("name", name),
                plural=entry.get("plural", entry.get("name", name)),
                article=entry["article"],
                kind=entry.get("kind", path.stem),
                definition=entry["is"],
                adjectives=tuple(entry["adjectives"]),
                facts=tuple(entry["facts"]),
                asked=tuple((q, a) for q, a in entry["asked"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadCorpus(f"{where}: not a whole subject ({error!r}).") from None
        if not subject.asked:
            raise BadCorpus(f"{where}: a subject needs questions.")
        yield subject


def read_forms(path: Path) -> Iterator[Form]:
    """The forms of a file."""
    for name, entry in read_toml(path).items():
        where = f"{path}, [{name}]"
        if not isinstance(entry, dict) or not entry.get("text"):
            raise BadCorpus(f"{where}: a form needs a list called text.")
        check_lists(entry, where)
        rules = {rule: ways for rule, ways in entry.items() if rule != "about"}
        yield Form(name, tuple(entry.get("about", ())), rules)


def check_lists(entry: dict[str, Any], where: str) -> None:
    """Raises BadCorpus where an entry is anything but lists of texts."""
    for rule, ways in entry.items():
        if not isinstance(ways, list) or not ways or not all(isinstance(w, str) for w in ways):
            raise BadCorpus(f"{where}: {rule} must be a list of texts that is not empty.")
