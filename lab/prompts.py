"""Prompts: what the policy is asked. Each has a topic and a kind, and is train or held out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import BadPrompts
from .files import write_atomic
from .store import clean

KINDS = ("creative", "advice", "explain", "opinion", "factual", "harmful", "lookalike")
SHIPPED = Path(__file__).resolve().parent.parent / "data" / "prompts.jsonl"


@dataclass(frozen=True)
class Prompt:
    """One prompt. `kind` "lookalike" is harmless but sounds harmful; "custom" is a user's own."""

    text: str
    topic: str = ""
    kind: str = "custom"
    split: str = "train"


def load_prompts(source: str | Path | Iterable[str | Prompt] | None = None) -> list[Prompt]:
    """Prompts from a file, from a list of texts or prompts, or (None) those that the lab ships.

    A `.jsonl` file has an object a line with "prompt" and, if wanted, "topic", "kind" and "split"
    ("train" or "heldout"); any other file has a prompt a line. Where nothing is held out, every
    fourth prompt is: accuracy on prompts that were never ranked needs some.

    Raises:
        BadPrompts: names the file and the line, or the place in the list.
    """
    if source is None:
        source = SHIPPED
    if isinstance(source, (str, Path)):
        prompts = read_file(Path(source))
        where = str(source)
    else:
        where = "the list of prompts"
        prompts = [as_prompt(item, f"{where}, number {i}") for i, item in enumerate(source, 1)]
    if not prompts:
        raise BadPrompts(f"{where} holds no prompts. Give one prompt a line.")
    prompts = list({p.text: p for p in prompts}.values())
    if all(p.split == "train" for p in prompts):
        prompts = hold_out(prompts)
    return prompts


def as_prompt(item: object, where: str) -> Prompt:
    """A prompt from a text, or a checked one from a prompt."""
    if isinstance(item, Prompt):
        return parse_row({**asdict(item), "prompt": item.text}, where)
    return Prompt(text=check_text(item, where))


def write_prompts(path: Path, prompts: Sequence[Prompt]) -> None:
    """Write prompts as a .jsonl file that `load_prompts` reads."""
    rows = [{**asdict(p), "prompt": p.text} for p in prompts]
    lines = [json.dumps({k: r[k] for k in ("prompt", "topic", "kind", "split")}) for r in rows]
    write_atomic(path, "".join(line + "\n" for line in lines).encode())


def read_file(path: Path) -> list[Prompt]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise BadPrompts(f"There is no prompt file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadPrompts(f"{path} could not be read as UTF-8 text: {error}") from error
    numbered = [(i, line.strip()) for i, line in enumerate(lines, 1) if line.strip()]
    if path.suffix != ".jsonl":
        return [Prompt(text=line) for _, line in numbered]
    return [parse_line(line, f"{path}, line {i}") for i, line in numbered]


def parse_line(line: str, where: str) -> Prompt:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadPrompts(f"{where}: not valid JSON ({error}).") from None
    if not isinstance(row, dict):
        raise BadPrompts(f'{where}: expected an object like {{"prompt": "..."}}.')
    return parse_row(row, where)


def parse_row(row: dict, where: str) -> Prompt:
    """A prompt from its fields by name. Raises BadPrompts."""
    split = row.get("split", "train")
    if split not in ("train", "heldout"):
        raise BadPrompts(f'{where}: "split" is {split!r}; it must be "train" or "heldout".')
    kind, topic = row.get("kind", "custom"), row.get("topic", "")
    if not (isinstance(kind, str) and isinstance(topic, str)):
        raise BadPrompts(f'{where}: "kind" and "topic" must be text.')
    return Prompt(text=check_text(row.get("prompt"), where), topic=topic, kind=kind, split=split)


def check_text(text: object, where: str) -> str:
    """The text without lone surrogates, which no file or database can hold."""
    if not isinstance(text, str) or not text.strip():
        raise BadPrompts(f'{where}: "prompt" must be a text that is not empty, not {text!r}.')
    return clean(text).strip()


def hold_out(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Every fourth prompt is held out; a single prompt is not."""
    return [
        Prompt(p.text, p.topic, p.kind, "heldout" if i % 4 == 3 else "train")
        for i, p in enumerate(prompts)
    ]
