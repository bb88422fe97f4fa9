"""A training run on disk: its settings, its history, the state to go on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .errors import DamagedStudy
from .files import append_json_line, read_json_lines, write_atomic, write_json

Row = dict[str, Any]


class Run:
    """A folder with `config.json`, `metrics.jsonl`, `samples.jsonl` and the last checkpoint.

    History is appended as each update ends. Where a crash left more history than the checkpoint
    knows, opening the run cuts the history back to the checkpoint: going on computes it again.
    """

    def __init__(self, folder: str | Path, config: Row | None = None) -> None:
        self.folder = Path(folder)
        self.name = self.folder.name
        self.folder.mkdir(parents=True, exist_ok=True)
        if config is not None:
            write_json(self.folder / "config.json", config)
        self.config: Row = self._read_json("config.json")
        self.history: list[Row] = read_json_lines(self.folder / "metrics.jsonl")
        self.samples: list[Row] = read_json_lines(self.folder / "samples.jsonl")
        self._cut_back_to(self.checkpoint_update)

    @property
    def checkpoint_update(self) -> int:
        """The update that the checkpoint was taken after; 0 without one."""
        path = self.folder / "checkpoint.json"
        if not path.exists():
            return 0
        try:
            return int(self._read_json(path.name)["update"])
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedStudy(
                f"{path} names no update. The folder is untouched; start a new run with "
                "study.ppo(new=True)."
            ) from error

    def append(self, metrics: Row, samples: list[Row]) -> None:
        """Add an update to the history, on disk when this returns."""
        self.history.append(metrics)
        append_json_line(self.folder / "metrics.jsonl", metrics)
        for row in samples:
            row = {"update": metrics["update"], **row}
            self.samples.append(row)
            append_json_line(self.folder / "samples.jsonl", row)

    def save(self, tensors: dict[str, torch.Tensor], state: Row) -> None:
        """Replace the checkpoint. `state` holds at least "update". The JSON names the file of
        tensors and is written last, so that a crash in between leaves the older checkpoint."""
        file = f"checkpoint-{state['update']:06d}.safetensors"
        part = self.folder / f".{file}.part"
        save_file({k: v.contiguous() for k, v in tensors.items()}, part)
        part.replace(self.folder / file)
        write_json(self.folder / "checkpoint.json", {**state, "file": file})
        for old in self.folder.glob("checkpoint-*.safetensors"):
            if old.name != file:
                old.unlink()

    def load(self) -> tuple[dict[str, torch.Tensor], Row] | None:
        """Tensors and state of the checkpoint, or None where there is none."""
        if not (self.folder / "checkpoint.json").exists():
            return None
        state = self._read_json("checkpoint.json")
        path = self.folder / Path(state["file"]).name
        try:
            return load_file(path), state
        except (OSError, SafetensorError) as error:
            raise DamagedStudy(
                f"The checkpoint {path} can't be read ({error}). Start a new run with "
                "study.ppo(new=True); this one's history is untouched."
            ) from error

    def _cut_back_to(self, update: int) -> None:
        if any(r["update"] > update for r in self.history + self.samples):
            self.history = [r for r in self.history if r["update"] <= update]
            self.samples = [r for r in self.samples if r["update"] <= update]
            for name, rows in (("metrics", self.history), ("samples", self.samples)):
                lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
                write_atomic(self.folder / f"{name}.jsonl", lines.encode())

    def _read_json(self, name: str) -> Row:
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DamagedStudy(
                f"{path} can't be read ({error}). The folder is untouched; start a new run with "
                "study.ppo(new=True)."
            ) from error
