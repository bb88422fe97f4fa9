"""The reward model's learning, to be seen: redrawn at each refit."""

from __future__ import annotations

import html
import threading
from typing import TYPE_CHECKING

import ipywidgets as widgets

from ..calibration import FEWEST, Predictions
from ..insight import accuracy_by_kind, loves_and_hates, pairs_in_bin, surest_bin
from ..surprises import surprises
from .panel import Panel
from .reward_figure import KINDS, RewardFigure
from .reward_tables import (
    extremes_tables,
    kinds_table,
    pairs_table,
    ranking_table,
    surprises_table,
)
from .status import StatusLine, words_of

if TYPE_CHECKING:
    from ..experiment import Experiment
    from ..surprises import Surprise

SHOWN = 5  # surprises, and pairs of a bar
NO_RANKING = "No ranking yet: the reward model starts with the first one."
NOTES = (
    "Click a point for its ranking, a bar for its pairs, or give a ranking's number below; the "
    "board's list of earlier rankings is where to change one. How sure it says it is depends on a "
    "temperature fitted to these same predictions. To see a reward model learn by gradient steps, "
    'with held-out accuracy after each: study.train("reward").'
)
HOW_TO_HOLD_OUT = (
    "No held-out accuracy yet: it is measured on rankings of held-out prompts, which never train. "
    "study.rank(heldout=True) asks them. "
)


class RewardPanel(Panel):
    """Accuracy over the number of rankings, margins, calibration; what the model loves and hates;
    where the rater surprised it."""

    def __init__(self, study: Experiment) -> None:
        self.study = study
        self._lock = threading.RLock()
        self._ids: list[int] = []  # of the rankings that stand: number n is _ids[n - 1]
        self._surprising: list[int] = []  # ids of rankings, one a button
        self.status = StatusLine()
        self.plots = RewardFigure(self.show_ranking, self.show_pairs)
        self.figure = self.plots.widget
        self.number = widgets.BoundedIntText(1, 1, 1, description="ranking")
        self.number.layout.width = "170px"
        self.show_button = widgets.Button(description="Show", disabled=True)
        self.detail, self.surprises, self.extremes, self.kinds = (widgets.HTML() for _ in range(4))
        self.notes = widgets.HTML()
        self.again = [widgets.Button(layout={"display": "none"}) for _ in range(SHOWN)]
        self.number.observe(lambda change: self._show(change["new"]), "value")
        self.show_button.on_click(lambda _: self._show(self.number.value))
        for i, button in enumerate(self.again):
            button.on_click(lambda _, i=i: self._look_again(i))
        row = {"layout": {"flex_flow": "row wrap"}}
        super().__init__(
            [
                self.status,
                self.figure,
                self.notes,
                widgets.HBox([self.number, self.show_button], **row),
                self.detail,
                self.surprises,
                widgets.HBox(self.again, **row),
                self.extremes,
                self.kinds,
            ],
            "reward panel",
        )
        study.on_refit(self.draw)
        self._begin()

    def _begin(self) -> None:
        """Show what is there; if the model must be read from disk first, in the background."""
        if "reward_model" in vars(self.study):
            self.draw()
            return
        history = self.study.reward_history()
        self.plots.draw(history, Predictions(), None)
        if not history:
            self.status.say(NO_RANKING)
            return
        self.status.say("Reading what was ranked so far…")
        self.study.runner.submit(self.draw)

    def draw(self) -> None:
        """Show the reward model as it is now. A failure is said here, and never fails a refit."""
        if self.comm is None:  # closed
            return
        try:
            self.study.reward_model  # noqa: B018 - before the lock: to read it takes another
            with self._lock:
                self._draw()
        except Exception as error:
            self.status.say(words_of(error), alert=True)

    def _draw(self) -> None:
        study, model = self.study, self.study.reward_model
        history, predictions = study.reward_history(), model.predictions
        temperature = model.head.temperature if model.head else None
        self._ids = [r.id for r in study.store.rankings()]
        self.plots.draw(history, predictions, temperature)
        self.status.say(f"{headline(history)} {calibration_words(predictions, temperature)}")
        measured = bool(history) and "heldout" in history[-1]
        self.notes.value = html.escape(NOTES if measured else HOW_TO_HOLD_OUT + NOTES)
        self.number.max = max(1, len(self._ids))
        self.show_button.disabled = not self._ids
        surest: dict[int, Surprise] = {}  # pair of each ranking
        for surprise in surprises(study, most=20 * SHOWN):
            surest.setdefault(surprise.ranking, surprise)
        shown = list(surest.values())[:SHOWN]
        self.surprises.value = surprises_table(shown, self._numbers())
        self._offer([s.ranking for s in shown])
        self.extremes.value = extremes_tables(*loves_and_hates(study))
        self.kinds.value = kinds_table(accuracy_by_kind(study))

    def _numbers(self) -> dict[int, int]:
        return {id: n for n, id in enumerate(self._ids, 1)}

    def _offer(self, ids: list[int]) -> None:
        """A button for each surprising ranking."""
        self._surprising, number = ids, self._numbers()
        for i, button in enumerate(self.again):
            button.layout.display = None if i < len(ids) else "none"
            button.description = f"Look at ranking {number[ids[i]]}" if i < len(ids) else ""

    def _look_again(self, i: int) -> None:
        number = self._numbers()
        if i < len(self._surprising) and self._surprising[i] in number:
            self.show_ranking(number[self._surprising[i]])

    def show_ranking(self, number: int) -> None:
        """Show the completions of the ranking of that number, counted from 1: the rater's order
        beside the one that was predicted."""
        if 1 <= number <= len(self._ids) and number != self.number.value:
            self.number.value = number  # which shows it
        else:
            self._show(number)

    def _show(self, number: int) -> None:
        if 1 <= number <= len(self._ids):
            ranking = self.study.store.ranking(self._ids[number - 1])
            self.detail.value = ranking_table(number, ranking, self.study.store)
        else:
            self.detail.value = f"<p role='status'>There is no ranking {number}.</p>"

    def show_pairs(self, place: int, right: bool) -> None:
        """Show the newest pairs of one bar of the margins."""
        pairs = pairs_in_bin(self.study.reward_model.predictions, place, right)
        how = "ordered rightly" if right else "the wrong way round"
        caption = f"{len(pairs)} pairs {how}, the newest {min(SHOWN, len(pairs))}"
        found = pairs_table(caption, pairs[:SHOWN], self._numbers(), self.study.store)
        self.detail.value = found or "<p role='status'>No pairs there.</p>"


def headline(history: list[dict]) -> str:
    """The accuracies in words, the honest one first."""
    if not history or not history[-1]["rankings"]:
        return NO_RANKING
    row = history[-1]
    text = f"{row['rankings']} ranking{'s' * (row['rankings'] != 1)}."
    if "prequential" in row:
        value, low, high, count = row["prequential"]
        text += (
            f" It was right on {percent(value, low, high)} of {count} pairs, each predicted before "
            "it was ranked, of prompts that came at random."
        )
    else:
        text += " From the second ranking on, it predicts each one before it sees it."
    for kind in ("cv", "heldout"):
        if kind in row:
            value, low, high, count = row[kind]
            name = KINDS[kind][0].capitalize()
            text += f" {name}: {percent(value, low, high)} of {count} pairs."
    return text


def calibration_words(predictions: Predictions, temperature: float | None) -> str:
    """Whether its probabilities are to be believed, in words."""
    if not predictions.margins:
        return ""
    if temperature is None:
        few = f"that takes {FEWEST} predicted pairs, there are {len(predictions.margins)}"
        return f"How sure it may be is not known yet: {few}."
    bins = predictions.reliability(temperature)
    error = predictions.calibration_error(temperature)
    if (b := surest_bin(bins)) is None:
        return "How sure it may be: too few pairs in each bin to say."
    seen = b.observed
    return (
        f"When it says {100 * b.predicted:.0f} %, it is right "
        f"{percent(seen.value, seen.low, seen.high)} of the time ({seen.count} pairs); on average "
        f"it is {100 * error:.0f} points off."
    )


def percent(value: float, low: float, high: float) -> str:
    """A share with its 95 % interval."""
    return f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
