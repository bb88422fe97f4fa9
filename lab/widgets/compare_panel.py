"""Base against aligned: side by side, in blind votes, in bulk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as widgets

from ..blind import BlindTest
from ..columns import Columns
from ..ranking import last_rater
from ..variants import default_names, names
from ..votes import Votes
from .answer_columns import AnswerColumns, Stopped
from .blind_board import BlindBoard
from .bulk_panel import BulkPanel
from .panel import Panel
from .status import StatusLine, words_of
from .vote_table import votes_html

if TYPE_CHECKING:
    from ..experiment import Experiment

COLUMNS = 4
ROW = {"flex_flow": "row wrap"}


class ComparePanel(Panel):
    """Choose two to four variants; then let them answer a prompt, vote on them without seeing
    their names, or measure them on many prompts.

    What the buttons do, `lab.columns`, `lab.blind` and `lab.bulk` do for a notebook as well.
    """

    def __init__(self, study: Experiment) -> None:
        self.study = study
        self.variants = [
            widgets.Combobox(
                ensure_option=False,
                description=f"variant {n + 1}",
                placeholder="none",
                layout={"width": "46%", "min_width": "260px"},
            )
            for n in range(COLUMNS)
        ]
        self._defaults: list[str] = []
        self._make_controls()
        self.status = StatusLine()
        self.answers = AnswerColumns()
        self.board = BlindBoard(self._count_votes)
        self.blind_status = StatusLine()
        self.blind_button = widgets.Button(description="Start blind votes")
        self.blind_button.on_click(lambda _: self.start_blind())
        self.results = widgets.HTML()
        self.bulk = BulkPanel(study, self.names)
        super().__init__(
            [
                widgets.HBox(self.variants, layout=ROW),
                widgets.HTML("<h3>Side by side</h3>"),
                widgets.HBox([self.prompt, self.button, self.stop_button], layout=ROW),
                widgets.HBox([self.seed, self.temperature, self.tokens, self.count], layout=ROW),
                self.status,
                self.answers,
                widgets.HTML("<h3>Blind votes</h3>"),
                widgets.HBox([self.blind_button, self.blind_status], layout=ROW),
                self.board,
                self.results,
                widgets.HTML("<h3>In bulk</h3>"),
                self.bulk,
            ],
            "compare panel",
        )
        self._offer()
        self._count_votes()
        self.status.say(self._welcome())
        self.blind_status.say("Two of the variants answer a held-out prompt, without their names.")

    def _make_controls(self) -> None:
        study, held_out = self.study, self.study.heldout
        self.prompt = widgets.Combobox(
            value=held_out[0] if held_out else "",
            options=held_out,
            ensure_option=False,
            placeholder="pick or type a prompt",
            description="prompt",
            layout={"width": "60%"},
        )
        self.seed = widgets.BoundedIntText(0, 0, 2**31 - 1, description="seed")
        self.temperature = widgets.BoundedFloatText(
            study.temperature, min=0, max=5, step=0.1, description="temperature"
        )
        self.tokens = widgets.BoundedIntText(
            study.max_new_tokens, 1, 4096, description="max tokens"
        )
        self.count = widgets.BoundedIntText(3, 1, 16, description="answers")
        for widget in (self.seed, self.temperature, self.tokens, self.count):
            widget.layout.width, widget.style.description_width = "190px", "90px"
        self.button = widgets.Button(description="Compare", button_style="primary")
        self.button.on_click(lambda _: self.compare())
        self.stop_button = widgets.Button(description="Stop", disabled=True)
        self.stop_button.on_click(lambda _: self.answers.stop())

    def names(self) -> list[str]:
        """The chosen variants; the reference and the newest run while nobody chose."""
        self._offer()
        return self._chosen()

    def _chosen(self) -> list[str]:
        return [box.value.strip() for box in self.variants if box.value.strip()]

    def _offer(self) -> None:
        """Offer what there is by now."""
        offered = names(self.study)
        defaults = default_names(self.study)
        if self._chosen() == self._defaults != defaults:  # nobody chose, and there is a new run
            for box, name in zip(self.variants, [*defaults, "", ""], strict=False):
                box.value = name
            self._defaults = defaults
        for box in self.variants:
            box.options = offered

    def _welcome(self) -> str:
        if self.study.runs:
            return "The prompts in the list are held out: neither rankings nor training saw them."
        return (
            "There is no aligned policy yet, so the reference stands alone: take some PPO steps "
            "(study.ppo()), or choose a second variant, such as best-of-8 after some rankings."
        )

    # Side by side

    def compare(self) -> None:
        """Let the chosen variants answer the prompt, in the background."""
        prompt = self.prompt.value.strip()
        if not prompt:
            self.status.say("Type a prompt first.", alert=True)
            return
        how = (self.count.value, self.seed.value, self.temperature.value, self.tokens.value)
        try:
            work = Columns(self.study, prompt, self.names(), *how)
        except Exception as error:
            self._fail(error)
            return
        self.button.disabled, self.stop_button.disabled = True, False
        self.answers.show(
            work, self.study.runner, self.status.say, lambda: self._done(work), self._fail
        )

    def _done(self, work: Columns) -> None:
        self._rest()
        words = ["Same prompt, same random numbers."]
        if len(work.columns) > 1:
            words.append("▸ marks where an answer parts from the first column's.")
        if work.baseline:
            words.append(f"Scores are standard deviations above {work.baseline}.")
        else:
            words.append("Scores come with a reward model: rank some completions first.")
        if not self.study.runs:
            words.append(self._welcome())
        self.status.say(" ".join(words))

    def _fail(self, error: BaseException) -> None:
        self._rest()
        self.status.say(words_of(error), alert=not isinstance(error, Stopped))

    def _rest(self) -> None:
        self.button.disabled, self.stop_button.disabled = False, True

    # Blind votes

    def start_blind(self) -> None:
        """Begin blind votes between the chosen variants."""
        how = {"temperature": self.temperature.value, "max_new_tokens": self.tokens.value}
        how["rater"] = last_rater(self.study.store)
        chosen = self.names()
        try:
            test = BlindTest(self.study, None if chosen == self._defaults else chosen, **how)
        except Exception as error:
            self.blind_status.say(words_of(error), alert=True)
            return
        self.blind_button.description = "Start anew with the variants above"
        self.blind_button.layout.width = "auto"
        self.blind_status.say(f"{len(test.names)} variants take part. A vote reveals their names.")
        self.board.start(test)

    def _count_votes(self) -> None:
        self.results.value = votes_html(Votes(self.study.store).all())

    # In bulk

    def measure(self) -> None:
        """The chosen variants on all held-out prompts, in the background."""
        self.bulk.measure()
