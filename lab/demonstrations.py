"""Demonstrations: prompts with the answers that a model should learn to give."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadDemonstrations
from .files import write_atomic
from .store import clean

if TYPE_CHECKING:
    from .experiment import Experiment

SHIPPED = Path(__file__).resolve().parent.parent / "data" / "demonstrations.jsonl"


@dataclass(frozen=True)
class Demonstration:
    """A prompt and its answer; those of split "heldout" measure and never train. `kind` as of a
    prompt: "harmful" requests are refused, "lookalike" and "plain" ones are helped with."""

    prompt: str
    completion: str
    split: str = "train"
    kind: str = "plain"


def shipped(model: str, *kinds: str) -> list[Demonstration]:
    """The demonstrations that the lab ships for "pocket" or "smollm2"; of some kinds alone, where
    they are named.

    Raises:
        BadDemonstrations: there are none.
    """
    rows = [(check(row, where), row.get("model")) for row, where in objects(SHIPPED)]
    found = [d for d, of in rows if of == model and (not kinds or d.kind in kinds)]
    if not found:
        raise BadDemonstrations(f"{SHIPPED} has none for the model {model!r} of kinds {kinds}.")
    return found


def chosen(study: Experiment) -> list[Demonstration]:
    """What SFT can learn from a study's rankings: the best completion of each, a tie's first; those
    of held-out prompts measure. Rankings that found all bad are left out."""
    texts, heldout = {c.id: c.text for c in study.store.completions()}, set(study.heldout)
    return [
        Demonstration(r.prompt, text, "heldout" if r.prompt in heldout else "train")
        for r in study.store.rankings()
        if r.tiers and not r.all_bad and (text := texts[r.tiers[0][0]])
    ]


def load_demonstrations(
    source: str | Path | Iterable[Demonstration | dict[str, str] | tuple[str, str]],
) -> list[Demonstration]:
    """Demonstrations from a .jsonl file with an object {"prompt", "completion"} a line, as in TRL's
    prompt-completion format, "split" if wanted; or from such objects or (prompt, completion) pairs.

    Raises:
        BadDemonstrations: names the file and the line.
    """
    if isinstance(source, (str, Path)):
        found = [check(row, where) for row, where in objects(Path(source))]
    else:
        numbered = ((f"demonstration {i}", d) for i, d in enumerate(source, 1))
        found = [check(as_row(d, where), where) for where, d in numbered]
    if not any(d.split == "train" for d in found):
        raise BadDemonstrations("There is no demonstration to train on.")
    return found


def as_row(demonstration: object, where: str) -> object:
    """A demonstration, or a pair, as an object of a file."""
    if isinstance(demonstration, Demonstration):
        return asdict(demonstration)
    if isinstance(demonstration, (tuple, list)) and len(demonstration) == 2:
        return dict(zip(("prompt", "completion"), demonstration, strict=True))
    if isinstance(demonstration, dict):
        return demonstration
    raise BadDemonstrations(
        f"{where}: give (prompt, completion) or an object with both, not {demonstration!r}."
    )


def objects(path: Path) -> Iterable[tuple[Any, str]]:
    """What each line of a .jsonl file holds, and where that is. Raises BadDemonstrations."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadDemonstrations(f"{path} could not be read as UTF-8 text: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise BadDemonstrations(f"{where}: not valid JSON ({error}).") from None
            yield row, where


def check(row: object, where: str) -> Demonstration:
    """A demonstration from a row of a file. Raises BadDemonstrations."""
    if not isinstance(row, dict):
        raise BadDemonstrations(f'{where}: expected an object like {{"prompt": "..."}}.')
    for name in ("prompt", "completion"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise BadDemonstrations(
                f'{where}: "{name}" must be a text that is not empty, not {row.get(name)!r}.'
            )
    if (split := row.get("split", "train")) not in ("train", "heldout"):
        raise BadDemonstrations(f'{where}: "split" is {split!r}; it must be "train" or "heldout".')
    if not isinstance(kind := row.get("kind", "plain"), str):
        raise BadDemonstrations(f'{where}: "kind" must be text, not {kind!r}.')
    texts = (clean(row[name]).strip() for name in ("prompt", "completion"))
    return Demonstration(*texts, split, kind)


def write_demonstrations(path: Path, demonstrations: Sequence[Demonstration]) -> None:
    """Write a .jsonl file that `load_demonstrations` reads."""
    lines = "".join(json.dumps(asdict(d), ensure_ascii=False) + "\n" for d in demonstrations)
    write_atomic(path, lines.encode())
