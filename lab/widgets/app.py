"""The whole lab on one page: the instruments in tabs, and which step comes next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets as widgets

from ..guide import first_undone, steps
from ..runner import NOW
from .panel import Panel
from .status import StatusLine, words_of

if TYPE_CHECKING:
    from ..experiment import Experiment

PLACES = {"rank": "Rank", "reward": "Reward model", "train": "Align", "compare": "Compare"}
KINDS = {"PPO": "ppo", "GRPO": "grpo", "DPO": "dpo", "reward model by gradient steps": "reward"}


class App(Panel):
    """Ranking board, reward model, training and comparison of one study, each made when its tab is
    first opened."""

    def __init__(self, study: Experiment) -> None:
        self.study = study
        self._lock = threading.RLock()
        self._opened: set[str] = set()
        self.next = StatusLine()
        self.go = widgets.Button(description="Go there", layout={"width": "auto"})
        self.go.on_click(lambda _: self.go_to(self._next_place))
        self.kind = widgets.Dropdown(options=KINDS, description="trainer", layout={"width": "auto"})
        self.kind.observe(lambda _: self._make_again("train"), "value")
        self.places = {place: widgets.VBox() for place in PLACES}
        self.tabs = widgets.Tab(list(self.places.values()), titles=list(PLACES.values()))
        self.tabs.observe(lambda _: self._make(self.place), "selected_index")
        self._next_place = "rank"
        header = widgets.HBox([self.go, self.next], layout={"align_items": "center"})
        super().__init__([header, self.tabs], "app")
        study.on_refit(self.say_next)
        self.say_next()
        self.go_to(self._next_place)

    @property
    def place(self) -> str:
        """The tab that is open."""
        return list(PLACES)[self.tabs.selected_index or 0]

    def go_to(self, place: str) -> None:
        """Open a tab: "rank", "reward", "train" or "compare"."""
        self.tabs.selected_index = list(PLACES).index(place)
        self._make(place)

    def say_next(self) -> None:
        """Write which step comes next, and mark the tabs whose step is done. What fails here is
        said here: it is no trouble of those who said something."""
        with self._lock:
            try:
                self._say_next()
            except Exception as error:
                self.next.say(words_of(error), alert=True)

    def _say_next(self) -> None:
        found = steps(self.study)
        step = first_undone(found)
        done = {s.place: s.done for s in reversed(found)}  # the first of a place counts
        titles = [name + " ✓" * done[place] for place, name in PLACES.items()]
        if self.tabs.titles != tuple(titles):
            self.tabs.titles = titles
        self._next_place = step.place if step else "rank"
        self.go.layout.display = "none" if step is None else ""
        words = f"Next: {step.words}" if step else "The loop is closed. Go round once more."
        self.next.say(words)

    def _make(self, place: str) -> None:
        """The instrument of a tab, made in the background: that may take a model from disk."""
        with self._lock:
            if place in self._opened:
                return
            self._opened.add(place)
            status = StatusLine()
            status.say("Opening…")
            self.places[place].children = [status]

        def make() -> None:
            instrument = self._instrument(place)
            self._watch(instrument)
            above = [self.kind] if place == "train" else []
            self.places[place].children = [*above, instrument]

        def fail(error: BaseException) -> None:
            self._opened.discard(place)  # opening the tab again tries again
            status.say(words_of(error), alert=True)

        self.study.runner.submit(make, NOW, fail)

    def _make_again(self, place: str) -> None:
        self._opened.discard(place)
        self._make(place)

    def _instrument(self, place: str) -> widgets.Widget:
        makers: dict[str, Callable[[], widgets.Widget]] = {
            "rank": self.study.rank,
            "reward": self.study.reward,
            "train": lambda: self.study.train(self.kind.value),
            "compare": self.study.compare,
        }
        return makers[place]()

    def _watch(self, instrument: widgets.Widget) -> None:
        """What an instrument says of itself may mean that the next step is another."""
        if isinstance(instrument.status, StatusLine):
            instrument.status.observe(self._said, "value")  # once, however often it is asked for
        else:
            instrument.observe(self._said, "status")

    def _said(self, _: dict) -> None:
        self.say_next()
