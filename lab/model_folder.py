"""A folder with a model: what must be in it."""

from __future__ import annotations

import json
from pathlib import Path

from .errors import UnsuitableModel

TOKENIZERS = ["tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json"]


def fault(folder: Path) -> str:
    """Why the lab can't open the model in a folder, or nothing."""
    if not (folder / "config.json").is_file():
        return "it has no config.json"
    needed = {"model.safetensors"}
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        needed = set(index["weight_map"].values())
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "its model.safetensors.index.json can't be read"
    if missing := sorted(file for file in needed if not (folder / file).is_file()):
        return (
            f"it has no {missing[0]} (the lab opens no pickled weights, since opening one can run "
            "code)"
        )
    if not any((folder / file).is_file() for file in TOKENIZERS):
        return "it has no tokenizer"
    return ""


def checked(folder: Path) -> Path:
    """The folder. Raises UnsuitableModel where the lab can't open the model in it."""
    if wrong := fault(folder):
        raise UnsuitableModel(
            f"The lab can't use the model in {folder}: {wrong}. A model's folder is what "
            "`save_pretrained` of model and tokenizer writes."
        )
    return folder
