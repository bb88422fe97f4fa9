"""Variants on many prompts: a judge, a progress bar, a table."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import ipywidgets as widgets

from ..bulk import Bulk, BulkRow
from ..raters import READY
from ..runner import NOW, TRAINING
from .status import StatusLine, words_of
from .vote_table import interval, plural

if TYPE_CHECKING:
    from ..experiment import Experiment

REWARD_MODEL = "the reward model"
HEADINGS = (
    "variant",
    "mean score",
    "gain over the reference [95 %]",
    "win rate [95 %]",
    "KL, nats",
    "distinct-2",
    "tokens",
    "ended by itself",
)


class BulkPanel(widgets.VBox):
    """Runs a `Bulk` in short jobs of the background thread.

    Args:
        names: gives the variants that are chosen.
    """

    def __init__(self, study: Experiment, names: Callable[[], Sequence[str]]) -> None:
        self.study, self._names = study, names
        self._stop = threading.Event()
        self.judge = widgets.Dropdown(options=[REWARD_MODEL, *READY], description="judge")
        self.count = widgets.BoundedIntText(2, 1, 64, description="answers")
        self.count.layout.width = "160px"
        self.prompts = widgets.Textarea(
            placeholder="own prompts, one a line; empty: all held-out prompts",
            description="prompts",
            layout={"width": "70%"},
        )
        self.button = widgets.Button(
            description="Measure on all held-out prompts", layout={"width": "auto"}
        )
        self.button.on_click(lambda _: self.measure())
        self.cancel_button = widgets.Button(description="Cancel", disabled=True)
        self.cancel_button.on_click(lambda _: self._stop.set())
        self.prompts.observe(lambda _: self._name_button(), "value")
        self.progress = widgets.IntProgress(0, 0, 1, layout={"visibility": "hidden"})
        self.status = StatusLine()
        self.figures = widgets.HTML()
        row = {"flex_flow": "row wrap"}
        super().__init__(
            [
                widgets.HBox([self.judge, self.count], layout=row),
                self.prompts,
                widgets.HBox([self.button, self.cancel_button, self.progress], layout=row),
                self.status,
                self.figures,
            ]
        )

    def _name_button(self) -> None:
        own = self._own_prompts()
        where = f"on {plural(len(own), 'prompt')} of mine" if own else "on all held-out prompts"
        self.button.description = f"Measure {where}"

    def _own_prompts(self) -> list[str]:
        return [line.strip() for line in self.prompts.value.splitlines() if line.strip()]

    def measure(self) -> None:
        """Let all chosen variants answer all prompts, in the background."""
        rater = None if self.judge.value == REWARD_MODEL else self.judge.value
        try:
            own = self._own_prompts()
            bulk = Bulk(self.study, self._names(), rater, own or None, self.count.value)
        except Exception as error:
            self._fail(error)
            return
        self._stop.clear()
        self.button.disabled, self.cancel_button.disabled = True, False
        self.progress.max, self.progress.value = bulk.total, 0
        self.progress.layout.visibility = "visible"
        self.status.say(f"{plural(bulk.total, 'answer')} to write…")
        work = bulk.work(self.status.say)
        self.study.runner.submit(lambda: self._work(bulk, work), NOW, self._fail)

    def _work(self, bulk: Bulk, work: Iterator[int]) -> None:
        """A job of the background thread: one chunk of answers; queues the next."""
        done = None if self._stop.is_set() else next(work, None)
        if done is not None:
            self.progress.value = done
            self.status.say(f"{done:,} of {plural(bulk.total, 'answer')}…")
            self.study.runner.submit(lambda: self._work(bulk, work), TRAINING, self._fail)
            return
        self._rest()
        self.figures.value = bulk_html(bulk)
        left_out = len(bulk.names) - len(bulk.found)
        cancelled = f"Cancelled: {plural(left_out, 'variant')} left out." if left_out else ""
        self.status.say(cancelled or f"{plural(bulk.total, 'answer')} judged.")

    def _rest(self) -> None:
        self.button.disabled, self.cancel_button.disabled = False, True
        self.progress.layout.visibility = "hidden"

    def _fail(self, error: BaseException) -> None:
        self._rest()
        self.status.say(words_of(error), alert=True)


def bulk_html(bulk: Bulk) -> str:
    """The table of a comparison in bulk; names are escaped."""
    if not (rows := bulk.rows()):
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in HEADINGS)
    body = "".join(row_html(row) for row in rows)
    caption = f"{plural(len(bulk.prompts), 'prompt')}, {plural(bulk.count, 'answer')} to each"
    caption += f", judged by {html.escape(bulk.judge_name)}"
    note = "Gain and win rate compare answers with the same random numbers; ties count half; "
    note += "intervals are clustered by prompt. "
    if bulk.rater is None:
        note += "Scores are in the reward model's standard deviations; where their zero lies means "
        note += "little on prompts that nobody ranked: read the gain. "
    if bulk.made_to_please:
        note += (
            "<strong>These variants were made to please this judge</strong> (PPO and GRPO train on "
            "the reward model, best-of-n picks by it): a high win rate says that this worked, not "
            "that the answers are better. Blind votes say that."
        )
    return (
        f'<div class="lab-wide"><table class="lab-table"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div><p>{note}</p>"
    )


def row_html(row: BulkRow) -> str:
    kl = "–" if row.kl is None else f"{'≤ ' * row.kl_is_bound}{row.kl + 0.0:.1f}"
    cells = [f"{row.score:+.2f}", interval(row.gain, "+.2f"), interval(row.win_rate)]
    cells += [kl, f"{row.distinct2:.2f}", f"{row.tokens:.0f}", f"{row.finished:.0%}"]
    numbers = "".join(f'<td class="lab-number">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row">{html.escape(row.name)}</th>{numbers}</tr>'
