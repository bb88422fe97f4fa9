"""Files that are whole or absent: written beside their place, flushed, then renamed into it."""

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


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=float)
    write_atomic(path, (text + "\n").encode("utf-8", "replace"))


def append_json_line(path: Path, value: Any) -> None:
    """Add a line to a .jsonl file, flushed to disk."""
    with path.open("a", encoding="utf-8", errors="replace") as file:
        file.write(json.dumps(value, ensure_ascii=False, default=float) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_json_lines(path: Path) -> list[dict]:
    """The complete lines of a .jsonl file; a last line cut off by a crash is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
