"""What a training run leaves behind: its history, its samples, the checkpoints to go back to."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from .errors import DamagedStudy, LabError, RunInUse
from .files import append_json_line, flush, read_json_lines, write_atomic, write_json
from .history import Checkpoint, History, Row, dumps

CHECKPOINT_EVERY = 5  # updates; a checkpoint is weights and two Adam moments, 0.3 GB for SmolLM2
PINNED = (
    "reward.json",
    "reward.safetensors",
    "pairs.json",
    "demonstrations.jsonl",
    "start.safetensors",
    "corpus.safetensors",
)
CHECKPOINTS_KEPT = 4  # evenly spaced ones; beside them the first, the best and the last


class Run(History):
    """A folder with `config.json`, `metrics.jsonl`, `samples.jsonl`, `settings.jsonl`,
    `tokens.jsonl` and checkpoints: safetensors files with their state as JSON in the header.

    History is on disk as each update ends. Where a crash left more history than the newest
    checkpoint knows, the run goes on from that checkpoint and computes the rest again.
    """

    FILES: ClassVar = {
        "history": "metrics.jsonl",
        "samples": "samples.jsonl",
        "settings": "settings.jsonl",
    }
    TOKENS = "tokens.jsonl"

    def __init__(self, folder: str | Path, config: Row | None = None) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.name = self.folder.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = config if config is not None else self._read_json("config.json")
        if config is not None and "parent" not in config:  # a branch is one once it has a start
            write_json(self.folder / "config.json", config)
        self._lock = FileLock(self.folder / ".lock", thread_local=False, is_singleton=True)
        self._known_size = self._size()
        for part, file in self.FILES.items():
            setattr(self, part, read_json_lines(self.folder / file))
        # What a crash left; or what a trainer is writing now, so the files are not touched yet.
        self._unfinished = self._forget_unfinished()

    def _add(self, part: str, row: Row) -> None:
        self._write(self.FILES[part], row)
        super()._add(part, row)

    def _write(self, file: str, row: Row) -> None:
        try:
            append_json_line(self.folder / file, row)
        except OSError as error:
            raise self._unwritten(file, error) from error
        finally:
            self._known_size = self._size()

    def _take_back(self, update: int) -> None:
        self._unfinished = [*self.FILES]  # `hold` clears the lines that may have been written
        super()._take_back(update)
        self._known_size = self._size()

    def _unwritten(self, file: str, error: OSError) -> LabError:
        return LabError(
            f"{self.folder / file} can't be written ({error}). The run is as it was before this "
            "update: free the disk, or give access, and go on."
        )

    def _add_tokens(self, row: Row) -> None:
        self._write(self.TOKENS, row)

    def _token_line(self, update: int) -> bytes | None:
        """The last whole line of an update. One that a crash kept from the history is followed by
        that of the update as it was taken again, so it needs no clearing."""
        path, found = self.folder / self.TOKENS, None
        if not path.exists():
            return None
        with path.open("rb") as file:
            for line in file:
                if line.startswith(b'{"update": %d,' % update) and line.endswith(b"}\n"):
                    found = line
        return found

    def hold(self) -> None:
        """From its first step on, a run belongs to one notebook, and to the trainer in it that
        knows its newest update: two would spoil its record.

        Raises:
            RunInUse: another notebook has it, or another trainer took it further.
        """
        if not self._lock.is_locked:
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                raise RunInUse(
                    f"{self.name} is being trained in another notebook. Close that first, or start "
                    "a run of your own: new=True, or branch()."
                ) from None
        if self._size() != self._known_size:
            raise RunInUse(
                f"{self.name} was taken further by another trainer since this one was opened. Open "
                "it again to go on from there, or start a run of your own: new=True, or branch()."
            )
        for part in self._unfinished:
            lines = "".join(dumps(row) + "\n" for row in getattr(self, part))
            try:
                write_atomic(self.folder / self.FILES[part], lines.encode("utf-8", "replace"))
            except OSError as error:
                raise self._unwritten(self.FILES[part], error) from error
            finally:
                self._known_size = self._size()
        self._unfinished = []

    def _size(self) -> int:
        path = self.folder / self.FILES["history"]
        return path.stat().st_size if path.exists() else 0

    @property
    def resume_at(self) -> int:
        return max(self.checkpoints, default=self.first)

    def sibling(self, kind: str, settings: Row, update: int) -> Run:
        """A new folder beside this one, with what pins the run's goal."""
        folder = next_folder(self.folder.parent, kind)
        folder.mkdir(parents=True)
        for name in PINNED:
            if (self.folder / name).exists():
                shutil.copy2(self.folder / name, folder)
        return Run(folder, self._config_of_sibling(settings, update))

    # Checkpoints

    def start(self, tensors: dict[str, torch.Tensor], state: Row) -> None:
        self.save(tensors, state, "")
        write_json(self.folder / "config.json", self.config)

    @property
    def checkpoints(self) -> list[int]:
        """The updates that there are checkpoints after."""
        found = self.folder.glob("checkpoint-*.safetensors")
        numbers = (path.stem.removeprefix("checkpoint-") for path in found)
        return sorted(int(n) for n in numbers if n.isdigit())

    @property
    def megabytes(self) -> float:
        """What the run takes on disk. It is bounded: see `thin`."""
        total = 0
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # a checkpoint that another thread renames or drops
                total += path.stat().st_size
        return total / 1e6

    def save(
        self,
        tensors: dict[str, torch.Tensor],
        state: Row,
        metric: str,
        every: int = CHECKPOINT_EVERY,
    ) -> None:
        """Write the checkpoint after `state["update"]`, whole or not at all; then drop those that
        are kept no longer. `metric`: by which one is the best; `every`: updates between two."""
        path = self._path(state["update"])
        part = path.with_name(f".{path.name}.part")
        try:
            whole = {k: v.contiguous() for k, v in tensors.items()}
            save_file(whole, part, {"state": dumps(state)})
            flush(part)  # older checkpoints go next: this one must be there
            part.replace(path)
        except (OSError, SafetensorError) as error:
            part.unlink(missing_ok=True)
            raise LabError(
                f"The checkpoint {path} can't be written ({error}). Older ones are untouched: free "
                "the disk, or give access, and go on."
            ) from error
        self.thin(metric, every)

    def thin(self, metric: str, every: int = CHECKPOINT_EVERY) -> None:
        """Keep the first, the best and the last checkpoint, and at most CHECKPOINTS_KEPT others at
        even distances, which double as the run grows. What lies between is computed again."""
        found = self.checkpoints
        scores = {row["update"]: row.get(metric, float("-inf")) for row in self.history}
        kept = {found[-1], max(found, key=lambda k: scores.get(k, float("-inf")))}
        if "parent" in self.config:
            kept.add(self.first)
        stride = every
        while found[-1] // stride > CHECKPOINTS_KEPT:
            stride *= 2
        for update in found:
            if update % stride and update not in kept:
                self._path(update).unlink()

    def load(self, update: int) -> Checkpoint | None:
        """The newest checkpoint after `update` at most, or None where the run's own start is it.

        Raises:
            DamagedStudy: the checkpoint can't be read.
        """
        found = [k for k in self.checkpoints if k <= update]
        if not found:
            return None
        path = self._path(found[-1])
        try:
            with safe_open(path, "pt") as file:
                state = json.loads((file.metadata() or {}).get("state") or self._older_state())
            if state["update"] != found[-1]:
                raise ValueError(f"it is of update {state['update']}")
            return load_file(path), state
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise DamagedStudy(
                f"The checkpoint {path} can't be read ({error}). Move it elsewhere to go on from "
                "the one before; the run's history is untouched."
            ) from error

    def _older_state(self) -> str:
        """Where lab 0.1 wrote the state of its only checkpoint."""
        return (self.folder / "checkpoint.json").read_text(encoding="utf-8")

    def _path(self, update: int) -> Path:
        return self.folder / f"checkpoint-{update:06d}.safetensors"

    def _read_json(self, name: str) -> Row:
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DamagedStudy(
                f"{path} can't be read ({error}). The folder is untouched; start a new run with "
                "study.ppo(new=True)."
            ) from error


def run_folders(study: Path) -> list[Path]:
    """Folders of the runs of a study, `<kind>-<number>`, oldest first."""
    return [f for f in numbered_folders(study) if (f / "config.json").exists()]


def numbered_folders(study: Path) -> list[Path]:
    """Also those that a crash left without a config."""
    found = [f for f in study.glob("*-*") if f.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda f: int(f.name.rpartition("-")[2]))


def next_folder(study: Path, kind: str) -> Path:
    """The folder of a study's next run: numbers go on across kinds, so that they tell the age."""
    folders = numbered_folders(study)
    number = int(folders[-1].name.rpartition("-")[2]) + 1 if folders else 1
    return study / f"{kind}-{number}"
