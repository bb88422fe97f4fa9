"""The token lens: what an update did to every single token of its samples."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import anywidget
import traitlets

from .. import lens
from ..errors import LabError
from ..runner import NOW
from .panel import STATIC
from .scripts import joined
from .status import words_of

if TYPE_CHECKING:
    from ..rollout import RolloutTrainer
    from ..runner import Runner

PARTS = ("words", "reading", "row", "numbers", "lens")
SCRIPTS = ["elements.js", *(f"token_{part}.js" for part in PARTS)]


class TokenLens(anywidget.AnyWidget):
    """The kept samples of an update of PPO or GRPO, each token shaded by a number of its own.

    `TokenLens(study.runner).show(study.open_run("ppo-1"), 3)`. The numbers are those of
    `lab.lens.table`; the likeliest alternatives come from the background thread when a token is
    pointed at, under the policy as it stands then.

    Args:
        runner: the background thread of the study.

    Traits:
        record: what is shown: `run.tokens(update)` with the samples' prompts and scores; empty
            while there is none.
        likely: what `lab.lens.now` found for the sample that is shown; empty until asked for.
        row, measure, stage, token: what a person chose: the sample; what shades its tokens; the
            moment (0 before training, then the epochs, then the policy of now); the token.
    """

    _esm = joined(*SCRIPTS)
    _css = STATIC / "token_lens.css"

    record = traitlets.Dict().tag(sync=True)
    likely = traitlets.Dict().tag(sync=True)
    status = traitlets.Unicode("No update is shown yet.").tag(sync=True)
    alert = traitlets.Bool(False).tag(sync=True)
    row = traitlets.Int(0).tag(sync=True)
    measure = traitlets.Unicode("kl").tag(sync=True)
    stage = traitlets.Int(0).tag(sync=True)
    token = traitlets.Int(0).tag(sync=True)

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self._runner = runner
        self._trainer: RolloutTrainer | None = None
        self._lock = threading.RLock()
        self.on_msg(self._on_message)

    def show(self, trainer: RolloutTrainer, update: int) -> None:
        """Show the samples of a recorded update; returns at once, safe on any thread."""
        with self._lock:
            self._trainer, run = trainer, trainer.run
            name = f"update {update} of {run.name}"
            try:
                tokens = run.tokens(update)
                samples = [lens.sample_of(run, update, row) for row in range(len(tokens["rows"]))]
            except LabError as error:
                self.record = {"update": update, "first": run.first + 1, "last": run.last}
                self._say(words_of(error))
                return
            same = self.record.get("update") == update and self.record.get("run") == run.name
            self.likely = {}
            self.record = {
                **tokens,
                "run": run.name,
                "first": run.first + 1,
                "last": run.last,
                "scales": lens.scales(tokens),
                "samples": [{name: s[name] for name in ("prompt", "score")} for s in samples],
            }
            if not same:
                self.token, self.stage = 0, len(tokens["clipfrac"])
            self.row = min(self.row, len(samples) - 1)
            self._say(f"This is {name}: {len(samples)} of its samples were kept.")

    def clear(self) -> None:
        """Show nothing, and let go of the trainer and its memory."""
        with self._lock:
            self._trainer, self.record, self.likely = None, {}, {}
            self._say("No update is shown yet.")

    def ask(self, row: int) -> None:
        """Find the likeliest alternatives to the tokens of a sample, in the background."""
        with self._lock:
            if self._trainer is None or not self.record.get("rows"):
                return
            job = partial(self._find, self._trainer, self.record["update"], row)
        self._runner.submit(job, NOW, self._fail)

    def _find(self, trainer: RolloutTrainer, update: int, row: int) -> None:
        """A job of the background thread."""
        if self._shows(trainer, update):
            found = lens.now(trainer, update, row)
            with self._lock:
                if self._shows(trainer, update):
                    self.likely = found

    def _shows(self, trainer: RolloutTrainer, update: int) -> bool:
        return trainer is self._trainer and self.record.get("update") == update

    def _on_message(self, _, content: dict, buffers: list) -> None:
        try:
            if content.get("action") == "likely":
                self.ask(int(content["row"]))
            elif content.get("action") == "show" and self._trainer is not None:
                self.show(self._trainer, int(content["update"]))
        except Exception as error:  # raised here it would be seen by nobody
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._say(words_of(error), alert=True)

    def _say(self, text: str, alert: bool = False) -> None:
        self.alert, self.status = alert, text
