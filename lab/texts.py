"""Plain text to pretrain on: what trains, and what is held out by form and by subject."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .corpus import SHIPPED, Corpus, Document, held_out
from .errors import BadCorpus
from .store import clean

DOCUMENTS = 60_000
HELD_OUT_EVERY = 10  # of texts that have no form and no subject
GROUPS = ("new subject", "new form", "new form and subject")


@dataclass(frozen=True)
class Texts:
    """Documents.

    Attributes:
        train: those that train.
        heldout: those that never do, by what is new in them; see GROUPS.
    """

    train: list[str]
    heldout: dict[str, list[str]]

    @classmethod
    def of(cls, source: Texts | str | Path | Iterable[str] | None = None) -> Self:
        """Texts from a list or a file (a blank line between two), every tenth held out; from a
        folder laid out like `data/corpus`; or (None) from the corpus that the lab ships.

        Raises:
            BadCorpus: there is no text, or it can't be read; names the file.
        """
        if isinstance(source, Texts):
            return source
        if source is None or (isinstance(source, (str, Path)) and Path(source).is_dir()):
            return cls.written(source or SHIPPED)
        if isinstance(source, (str, Path)):
            where, texts = f"{source}", read_texts(Path(source))
        else:
            where, texts = "the list of texts", list(source)
        if not all(isinstance(text, str) for text in texts):
            raise BadCorpus(f"{where} holds something that is not a text.")
        texts = [clean(text).strip() for text in texts if text.strip()]
        if not texts:
            raise BadCorpus(f"{where} is empty: there is nothing to learn from.")
        heldout = texts[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
        train = [t for i, t in enumerate(texts) if i % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
        return cls(train, {"every tenth text": heldout})

    @classmethod
    def written(
        cls,
        folder: str | Path = SHIPPED,
        count: int = DOCUMENTS,
        seed: int = 0,
        on_document: Callable[[int], None] | None = None,
    ) -> Self:
        """So many documents of a corpus, sorted by what is held out; the pages of its primer come
        first. `on_document` gets how many documents there are so far."""
        corpus = Corpus(folder)
        primer, pages, train = {form.name for form in corpus.primer}, [], []
        heldout: dict[str, list[str]] = {group: [] for group in GROUPS}
        for i, document in enumerate(corpus.documents(count, seed), 1):
            group = group_of(document)
            there = pages if document.form in primer else heldout[group] if group else train
            there.append(document.text)
            if on_document:
                on_document(i)
        return cls(pages + train, heldout)

    @property
    def all_heldout(self) -> list[str]:
        """The held-out documents of all groups."""
        return [text for texts in self.heldout.values() for text in texts]


def group_of(document: Document) -> str | None:
    """What is new in a document that is held out; None for one that trains."""
    form, subject = held_out(document.form), held_out(document.subject)
    if form and subject:
        return "new form and subject"
    return "new form" if form else "new subject" if subject else None


def read_texts(path: Path) -> list[str]:
    """The texts of a file, a blank line between two."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadCorpus(f"{path} could not be read as UTF-8 text: {error}") from error
