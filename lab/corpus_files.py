"""What the corpus is written in: files of subjects and of forms, each checked when it is read."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BadCorpus

SINGULAR = {"are": "is", "were": "was", "have": "has", "do": "does"}
SINGULAR |= {"they": "it", "them": "it", "their": "its"}


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
