"""The board of a blind test: two answers without names, and a vote."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import anywidget
import traitlets

from ..blind import READY, BlindTest, Duel
from ..runner import AHEAD, NOW
from ..store import clean
from .scripts import joined
from .status import words_of

if TYPE_CHECKING:
    from ..votes import Vote

CHOSE = {"a": "You chose A", "b": "You chose B", "tie": "A tie", "bad": "Both bad"}


class BlindBoard(anywidget.AnyWidget):
    """Shows duels of a `BlindTest`; a vote is on disk before the names and the next duel show.

    Traits:
        question: {"id", "prompt", "a", "b"}; empty while there is none. It names nobody.

    Args:
        changed: called after each vote, and after each that was taken back.
    """

    _esm = joined("compare_parts.js", "blind_board.js")

    question = traitlets.Dict().tag(sync=True)
    started = traitlets.Bool(False).tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    status = traitlets.Unicode().tag(sync=True)
    alert = traitlets.Bool(False).tag(sync=True)

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.test: BlindTest | None = None
        self._changed = changed
        self._lock = threading.RLock()
        self._asked = 0
        self._news = ""  # on the last vote, to stand before what comes next
        self.on_msg(self._on_message)

    def start(self, test: BlindTest) -> None:
        """Begin with a blind test; another one takes its place."""
        with self._lock:
            self.test, self.started, self._news = test, True, ""
            self._show()

    # What a person does

    def vote(self, winner: str) -> None:
        """Keep a vote, say who it was for, and show the next duel."""
        with self._lock:
            kept = self.test.vote(winner)
            self._news = revealed(kept)
            self.test.next()
            self._show()
        self._changed()

    def undo(self) -> None:
        """Take back the last vote and show its duel again."""
        with self._lock:
            if self.test.undo() is None:
                self._say("There is nothing to take back.")
                return
            self._news = "Taken back: vote again."
            self._show()
        self._changed()

    # What the board does

    def _show(self) -> None:
        duel = self.test.current or self.test.next()
        self.busy = duel is None
        self.question = {} if duel is None else self._question(duel)
        if duel is None:
            self._say(f"{self._news} Two models are writing…".strip())
            self._submit(self._serve, NOW)
        else:
            same = "Both answers are the same." if duel.texts[0] == duel.texts[1] else ""
            self._say(" ".join(w for w in (self._news, same) if w) or "Which answer is better?")
            self._submit(self._look_ahead, AHEAD)

    def _question(self, duel: Duel) -> dict:
        self._asked += 1
        texts = {
            side: clean(text) + ("" if finished else " …")
            for side, text, finished in zip(
                "ab", duel.texts, duel.sampling.get("finished", (True, True)), strict=True
            )
        }
        return {"id": self._asked, "prompt": clean(duel.prompt), **texts}

    def _submit(self, job: Callable[[BlindTest], None], priority: int) -> None:
        test = self.test
        test.study.runner.submit(lambda: job(test), priority, self._fail)

    def _serve(self, test: BlindTest) -> None:
        """A job of the background thread: a duel for somebody who waits."""
        if test.ready == 0:
            test.prepare()  # without the lock: a click that comes meanwhile must not hang
        with self._lock:
            if test is self.test and self.busy:
                self._show()

    def _look_ahead(self, test: BlindTest) -> None:
        """A job of the background thread: one duel to come; queues the next."""
        if test is self.test and test.ready < READY:
            test.prepare()
            self._submit(self._look_ahead, AHEAD)

    def _on_message(self, _, content: dict, buffers: list) -> None:
        try:
            with self._lock:
                if self.test is None or self.busy:
                    return
                if content.get("question") != self.question.get("id"):
                    return  # a second click on a question that has gone
                if content.get("action") == "undo":
                    self.undo()
                elif content.get("action") == "vote":
                    self.vote(content.get("winner"))
        except Exception as error:  # raised here it would be seen by nobody
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self.busy = False
            self._say(words_of(error), alert=True)

    def _say(self, text: str, alert: bool = False) -> None:
        self.alert, self.status = alert, clean(text)


def revealed(vote: Vote) -> str:
    """A vote in words, with the names."""
    a, b = vote.variants
    return f"{CHOSE[vote.winner]}: A was {a}, B was {b}."
