"""Where files lie, and files that are whole or absent: written beside their place, flushed, then
renamed into it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file's contents; an interruption leaves the old file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def flush(path: Path) -> None:
    """Wait until a file that another library wrote is on disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=float)
    write_atomic(path, (text + "\n").encode("utf-8", "replace"))


def append_json_line(path: Path, value: Any) -> None:
    """Add a line to a .jsonl file, flushed to disk."""
    line = json.dumps(value, ensure_ascii=False, default=float) + "\n"
    with path.open("ab+") as file:
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")  # after a line cut off by a crash
        file.write(line.encode("utf-8", "replace"))
        file.flush()
        os.fsync(file.fileno())


def read_json_lines(path: Path) -> list[dict]:
    """The complete lines of a .jsonl file; a line cut off by a crash is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_bytes().split(b"\n"):  # text may hold other ends of line, like U+2028
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def project_root() -> Path:
    """Where `runs/` lives: the project that this package is part of, else the working folder."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").exists() else Path.cwd()


def runs_root() -> Path:
    """Where studies live, whichever notebook opens them."""
    return Path(os.environ.get("LAB_RUNS") or project_root() / "runs")
