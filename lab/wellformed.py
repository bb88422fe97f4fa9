"""Is a text well formed? Rules that can be checked by reading it, without any model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
BEGINS = re.compile(r"[A-Z0-9\"'(\[*#\-_>+]")
VOWEL = re.compile(r"[aeiou]", re.IGNORECASE)
A_VOWEL = frozenset(("one", "once", "unit", "uniform", "union", "university", "use", "useful"))
A_VOWEL |= frozenset(
    ("used", "user", "usual", "european", "unique", "ukulele", "unicorn", "unicycle")
)
AN_CONSONANT = frozenset(("hour", "hours", "honest", "honour", "heir", "hourglass", "x", "mp"))
RARE_PAIRS = 1 / 12  # more neighbours than that which no training text has: it is not English
SHORTEST = 3  # words


@dataclass(frozen=True)
class Language:
    """The words and the pairs of neighbouring words that training texts have."""

    words: frozenset[str]
    pairs: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Language:
        words: set[str] = set()
        pairs: set[tuple[str, str]] = set()
        for text in texts:
            for found in sentences(text):
                words.update(found)
                pairs.update(pairwise(found))
        return cls(frozenset(words), frozenset(pairs))

    def faults(self, text: str) -> list[str]:
        """What is wrong with a text; nothing for one that is well formed.

        It has at least three words, all of them words of the training texts; none stands twice in
        a row that does not there; "a" and "an" fit what follows; it begins as texts do; quotation
        marks and brackets are paired; no sentence comes three times; and at most one in twelve of
        its pairs of neighbouring words is a pair that the training texts never have.
        """
        found = sentences(text)
        words = [word for sentence in found for word in sentence]
        if len(words) < SHORTEST:
            return ["too short"]
        faults = [f"not a word: {w}" for w in dict.fromkeys(words) if w not in self.words]
        pairs = [pair for s in found for pair in pairwise(s)]
        faults += [f"twice: {a}" for a, b in pairs if a == b and (a, b) not in self.pairs]
        faults += [
            f"article: {a} {b}" for a, b in pairs if a in ("a", "an") and wrong_article(a, b)
        ]
        if not BEGINS.match(text.strip()):
            faults.append(f"begins: {text.strip()[:20]}")
        if not paired(text):
            faults.append("quotation marks or brackets are not paired")
        again = Counter(" ".join(s) for s in found if len(s) > SHORTEST)
        faults += [f"again: {s[:40]}" for s, count in again.items() if count > 2]
        rare = [pair for pair in pairs if pair not in self.pairs]
        if pairs and len(rare) / len(pairs) > RARE_PAIRS:
            faults.append(f"{len(rare)} of {len(pairs)} pairs of words are not English here")
        return faults


def sentences(text: str) -> list[list[str]]:
    """The words of each sentence or line, in small letters."""
    parts = re.split(r"[.!?:;]+(?=[\s\"')]|$)|\n", text)
    found = [[w.lower() for w in WORD.findall(part)] for part in parts]
    return [words for words in found if words]


def wrong_article(article: str, word: str) -> bool:
    vowel = (bool(VOWEL.match(word)) and word not in A_VOWEL) or word in AN_CONSONANT
    return vowel != (article == "an")


def whole_sentences(text: str) -> str:
    """A text that was cut off, up to the end of its last whole sentence or line; within its last
    line, up to one where no quotation is open: what the cut left open is no fault of the text."""
    ends = [m.end() for m in re.finditer(r"(?<!\n\d)[.!?][\"')]?(?=\s|$)|\n", text)]
    if not ends:
        return text.strip()
    last_line = text.rfind("\n") + 1
    closed = [end for end in ends if end >= last_line and paired(text[:end])]
    return text[: closed[-1] if closed else ends[-1]].strip()


def paired(text: str) -> bool:
    """Whether quotation marks and brackets that were opened are closed."""
    return text.count('"') % 2 == 0 and text.count("(") == text.count(")")
