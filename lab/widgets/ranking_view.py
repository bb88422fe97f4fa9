"""What the page shows of a ranking board."""

from __future__ import annotations

import anywidget
import traitlets

from ..questions import ASK
from .panel import STATIC
from .scripts import joined
from .status import words_of

SCRIPTS = ["elements.js", *(f"ranking_{part}.js" for part in ("orders", "drag", "parts", "board"))]


class BoardView(anywidget.AnyWidget):
    """The state that a board's page and its kernel share.

    Traits:
        question: {"id", "prompt", "completions", "tiers", "note", "edits"}; empty while there is
            none. `tiers` is the order to begin with: positions in `completions`, best tier first.
            What a person makes of it stays in the page until it is submitted: the page delays
            what it synchronises while the kernel is busy, and an order that comes late would land
            on the next question.
        rater, ask, guidelines: may be set, here or in the page; the study keeps the guidelines.
        guess: how the reward model would have ranked, of the last ranking; never of the question.
        earlier: judgements to go back to, newest first; filled by `list_earlier`.
        summary: what came of it, once there are as many rankings as were wanted.
    """

    _esm = joined(*SCRIPTS)
    _css = STATIC / "ranking_board.css"

    question = traitlets.Dict().tag(sync=True)
    status = traitlets.Unicode().tag(sync=True)
    alert = traitlets.Bool(False).tag(sync=True)
    busy = traitlets.Bool(True).tag(sync=True)
    done = traitlets.Int(0).tag(sync=True)
    goal = traitlets.Int(0).tag(sync=True)
    pace = traitlets.Unicode().tag(sync=True)
    rater = traitlets.Unicode().tag(sync=True)
    ask = traitlets.Enum(ASK, ASK[0]).tag(sync=True)
    asking = traitlets.Unicode().tag(sync=True)
    guidelines = traitlets.Unicode().tag(sync=True)
    guess = traitlets.Dict().tag(sync=True)
    agreement = traitlets.Unicode().tag(sync=True)
    earlier = traitlets.List().tag(sync=True)
    summary = traitlets.List().tag(sync=True)

    def _warn(self, error: BaseException) -> None:
        self._say(words_of(error), alert=True)

    def _say(self, text: str, alert: bool = False) -> None:
        if text == self.status:
            self.status = ""  # the page hears of changes only, and may have said more since
        self.alert, self.status = alert, text
