"""A study: one folder, one model, its preferences and its runs."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from . import catalog
from .agreement import Agreement
from .completions import Completions
from .errors import LabError, NotReady
from .files import append_json_line, read_json_lines, runs_root, write_json
from .instruments import Instruments
from .prompts import Prompt, load_prompts, write_prompts
from .ranking import RankingSession
from .reward import RewardModel
from .runner import Runner
from .settings import check_study
from .store import PreferenceStore, keep_aside
from .study_runs import StudyRuns
from .training import policy_of

if TYPE_CHECKING:
    from .compare import Comparison
    from .importing import Preference
    from .policy import Policy, Trainable
    from .raters import Rater, Utility
    from .runs import Run
    from .trainer import Trainer
    from .variants import Variant

VERSION = 1


class Experiment(StudyRuns, Instruments):
    """Opens a study, or starts it. Everything it holds lives in `runs/<name>/`.

    Args:
        name: letters, digits, `-`, `_` and `.`; the folder's name.
        model: a name of the catalog, a hub id, or a folder. A study keeps the model it began with.
        prompts: a file, a list of texts or `Prompt`s, or None for those that the study has or the
            lab ships.
        trainable: how many top layers PPO trains: "auto", a number, or "all".
        root: where studies live; by default what LAB_RUNS names, or the project's `runs/`.

    `rank()`, `reward()`, `ppo()` and `compare()` return instruments to look at and work with. What
    their buttons do are methods of public objects: `session()`, `reward_model`, `trainer()`.
    """

    def __init__(
        self,
        name: str = "first",
        model: str | Path = catalog.DEFAULT,
        *,
        prompts: str | Path | Iterable[str | Prompt] | None = None,
        trainable: Trainable = "auto",
        max_new_tokens: int = 24,
        temperature: float = 1.0,
        seed: int = 0,
        device: str = "auto",
        root: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        if not re.fullmatch(r"[\w-][\w.-]{0,99}", name):
            raise LabError(
                f"A study can't be named {name!r}: use letters, digits, '-', '_' and '.'."
            )
        self.name = name
        self.folder = Path(root or runs_root()) / name
        own = self.folder / "prompts.jsonl"  # so that a copied study asks the same
        self.prompts: list[Prompt] = load_prompts(
            own if prompts is None and own.exists() else prompts
        )
        self.seed, self.device, self.trainable = seed, device, trainable
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        check_study(trainable, max_new_tokens, temperature, seed)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings = self._open_settings(str(model), progress)
        if prompts is not None or not own.exists():
            write_prompts(own, self.prompts)
        self.store = PreferenceStore(self.folder / "preferences.sqlite")
        self.completions = Completions(self)
        self.runner = Runner()
        self.compute = threading.RLock()  # held by whoever runs the model
        self._newest: Trainer | None = None
        self._records: dict[str, tuple[int, Run]] = {}  # those that no trainer has open
        self._trainers: WeakValueDictionary[str, Trainer] = WeakValueDictionary()
        self.policies: OrderedDict[str, Policy] = OrderedDict()  # kept for comparisons
        self._on_refit: list[Callable[[], None]] = []

    def _open_settings(self, model: str, progress: bool) -> dict:
        """Read experiment.json, or write it for a new study."""
        path = self.folder / "experiment.json"
        if path.exists():
            try:
                settings = json.loads(path.read_text(encoding="utf-8"))
                saved, self.seed = str(settings["model"]), int(settings["seed"])
                self.trainable = settings["trainable"]
                self.max_new_tokens = int(settings["max_new_tokens"])
                self.temperature = float(settings["temperature"])
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                raise keep_aside(
                    path,
                    f"({error}) Rankings and runs are untouched: open the study again with "
                    "the model and settings it had, and it goes on.",
                ) from error
            self.model = catalog.fetch(saved, progress=progress)
            if model not in (saved, catalog.DEFAULT, self.model.name):
                raise LabError(
                    f"The study {self.name!r} was made with the model {saved!r}, not {model!r}. "
                    "Completions of two models don't mix: give the new study another name."
                )
            return settings
        self.model = catalog.fetch(model, progress=progress)
        settings = {
            "version": VERSION,
            "name": self.name,
            "model": self.model.name,
            "source": self.model.source,
            "trainable": self.trainable,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "created": time.time(),
        }
        write_json(path, settings)
        return settings

    def __repr__(self) -> str:
        rankings, runs = self.store.rankings(), len(self.runs)
        simulated = " (simulated)" if any(r.simulated for r in rankings) else ""
        return (
            f"Experiment({self.name!r}): {self.model.name} ({self.model.source}), "
            f"{len(rankings)} ranking{'s' * (len(rankings) != 1)}{simulated}, "
            f"{runs} run{'s' * (runs != 1)}, in {self.folder}"
        )

    @property
    def heldout(self) -> list[str]:
        """The prompts that measure and never train, in the order of the file."""
        return [p.text for p in self.prompts if p.split == "heldout"]

    # The model

    @cached_property
    def reference(self) -> Policy:
        """The policy before this study's RL; read from disk at first use."""
        from .policy import Policy

        with self.compute:
            if "reference" in self.__dict__:  # by the thread that was waited for
                return self.__dict__["reference"]
            options = (self.trainable, self.device, self.model.chat_template)
            return self.__dict__.setdefault("reference", Policy.load(self.model.path, *options))

    @property
    def aligned(self) -> Policy:
        """The policy of the newest run. Raises NotReady before the first one."""
        if not self.runs:
            raise NotReady("There is no aligned policy yet: take some PPO steps first.")
        return self.trainer().policy

    def policy_name(self, policy: str) -> str:
        """What the store calls a policy: "reference", or run and update of the aligned one."""
        if policy == "reference":
            return policy
        if policy == "aligned":
            self.aligned  # noqa: B018 - raises where there is none
            return f"{self.trainer().run.name}@{self.trainer().update}"
        raise LabError(f'policy={policy!r}: give "reference" or "aligned".')

    # Preferences and the reward model

    def agreement(self) -> Agreement:
        """Whether the study's raters agree, with each other and with themselves."""
        return Agreement.of(self.store.rankings(repeats=True))

    def session(
        self,
        rater: str = "me",
        policy: str = "reference",
        k: int = 4,
        ask: str = "random",
        repeats: float = 0.0,
        heldout: bool = False,
    ) -> RankingSession:
        """A session of ranking, without the board."""
        return RankingSession(self, rater, policy, k, ask, repeats, heldout)

    @cached_property
    def reward_model(self) -> RewardModel:
        """The reward model, fitted to the rankings so far."""
        with self.compute:
            if "reward_model" in self.__dict__:  # by the thread that was waited for
                return self.__dict__["reward_model"]
            heldout = frozenset(self.heldout)
            model = RewardModel(self.store, self.reference.trunk.extractor, heldout)
            self.completions.read_missing_features()
            model.refit()
            return self.__dict__.setdefault("reward_model", model)

    def refit(self) -> None:
        """Fit the reward model to all rankings, keep its accuracies, and tell who watches."""
        self.reward_model.refit()
        a = self.reward_model.accuracies
        row = {"rankings": a.rankings, "l2": a.l2, "time": time.time()}
        for kind in ("prequential", "cv", "heldout"):
            if (estimate := getattr(a, kind)) is not None:
                row[kind] = [estimate.value, estimate.low, estimate.high, estimate.count]
        append_json_line(self.folder / "reward.jsonl", row)
        for callback in list(self._on_refit):
            try:
                callback()
            except Exception:  # the ranking is kept; what shows it must not stop who gave it
                logging.getLogger(__name__).exception("%r failed after a refit", callback)

    def import_preferences(
        self, source: str | Path | Sequence[Preference], rater: str = "imported"
    ) -> int:
        """Add preferences that others gave; returns how many were new. See `lab.importing`."""
        from .importing import import_preferences

        return import_preferences(self, source, rater)

    def on_refit(self, callback: Callable[[], None]) -> None:
        """Call back after every refit."""
        self._on_refit.append(callback)

    def reward_history(self) -> list[dict]:
        """Accuracies after each number of rankings, newest fit of each."""
        rows = {row["rankings"]: row for row in read_json_lines(self.folder / "reward.jsonl")}
        last = len(self.store.rankings())
        return [rows[n] for n in sorted(rows) if n <= last]

    def policy_of(self, name: str) -> Policy:
        """A frozen policy: "reference", or what a run has come to.

        Raises:
            LabError: there is no such run, or it has no policy.
        """
        return policy_of(self, name)

    def trainer_in_use(self, name: str) -> Trainer | None:
        """The trainer of a run if somebody holds it; it is not opened for this."""
        return self._trainers.get(name)

    def variant(self, name: str, tell: Callable[[str], None] | None = None) -> Variant:
        """Anything that answers prompts, by name: "reference", "ppo-2", "ppo-1@5", "best-of-8",
        "model:NAME"; see `lab.variants`. `tell` gets words on what is loading."""
        from .variants import open_variant

        return open_variant(self, name, tell)

    def side_by_side(
        self,
        prompt: str,
        count: int = 3,
        seed: int = 0,
        *,
        variants: Sequence[str] | None = None,
        temperature: float | None = None,
        max_new_tokens: int | None = None,
    ) -> dict[str, list[dict]]:
        """Answers of some variants to one prompt, with the same random numbers; of reference and
        aligned unless others are named.

        Returns rows with `text`, `finished` and `score`: standard deviations of the reward model
        above the reference's average answer here; None where nothing was ever ranked.

        Raises:
            NotReady: there is no aligned policy yet.
        """
        from .columns import side_by_side

        names = variants or ["reference", self.policy_name("aligned")]
        return side_by_side(self, prompt, names, count, seed, temperature, max_new_tokens)

    def measure(
        self,
        rater: str | Rater | Utility | None = None,
        count: int = 2,
        on_chunk: Callable[[int, int], None] | None = None,
    ) -> Comparison:
        """Reference against aligned on the held-out prompts, `count` answers each.

        The judge is a rater's utility, or (None) the reward model of the newest run: then a high
        win rate says that PPO did what it was told, not that the answers are better.
        """
        from .compare import measure

        return measure(self, rater, count, on_chunk)
