"""The training runs of a study: opened, branched, and read without being opened."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import LabError, NotReady
from .settings import Settings
from .training import KINDS, PLACES, WITH_POLICY, make_run, open_trainer, settings_for

if TYPE_CHECKING:
    from .experiment import Experiment
    from .runs import Row, Run
    from .trainer import Trainer


class StudyRuns:
    """Part of `Experiment`."""

    @property
    def runs(self: Experiment) -> list[str]:
        """Names of the training runs that end in a policy, oldest first."""
        return [name for name in self.all_runs if name.rpartition("-")[0] in WITH_POLICY]

    @property
    def all_runs(self: Experiment) -> list[str]:
        """Names of all training runs, those of the reward model by gradient steps as well."""
        from .runs import run_folders

        return [folder.name for folder in run_folders(self.folder)]

    def trainer(
        self: Experiment,
        kind: str | None = None,
        *,
        new: bool = False,
        on_chunk: Callable[[int], None] | None = None,
        **options: Any,
    ) -> Trainer:
        """The newest run, continued; or a new one with its own settings, pinned to the preferences
        as they are now.

        Args:
            kind: "ppo", "grpo", "dpo", "sft" or "reward"; None for the newest run of any kind that
                ends in a policy, and PPO for a new one.
            new: start a run even where there is one; settings start one by themselves.
            on_chunk: gets how many of the missing completions of `completions.pool()` are there.
            options: settings of the kind (see PPOSettings and its like), and `start`,
                `demonstrations` and `corpus` of `training.make_run`.

        Raises:
            NotReady: what the kind learns from is not there yet.
        """
        goes_on = not new and not options
        if goes_on and (name := self._newest_run(kind)):
            return self.open_run(name)
        with self.compute:
            if goes_on and (name := self._newest_run(kind)):  # of the thread that was waited for
                return self.open_run(name)
            places = {k: options.pop(k) for k in PLACES if k in options}
            run = make_run(self, kind or "ppo", options, on_chunk=on_chunk, **places)
            try:
                trainer = open_trainer(self, run)
            except BaseException:
                shutil.rmtree(run.folder)  # or a run that can't be opened would be the newest
                raise
            self._trainers[run.name] = self._newest = trainer
        return trainer

    def _newest_run(self: Experiment, kind: str | None) -> str | None:
        runs = self.runs if kind is None else [r for r in self.all_runs if r.startswith(f"{kind}-")]
        return runs[-1] if runs else None

    def open_run(self: Experiment, name: str) -> Trainer:
        """The trainer of a run, where it stands; one and the same for all who ask.

        Raises:
            LabError: there is no such run.
        """
        from .runs import Run

        trainer = self._trainers.get(name)
        if trainer is not None:
            return trainer
        self._must_exist(name)
        with self.compute:
            if (trainer := self._trainers.get(name)) is not None:  # of the thread waited for
                return trainer
            self._newest = None  # its memory is needed, unless somebody holds it
            trainer = open_trainer(self, Run(self.folder / name))
            self._trainers[name] = self._newest = trainer
        return trainer

    def branch(self: Experiment, update: int, run: str | None = None, **changes: Any) -> Trainer:
        """A sibling of a run (None: the newest) that starts after one of its updates, with other
        settings; from now on it is the newest run.

        Raises:
            LabError: the update was never taken, or there is no such run.
            BadSetting: a setting is unknown or out of range.
        """
        with self.compute:
            parent = self.trainer() if run is None else self.open_run(run)
            trainer = parent.branch(update, **changes)
            trainer.lock = self.compute
            self._trainers[trainer.run.name] = self._newest = trainer
        return trainer

    def run_table(self: Experiment) -> list[dict]:
        """A row a run: what it is, what it branched off, the settings in which it differs from the
        defaults, how far it came, what it takes on disk."""
        return [run_row(self, name) for name in self.all_runs]

    def report(
        self: Experiment,
        run: str | None = None,
        *,
        variants: Sequence[str] | None = None,
        **options: Any,
    ) -> Path:
        """Write one HTML page of a run (None: the newest), or of a comparison of `variants`, to
        send to somebody. `options` are those of `run_report` and `comparison_report`.

        Raises:
            NotReady: there is no run yet, or nothing to compare by.
        """
        from .report import comparison_report, run_report

        if variants is not None:
            return comparison_report(self, variants, **options)
        if run is None and not self.all_runs:
            raise NotReady("There is no run to report on yet: take some PPO steps first.")
        return run_report(self, run or (self.runs or self.all_runs)[-1], **options)

    def trainer_settings(self: Experiment, name: str) -> Settings:
        """The settings of a run, without opening its trainer."""
        if (trainer := self._trainers.get(name)) is not None:
            return trainer.settings
        config = self.run_record(name).config
        return KINDS[config["kind"]].of(config["settings"])

    def run_record(self: Experiment, name: str) -> Run:
        """History, samples and config of a run, without opening its trainer. What is on disk is
        read again only where it has grown.

        Raises:
            LabError: there is no such run.
        """
        from .runs import Run

        if (trainer := self._trainers.get(name)) is not None:
            return trainer.run
        self._must_exist(name)
        path = self.folder / name / Run.FILES["history"]
        size = path.stat().st_size if path.exists() else 0
        known = self._records.get(name)
        if known is None or known[0] != size:
            known = self._records[name] = (size, Run(self.folder / name))
        return known[1]

    def history_of(self: Experiment, name: str) -> tuple[list[Row], list[Row]]:
        """Metrics and samples of all that a run's weights went through: its own updates, and those
        of its parents before it branched off."""
        record = self.run_record(name)
        parent = record.config.get("parent")
        if parent is None or parent["run"] not in self.all_runs:
            return list(record.history), list(record.samples)
        before = self.history_of(parent["run"])
        history, samples = (
            [row for row in rows if row["update"] <= parent["update"]] for rows in before
        )
        return history + record.history, samples + record.samples

    def _must_exist(self: Experiment, name: str) -> None:
        if name not in self.all_runs:
            raise LabError(f"There is no run {name!r}. There are: {', '.join(self.all_runs)}.")


def run_row(study: Experiment, name: str) -> dict[str, Any]:
    """A run in a table of runs; its score and KL are those of its newest update."""
    run = study.run_record(name)
    last = run.history[-1] if run.history else {}
    kind, settings = run.config["kind"], run.config["settings"]
    default = asdict(settings_for(study, kind))
    return {
        "run": name,
        "kind": kind,
        "parent": run.config.get("parent"),
        "updates": run.last,
        "score": last.get("objective/scores"),
        "kl": last.get("objective/kl"),
        "megabytes": run.megabytes,
        "settings": settings,
        "changed": {k: v for k, v in settings.items() if default.get(k) != v},
    }
