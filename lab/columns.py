"""Answers of several variants to one prompt, in columns, with the same random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from .compare import OnText, judging_head
from .errors import BadSetting
from .variants import distinct

if TYPE_CHECKING:
    from .compare import Answers
    from .experiment import Experiment
    from .trunk import Trunk
    from .variants import Tell, Variant


@dataclass
class Cell:
    """One answer in a column.

    Attributes:
        same: how many characters of the text it shares with the first column's answer, up to the
            token at which they part; None for the first column, and where they never part.
        identical: whether it is the first column's answer word for word.
        score: standard deviations of the reward model above what `Columns.baseline` says.
    """

    text: str
    finished: bool
    same: int | None = None
    score: float | None = None
    identical: bool = False


@dataclass
class Column:
    """What one variant said."""

    name: str
    title: str = ""
    answers: list[Cell] = field(default_factory=list)
    said: Answers | None = None
    trunk: Trunk | None = None


class Columns:
    """Columns that are filled one at a time, so that each is a short job.

    Args:
        names: variants, see `lab.variants`; each has one column.
        count: answers in a column; row i of every column has the same random numbers.

    Raises:
        BadSetting: there are no names, or `count` is out of range.
        LabError: there is nothing of one of the names.
    """

    def __init__(
        self,
        study: Experiment,
        prompt: str,
        names: Sequence[str],
        count: int = 3,
        seed: int = 0,
        temperature: float | None = None,
        max_new_tokens: int | None = None,
    ) -> None:
        if not names:
            raise BadSetting("There are no variants: give at least one, such as reference.")
        if not 1 <= count <= 16:
            raise BadSetting(f"count={count}: give a number from 1 to 16.")
        self.study, self.prompt, self.count = study, prompt, count
        self.how = {"seed": seed, "temperature": temperature, "max_new_tokens": max_new_tokens}
        self.columns = [Column(name, name) for name in distinct(study, names)]
        self.baseline = ""

    def open(self, place: int, tell: Tell | None = None) -> Variant:
        """Load the variant of a column, so that it has its exact name."""
        column = self.columns[place]
        variant = self.study.variant(column.name, tell)
        column.name, column.title = variant.name, variant.title
        column.trunk = variant.policy.trunk
        return variant

    def fill(self, place: int, tell: Tell | None = None, on_text: OnText | None = None) -> Column:
        """Let a variant answer. Columns are filled from the first on.

        Args:
            tell: gets words on what is being loaded.
            on_text: called after each token with the texts so far.
        """
        column = self.columns[place]
        variant = self.open(place, tell)
        column.said = said = variant.answer([self.prompt] * self.count, on_text=on_text, **self.how)
        column.answers = [Cell(*row) for row in zip(said.texts, said.finished, strict=True)]
        if place:
            for row, cell in enumerate(column.answers):
                cell.same = parting(self.columns[0], column, row)
                cell.identical = cell.same is None
        return column

    def judge(self) -> None:
        """Score all answers by the reward model of the newest run; nothing where there is none.

        A score is relative to the reference's answers to this prompt: those in the store, else
        those in a column here, else those of the first column.
        """
        head = judging_head(self.study)
        if head is None:
            return
        raw = [head.raw(column.said.features) for column in self.columns]
        names = [column.name for column in self.columns]
        base = names.index("reference") if "reference" in names else 0
        offset = head.offsets.get(self.prompt)
        whose = "the reference" if "reference" in names or offset is not None else names[0]
        self.baseline = f"the average answer of {whose} to this prompt"
        offset = raw[base].mean() if offset is None else offset
        for column, values in zip(self.columns, raw, strict=True):
            for cell, value in zip(column.answers, np.atleast_1d(values), strict=True):
                cell.score = float(value - offset) / head.spread


def side_by_side(
    study: Experiment, prompt: str, names: Sequence[str], count: int, seed: int, *how: float | None
) -> dict[str, list[dict]]:
    """See `Experiment.side_by_side`."""
    columns = Columns(study, prompt, names, count, seed, *how)
    for place in range(len(columns.columns)):
        columns.fill(place)
    columns.judge()
    return {
        column.title: [
            {"text": a.text, "finished": a.finished, "score": a.score} for a in column.answers
        ]
        for column in columns.columns
    }


def parting(first: Column, other: Column, row: int) -> int | None:
    """Where the text of an answer parts from the first column's, in characters; None if it never
    does. By tokens, where both have the same."""
    a, b = first.answers[row].text, other.answers[row].text
    if a == b:
        return None
    shared = len(common(a, b))
    if first.trunk is other.trunk:
        ids = common(first.said.token_ids[row], other.said.token_ids[row])
        shared = min(shared, len(other.trunk.decode(list(ids)).rstrip("\ufffd")))
    return shared


def common(a: Sequence, b: Sequence) -> Sequence:
    """What two sequences begin with alike."""
    count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    return a[:count]
