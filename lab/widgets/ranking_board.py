"""The board on which a person ranks completions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..errors import AlreadyAnswered
from ..raters import get_rater
from ..runner import AHEAD, NOW
from . import ranking_words as words
from .ranking_view import BoardView

if TYPE_CHECKING:
    from ..preferences import Ranking
    from ..ranking import RankingSession

QUESTIONS_AHEAD = 4
EARLIER = 100  # judgements in the list of those to go back to
WRITING = "The model is writing completions…"


class RankingBoard(BoardView):
    """Cards to put in order: by drag, by keys, or by their buttons; ties stand in one tier. Two
    cards stand side by side, and one key answers.

    What the buttons do are methods here, and beneath them methods of the session: `submit`,
    `skip`, `undo`, `edit`. A ranking is on disk before the next question shows.

    Args:
        session: what to rank, and where it goes.
        rankings: how many the progress bar waits for; one can go on after that.
    """

    def __init__(self, session: RankingSession, rankings: int = 8) -> None:
        super().__init__()
        self.session, self.goal = session, rankings
        self._lock = threading.RLock()
        self._asked = 0
        self._open: dict = {}  # the question to come back to after an edit
        self.rater, self.ask = session.rater, session.ask
        self.guidelines = session.study.store.guidelines
        self._count()
        self.observe(self._on_setting, ["rater", "ask", "guidelines"])
        self.on_msg(self._on_message)
        self.status = WRITING
        if rater := os.environ.get("LAB_RATER"):
            self._simulate(rater)
        else:
            session.study.runner.submit(self._ask, NOW, self._fail)

    # What a person does

    def submit(
        self, tiers: list[list[int]], all_bad: bool = False, note: str | None = None
    ) -> None:
        """Keep a ranking of the question on the board, show the next one, then refit."""
        keep = partial(self.session.submit, tiers, all_bad=all_bad, note=note)
        with self._lock:
            self._answer(keep, "Saved.")

    def skip(self, note: str | None = None) -> None:
        """Leave this prompt unjudged."""
        with self._lock:
            self._answer(partial(self.session.skip, note=note), "Skipped.")

    def undo(self) -> None:
        """Take back the last judgement and show it again, in the order it had; in an edit, go back
        to the open question."""
        with self._lock:
            if self._editing:
                self.leave()
                return
            ranking = self.session.undo()
            if ranking is None:
                self._say("There is nothing to take back.")
                return
            self.guess = {}
            self._count()
            self._tell()
            if ranking.edits is None:
                self._show("Taken back: rank it again.", ranking)
            else:
                self._say("The change is taken back: what it replaced stands again.")

    def edit(self, ranking: int) -> None:
        """Put an earlier judgement up again, by its id, to replace it."""
        with self._lock:
            if not self._editing:
                self._open = self.question if self.session.current else {}
            self.session.edit(ranking)
            self.guess = {}
            self._show("An earlier ranking: change it, or go back.", self.session.current.edits)

    def leave(self) -> None:
        """Go back from an edit to the open question."""
        with self._lock:
            self.session.leave()
            self._show_next("Nothing was changed.")

    def list_earlier(self) -> None:
        """Fill `earlier`."""
        with self._lock:
            rows = map(words.earlier_row, reversed(self.session.done[-EARLIER:]))
            self.earlier = list(rows)

    # What the board does

    @property
    def _editing(self) -> bool:
        question = self.session.current
        return question is not None and question.edits is not None

    def _answer(self, keep: Callable[[], Ranking], said: str) -> None:
        question = self.session.current
        if question is None:
            return
        try:
            ranking = keep()
        except AlreadyAnswered as error:  # nothing is lost: it stands as it was given there
            self._count()
            self._show_next(str(error))
            return
        self._count()
        self.guess = {}
        if question.edits is None and ranking.tiers is not None:
            texts = {c.id: c.text for c in question.completions}
            policy = {"policy": question.completions[0].policy}
            seen = self.session.study.reward_model.head is not None
            shown = words.guess_shown(ranking, self.session.guess, texts, seen)
            self.guess = policy | shown
        self._show_next(f"{said} {self._progress()}")
        self.session.study.refit()
        self._tell()

    def _show_next(self, said: str) -> None:
        """The open question after an edit; else the next one, at once if it is there."""
        if self.session.current is not None and self._open:
            self.question, self._open, self.busy = self._open, {}, False
            self._say(said)
        elif not self.session.waits():
            self.session.next()
            self._show(said)
        else:
            self.busy = True
            self._say(f"{said} {WRITING}")
            self.session.study.runner.submit(self._ask, NOW, self._fail)

    def _ask(self) -> None:
        """A job of the background thread: the next question, sampled if need be."""
        session = self.session
        session.study.reward_model  # noqa: B018 - read the model before anyone waits
        with self._lock:
            choice = session.choose()
        if choice is not None:  # without the lock: a click that comes meanwhile must not hang
            session.study.completions.ensure([choice.prompt], session.policy, session.k)
        with self._lock:
            if not self.busy:
                return  # a question came back meanwhile, by undo
            if session.current is None:
                session.next()
            self._show(self._progress() if self.done else "Put the best one on top.")
            self._tell()

    def _show(self, said: str, earlier: Ranking | None = None) -> None:
        question = self.session.current
        self._open = self._open if self._editing else {}
        if question is None:
            self.question, self.busy = {}, False
            self._say("Every prompt has been judged. Nothing is left to rank.")
            return
        self.guidelines = self.session.study.store.guidelines  # another board may have changed them
        place = {c.id: i for i, c in enumerate(question.completions)}
        tiers = [[place[c] for c in tier] for tier in (earlier and earlier.tiers) or []]
        self._asked += 1
        self.question = {
            "id": self._asked,
            "prompt": question.prompt,
            "completions": [c.text for c in question.completions],
            "tiers": tiers or [[i] for i in range(len(place))],
            "ranked": bool(tiers),
            "note": earlier.note if earlier else None,
            "edits": question.edits is not None,
        }
        self.busy = False
        self._say(said)
        self.session.study.runner.submit(self._look_ahead, AHEAD, self._warn)

    def _look_ahead(self, first: int = 0) -> None:
        """A job of the background thread: completions of one question to come; queues the next,
        so that a person who waits never waits for more than one."""
        session = self.session
        ready = set(session.ready())
        for n, prompt in enumerate(session.ahead(QUESTIONS_AHEAD)):
            if n >= first and prompt not in ready:
                session.study.completions.ensure([prompt], session.policy, session.k)
                job = partial(self._look_ahead, n + 1)
                session.study.runner.submit(job, AHEAD, self._warn)
                return

    def _simulate(self, rater: str) -> None:
        self.rater = self.session.rater = get_rater(rater).name
        self._count()
        self.session.simulate(rater, max(0, self.goal - self.done))
        self._count()
        self._tell()
        self.question, self.busy = {}, False
        self._say(f"Ranked by the simulated rater {rater!r}: {self.done} rankings.")

    def _count(self) -> None:
        ranked = [r for r in self.session.done if r.tiers is not None]
        self.done = len(ranked)
        self.asking = words.asking(self.session.ask, ranked, self.session.split == "heldout")
        self.pace = words.pace(self.session.seconds)
        if self.earlier:
            self.list_earlier()

    def _tell(self) -> None:
        """What is known after a refit."""
        accuracies = self.session.study.reward_model.accuracies
        self.agreement = words.agreement_words(accuracies.prequential)
        enough = 0 < self.goal <= self.done
        self.summary = words.summary_lines(self.session.summary()) if enough else []

    def _progress(self) -> str:
        if self.done < self.goal:
            return f"Ranked {self.done} of {self.goal}."
        return (
            f"Ranked {self.done}: enough to go on to the next cell. More rankings make a better "
            "reward model."
        )

    def _on_setting(self, change: dict) -> None:
        study, new = self.session.study, change["new"]
        try:
            with self._lock:
                if change["name"] == "guidelines" and new != study.store.guidelines:
                    study.store.guidelines = new
                    self._say("The guidelines are saved.")
                elif change["name"] == "ask" and new != self.session.ask:
                    self.session.ask = new
                    self._count()
                    self._say("From the next question on.")
                elif change["name"] == "rater" and new != self.session.rater:
                    self._change_rater(new)
        except Exception as error:  # raised here it would be seen by nobody
            self._warn(error)

    def _change_rater(self, name: str) -> None:
        try:
            self.session.rater = name
        finally:
            self.rater = self.session.rater  # as it is kept; or as it was
        self.guess, self._open, self.earlier = {}, {}, []
        self._count()
        self._tell()
        if not self.busy:
            self._show_next(f"{self.rater} ranks. {self._progress()}")

    def _on_message(self, _, content: dict, buffers: list) -> None:
        try:
            with self._lock:
                action, note = content.get("action"), content.get("note")
                if action == "earlier":
                    self.list_earlier()
                elif action == "edit":
                    self.edit(content["ranking"])
                elif self.busy or content.get("question") != self.question.get("id"):
                    return  # a second click on a question that has gone
                elif action == "submit":
                    self.submit(content["tiers"], bool(content.get("all_bad")), note)
                elif action == "skip":
                    self.skip(note)
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
