"""A small dictionary whose words become subjects of the primer's pages.

What little is said of each follows from the word itself and its definition. A model that meets so
many words in the same sentences can't learn the sentences by heart: it has to learn to copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .corpus_files import Subject, files_of, read_toml
from .errors import BadCorpus

COUNTS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
ADJECTIVES = {
    "animal": ("wild", "small", "shy", "young", "hungry"),
    "plant": ("green", "tall", "young", "fresh", "small"),
    "food": ("fresh", "good", "warm", "sweet", "tasty"),
    "nature": ("big", "quiet", "strange", "beautiful", "wild"),
    "place": ("quiet", "small", "famous", "new", "busy"),
    "thing": ("new", "small", "useful", "broken", "heavy"),
    "body": ("strong", "small", "healthy", "soft", "important"),
    "work": ("young", "busy", "kind", "tired", "famous"),
    "life": ("good", "strange", "short", "great", "new"),
}


def read_words(folder: Path) -> Iterator[Subject]:
    """The words of a folder: a table a kind, and of each word its definition, or a list of its
    plural and its definition where the plural is not made by the rule.

    Raises:
        BadCorpus: names the file and the word.
    """
    for path in files_of(folder):
        for kind, entries in read_toml(path).items():
            if not isinstance(entries, dict):
                raise BadCorpus(f"{path}: {kind} must be a table of words.")
            for word, entry in entries.items():
                parts = [plural_of(word), entry] if isinstance(entry, str) else entry
                parts = parts if isinstance(parts, list) else []
                where = f"{path}, [{kind}] {word}"
                if kind not in ADJECTIVES:
                    raise BadCorpus(f"{where}: the kind must be one of {', '.join(ADJECTIVES)}.")
                if not (len(parts) == 2 and all(isinstance(p, str) and p for p in parts)):
                    raise BadCorpus(f"{where}: give a definition, or a plural and a definition.")
                yield subject_of(word, *parts, kind)


def plural_of(word: str) -> str:
    """The plural by the ordinary rule."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def subject_of(word: str, plural: str, definition: str, kind: str) -> Subject:
    """A word as a subject."""
    article = "an" if word[0] in "aeiou" and not word.startswith("uni") else "a"
    one = f"{article} {word}"
    letters = COUNTS[len(word)] if len(word) < len(COUNTS) else str(len(word))
    facts = (
        f"{one.capitalize()} is {definition}.",
        f"The word {word} has {letters} letters.",
        f"The word {word} begins with the letter {word[0]}.",
        f"When there are two or more, we say {plural}.",
        f"In some stories there is {one}.",
        f"Children learn early what {one} is.",
        f"By {one} we mean {definition}.",
    )
    asked = (
        (f"What is {one}?", f"{one.capitalize()} is {definition}."),
        (f"What are {plural}?", f"One of them is {definition}."),
        (f"How many letters does the word {word} have?", f"The word {word} has {letters} letters."),
        (f"What does the word {word} mean?", f"It means {definition}."),
        (f"How do you say it when there is more than one {word}?", f"Then you say {plural}."),
        (f"With which letter does {word} begin?", f"It begins with the letter {word[0]}."),
    )
    return Subject(word, plural, article, kind, definition, ADJECTIVES[kind], facts, asked)
