"""The board on which a person ranks completions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anywidget
import traitlets

from ..runner import AHEAD, NOW
from .status import words_of

if TYPE_CHECKING:
    from ..ranking import RankingSession

STATIC = Path(__file__).parent / "static"
QUESTIONS_AHEAD = 4


class RankingBoard(anywidget.AnyWidget):
    """Cards to put in order: by drag, by keys, or by their buttons; ties stand in one tier.

    What the buttons do are methods here, and beneath them methods of the session: `submit`,
    `skip`, `undo`. A ranking is on disk before the next question shows.

    Args:
        session: what to rank, and where it goes.
        rankings: how many the progress bar waits for; one can go on after that.

    Traits:
        question: {"id", "prompt", "completions", "tiers"}; empty while there is none. `tiers` is
            the order to begin with: positions in `completions`, best tier first. What a person
            makes of it stays in the page until it is submitted: the page delays what it
            synchronises while the kernel is busy, and an order that comes late would land on the
            next question.
    """

    _esm = STATIC / "ranking_board.js"
    _css = STATIC / "ranking_board.css"

    question = traitlets.Dict().tag(sync=True)
    status = traitlets.Unicode().tag(sync=True)
    alert = traitlets.Bool(False).tag(sync=True)
    busy = traitlets.Bool(True).tag(sync=True)
    done = traitlets.Int(0).tag(sync=True)
    goal = traitlets.Int(0).tag(sync=True)

    def __init__(self, session: RankingSession, rankings: int = 8) -> None:
        super().__init__()
        self.session, self.goal = session, rankings
        self._lock = threading.RLock()
        self._asked = 0
        self._count()
        self.on_msg(self._on_message)
        self.status = "The model is writing completions…"
        if rater := os.environ.get("LAB_RATER"):
            self._simulate(rater)
        else:
            session.study.runner.submit(self._ask, NOW, self._fail)

    # What a person does

    def submit(self, tiers: list[list[int]]) -> None:
        """Keep a ranking of the question on the board, show the next one, then refit."""
        with self._lock:
            self._answered(lambda: self.session.submit(tiers), "Saved.")

    def skip(self) -> None:
        """Leave this prompt unjudged."""
        with self._lock:
            self._answered(self.session.skip, "Skipped.")

    def undo(self) -> None:
        """Take back the last judgement and show it again, in the order it had."""
        with self._lock:
            ranking = self.session.undo()
            if ranking is None:
                self._say("There is nothing to take back.")
                return
            self._count()
            place = {c: i for i, c in enumerate(ranking.shown)}
            tiers = [[place[c] for c in tier] for tier in ranking.tiers or []]
            self._show("Taken back: rank it again.", tiers)

    # What the board does

    def _answered(self, keep: Callable, words: str) -> None:
        if self.session.current is None:
            return
        keep()
        self._count()
        if self.session.ready()[:1] == self.session.upcoming()[:1]:
            self.session.next()
            self._show(f"{words} {self._progress()}")
        else:
            self.busy = True
            self._say(f"{words} The model is writing completions…")
            self.session.study.runner.submit(self._ask, NOW, self._fail)
        self.session.study.refit()

    def _ask(self) -> None:
        """A job of the background thread: the next question, sampled if need be."""
        self.session.study.reward_model  # noqa: B018 - read the model before anyone waits
        self.session.prepare()  # without the lock: a click that comes meanwhile must not hang
        with self._lock:
            if not self.busy:
                return  # a question came back meanwhile, by undo
            if self.session.current is None:
                self.session.next()
            self._show(self._progress() if self.done else "Put the best one on top.")

    def _show(self, words: str, tiers: list[list[int]] | None = None) -> None:
        question = self.session.current
        if question is None:
            self.question, self.busy = {}, False
            self._say("Every prompt has been judged. Nothing is left to rank.")
            return
        texts = [c.text for c in question.completions]
        self._asked += 1
        self.question = {
            "id": self._asked,
            "prompt": question.prompt,
            "completions": texts,
            "tiers": tiers or [[i] for i in range(len(texts))],
        }
        self.busy = False
        self._say(words)
        self.session.study.runner.submit(self._look_ahead, AHEAD, self._warn)

    def _look_ahead(self, first: int = 0) -> None:
        """A job of the background thread: completions of one question to come; queues the next,
        so that a person who waits never waits for more than one."""
        ready = set(self.session.ready())
        for n, prompt in enumerate(self.session.upcoming()[:QUESTIONS_AHEAD]):
            if n >= first and prompt not in ready:
                self.session.prepare(n + 1)
                job = partial(self._look_ahead, n + 1)
                self.session.study.runner.submit(job, AHEAD, self._warn)
                return

    def _simulate(self, rater: str) -> None:
        self.session.simulate(rater, max(0, self.goal - self.done))
        self._count()
        self.question, self.busy = {}, False
        self._say(f"Ranked by the simulated rater {rater!r}: {self.done} rankings.")

    def _count(self) -> None:
        self.done = sum(r.tiers is not None for r in self.session.done)

    def _progress(self) -> str:
        if self.done < self.goal:
            return f"Ranked {self.done} of {self.goal}."
        return (
            f"Ranked {self.done}: enough to go on to the next cell. More rankings make a better "
            "reward model."
        )

    def _on_message(self, _, content: dict, buffers: list) -> None:
        try:
            with self._lock:
                if self.busy or content.get("question") != self.question.get("id"):
                    return  # a second click on a question that has gone
                action = content.get("action")
                if action == "submit":
                    self.submit(content["tiers"])
                elif action == "skip":
                    self.skip()
                elif action == "undo":
                    self.undo()
        except Exception as error:  # raised here it would be seen by nobody
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self.busy = False
            if self.session.current is None:
                self.question = {}  # what is on screen was answered
            self._warn(error)

    def _warn(self, error: BaseException) -> None:
        self._say(words_of(error), alert=True)

    def _say(self, text: str, alert: bool = False) -> None:
        if text == self.status:
            self.status = ""  # the page hears of changes only, and may have said more since
        self.alert, self.status = alert, text
