"""The record of a run: what each update measured, sampled, and did to its tokens."""

from __future__ import annotations

import json
import time
from typing import Any

import torch

from .errors import DamagedStudy, NotReady

Row = dict[str, Any]
Checkpoint = tuple[dict[str, torch.Tensor], Row]


class History:
    """The record of a run in memory: a row of metrics an update, a few samples of each, and the
    settings wherever they changed. It keeps no checkpoints."""

    name = "memory"

    def __init__(self) -> None:
        self.config: Row = {}
        self.history: list[Row] = []
        self.samples: list[Row] = []
        self.settings: list[Row] = []
        self._start: Checkpoint | None = None
        self._unfinished: list[str] = []  # parts with rows on disk that are no part of the record
        self._noted: Row = {}  # of tokens, while an update is under way
        self._token_lines: dict[int, str] = {}

    @property
    def first(self) -> int:
        """The update that the run starts after: 0, or where it branched off."""
        return self.config.get("parent", {}).get("update", 0)

    @property
    def last(self) -> int:
        """The newest update that was recorded."""
        return self.history[-1]["update"] if self.history else self.first

    @property
    def resume_at(self) -> int:
        """The update that an opened run goes on after."""
        return self.first

    def row(self, update: int) -> Row:
        """The metrics of a recorded update."""
        for row in self.history:
            if row["update"] == update:
                return row
        raise DamagedStudy(
            f"The history of {self.name} has lost update {update}. What is there is untouched; "
            "start a new run."
        )

    def settings_of(self, update: int) -> Row | None:
        """The settings that a recorded update was taken with; None past the record."""
        known = [s for s in self.settings if s["update"] <= update]
        return known[-1]["settings"] if known and update <= self.last else None

    def append(self, metrics: Row, samples: list[Row], settings: Row) -> None:
        """Add an update to the record: all of it, or nothing where it fails or is interrupted."""
        update = metrics["update"]
        try:
            self._append(update, metrics, samples, settings)
        except BaseException:
            self._take_back(update)
            raise

    def _append(self, update: int, metrics: Row, samples: list[Row], settings: Row) -> None:
        if not self.settings or self.settings[-1]["settings"] != settings:
            self._add("settings", {"update": update, "settings": settings})
        for row in samples:
            self._add("samples", {"update": update, **row})
        if self._noted.get("update") == update:
            self._add_tokens(self._noted)
        self._noted = {}
        self._add("history", metrics)

    def _add(self, part: str, row: Row) -> None:
        getattr(self, part).append(row)

    # Tokens: much for each update and seldom looked at, so they are read when they are asked for

    def note_tokens(self, update: int, tokens: Row) -> None:
        """What the update under way did to the tokens of its samples; `append` keeps it."""
        self._noted = {"update": update, **tokens}

    def tokens(self, update: int) -> Row:
        """What a recorded update did to the tokens of its kept samples; see `TokenRecord.kept`.
        `lab.lens` makes tables of it.

        Raises:
            NotReady: there is no record of it: says why, and where one may be.
        """
        parent = self.config.get("parent")
        if parent and update <= self.first:
            raise NotReady(
                f"Update {update} is in {parent['run']}, which {self.name} branched off."
            )
        if update == self.first:
            raise NotReady(f"This is where {self.name} starts: there is no update {update} to see.")
        if not self.first < update <= self.last:
            raise NotReady(f"{self.name} has no update {update}: its last one is {self.last}.")
        line = self._token_line(update)
        if line is None:
            raise NotReady(
                f"{self.name} has no record of the tokens of update {update}. PPO and GRPO keep "
                "one since the token lens is there: updates that are taken now have it."
            )
        try:
            return json.loads(line)
        except ValueError as error:
            raise DamagedStudy(
                f"The record of the tokens of update {update} of {self.name} can't be read "
                f"({error}). Other updates are untouched."
            ) from error

    def _add_tokens(self, row: Row) -> None:
        self._token_lines[row["update"]] = dumps(row)

    def _token_line(self, update: int) -> str | bytes | None:
        return self._token_lines.get(update)

    def _take_back(self, update: int) -> None:
        """Drop what there is of an update that was not added whole."""
        self.history = [row for row in self.history if row["update"] < update]
        self._forget_unfinished()

    def _forget_unfinished(self) -> list[str]:
        """Drop samples and settings of an update that is not in the history. Returns which parts
        had any."""
        dropped = []
        for part in ("samples", "settings"):
            rows = getattr(self, part)
            kept = [row for row in rows if row["update"] <= self.last]
            if len(kept) < len(rows):
                setattr(self, part, kept)
                dropped.append(part)
        return dropped

    def sibling(self, kind: str, settings: Row, update: int) -> History:
        """A new record for a run that branches off after an update."""
        history = History()
        history.config = self._config_of_sibling(settings, update)
        return history

    def _config_of_sibling(self, settings: Row, update: int) -> Row:
        parent = {"run": self.name, "update": update}
        return {**self.config, "settings": settings, "parent": parent, "created": time.time()}

    def start(self, tensors: dict[str, torch.Tensor], state: Row) -> None:
        """Keep the state that a branch starts from."""
        self._start = tensors, state

    def load(self, update: int) -> Checkpoint | None:
        """The newest checkpoint after `update` at most; None: it is the trainer's own start."""
        return self._start


def dumps(value: Row) -> str:
    return json.dumps(value, ensure_ascii=False, default=float)
