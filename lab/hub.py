"""Models on the Hugging Face hub, or on a mirror of it."""

from __future__ import annotations

import os
import queue
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import LabError, ModelUnavailable, UnknownModel, UnsuitableModel
from .model_folder import checked, fault

HUB_SECONDS = 4.5  # for the hub's first answer, DNS included: with imports, under five seconds
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

# Only files of the top folder, and of several sets of weights only those transformers reads.
WANTED = ["*.json", "*.txt", "*.model", "*.jinja", "model*.safetensors"]
UNWANTED = ["*/*"]


def from_cache(repo: str) -> Path | None:
    """A model that the hub's own cache on this disk already holds whole.

    Raises:
        UnknownModel: the hub takes no such name.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        path = snapshot_download(
            repo, local_files_only=True, allow_patterns=WANTED, ignore_patterns=UNWANTED
        )
    except HFValidationError as error:
        raise UnknownModel(f"The hub takes no name like `{repo}`.") from error
    except OSError:  # what the hub's errors for "not here" and "not all here" derive from
        return None
    folder = Path(path)
    return None if fault(folder) else folder


def download(repo: str, tell: Callable[..., None]) -> Path:
    """Download a model, if the hub answers in time; `tell(text, done, total)` gets how far it is.

    Raises:
        UnknownModel: the hub has no such model.
        UnsuitableModel: it has no safetensors weights.
        ModelUnavailable: the hub can't be reached, or does not hand it out.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from huggingface_hub.utils import filter_repo_objects

    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if any(is_set(variable) for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        raise ModelUnavailable("HF_HUB_OFFLINE is set, so the hub was not asked")
    tell(f"asking {endpoint} for {repo}")
    try:
        files = ask(repo, endpoint)
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
            tqdm_class=silent_bar(show),
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
            "no folder of this name here."
        ) from error
    except Exception as error:
        # No name look-up, no answer, a proxy's login page in place of one, a transfer that broke
        # off: each has exceptions of its own, and all mean that the hub is no way in today.
        first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelUnavailable(f"{endpoint} did not deliver {repo}: {first}") from error
    return checked(Path(path))


def ask(repo: str, endpoint: str) -> dict[str, int]:
    """The sizes of a repository's files; ModelUnavailable if no answer comes within HUB_SECONDS.

    The question is put in a thread of its own: no timeout of a socket covers the name's look-up
    and an answer that trickles in.
    """
    from huggingface_hub import HfApi

    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put() -> None:
        try:
            api = HfApi(endpoint=endpoint)
            answers.put(api.model_info(repo, timeout=HUB_SECONDS, files_metadata=True))
        except Exception as error:  # handed to the thread that waits
            answers.put(error)

    threading.Thread(target=put, name="lab-ask-hub", daemon=True).start()
    try:
        answer = answers.get(timeout=HUB_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer within {HUB_SECONDS:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return {file.rfilename: file.size or 0 for file in answer.siblings or []}


def is_set(variable: str) -> bool:
    """Whether an environment variable says yes."""
    return os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}


def silent_bar(show: Callable[[float], None]) -> type:
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
