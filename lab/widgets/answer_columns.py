"""Answers of several variants in columns, as they are written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anywidget
import traitlets

from ..columns import Cell, Column, Columns
from ..errors import LabError
from ..store import clean
from .scripts import joined

if TYPE_CHECKING:
    from ..runner import Runner

EVERY = 0.08  # seconds between two looks at a text that is being written


class Stopped(LabError):
    """A person asked to stop."""


class AnswerColumns(anywidget.AnyWidget):
    """Shows `lab.columns.Columns` while they are filled, one job of the background thread each.

    Traits:
        columns: {"title", "note", "answers": [{"text", "same", "under", "writing"}]} a column.
    """

    _esm = joined("compare_parts.js", "answer_columns.js")

    prompt = traitlets.Unicode().tag(sync=True)
    columns = traitlets.List().tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self._stop = threading.Event()

    def stop(self) -> None:
        """End the loading or writing after the next update or token."""
        self._stop.set()

    def show(
        self,
        work: Columns,
        runner: Runner,
        say: Callable[[str], None],
        done: Callable[[], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """Fill the columns in the background. `say` gets words on the way, then `done` or `fail`
        is called."""
        from ..runner import NOW

        self._stop.clear()
        self.prompt = clean(work.prompt)
        self.columns = [shown(column, note="waits for its turn") for column in work.columns]

        def fill(place: int) -> None:
            self._check()
            self._fill(work, place, say)
            following = fill if place + 1 < len(work.columns) else judge
            runner.submit(lambda: following(place + 1), NOW, fail)

        def judge(_: int) -> None:
            work.judge()
            self.columns = [shown(column) for column in work.columns]
            done()

        runner.submit(lambda: fill(0), NOW, fail)

    def _fill(self, work: Columns, place: int, say: Callable[[str], None]) -> None:
        """A job of the background thread: one column."""

        def tell(words: str) -> None:
            self._check()
            say(words)

        say(f"Loading {work.columns[place].name}…")
        work.open(place, tell)
        column = work.columns[place]
        say(f"{column.title} is writing…")
        self._put(place, shown(column, note="is writing…"))
        last = 0.0

        def look(texts: Sequence[str]) -> None:
            nonlocal last
            self._check()
            if time.monotonic() - last >= EVERY:
                last = time.monotonic()
                self._put(place, half_written(column, texts))

        work.fill(place, on_text=look)
        self._put(place, shown(column))

    def _put(self, place: int, column: dict) -> None:
        self.columns = [*self.columns[:place], column, *self.columns[place + 1 :]]

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped("Stopped.")


def half_written(column: Column, texts: Sequence[str]) -> dict:
    """A column for the page, while it is written."""
    rows = [{"text": clean(t), "same": None, "under": "…", "writing": True} for t in texts]
    return {"title": clean(column.title), "note": "is writing…", "answers": rows}


def shown(column: Column, note: str = "") -> dict:
    """A column for the page."""
    rows = [
        {"text": clean(cell.text), "same": cell.same, "under": under(cell), "writing": False}
        for cell in column.answers
    ]
    return {"title": clean(column.title), "note": note, "answers": rows}


def under(cell: Cell) -> str:
    """What stands under an answer: its score, and what its text does not show."""
    words = [] if cell.score is None else [f"score {cell.score:+.2f}"]
    words += ["the same as in the first column"] if cell.identical else []
    words += [] if cell.text else ["an empty answer"]
    words += [] if cell.finished else ["cut off at the most tokens"]
    return " · ".join(words)
