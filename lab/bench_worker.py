"""Processes that each hold one trainer and take an update when asked.

A fresh process for each, so that its peak memory is its own and nothing another one imported,
cached or allocated helps or hinders it.
"""

from __future__ import annotations

import io
import multiprocessing
import tempfile
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .errors import LabError

SHARE = 40  # SmolLM2's share of the words that `--learn` wants has a standard deviation of 1/40


@dataclass(frozen=True)
class Work:
    """What an update does, whoever does it.

    Attributes:
        prompts: what to answer; as many as `batch`, so that each update answers the same ones.
        wanted: token ids. With any, the score is SHARE times their share of a completion, which
            may end; without, the score is a random one, and completions run to `tokens`, so that
            each update is the same work.
    """

    folder: str
    chat_template: str | None
    prompts: tuple[str, ...]
    batch: int = 16
    tokens: int = 24
    epochs: int = 2
    trainable: str | int = "auto"
    seed: int = 0
    kl_coef: float = 0.05
    learning_rate: float = 2e-4
    wanted: tuple[int, ...] = ()


class Worker:
    """A process that runs `target(pipe, *arguments)` and answers one request after the other.

    `ready` is what it sent first. An error in it is raised here as a LabError.
    """

    def __init__(self, target: Callable, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, target, arguments), daemon=True, name=target.__name__
        )
        self._process.start()
        theirs.close()
        try:
            self.ready = self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, request: str) -> dict:
        """Send a request, wait for the answer."""
        return self._answer(request)

    def _answer(self, request: str | None = None) -> dict:
        try:
            if request is not None:
                self._pipe.send(request)
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise LabError(
                f"The process {self._process.name} ended with code {self._process.exitcode} before "
                "it answered. If it was killed, there was too little memory: try a smaller --batch."
            ) from None
        if isinstance(answer, LabError):
            raise answer
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(10)  # it ends by itself, and takes its folder with it
        self._process.terminate()
        self._process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(pipe: Connection, target: Callable, arguments: tuple) -> None:
    """In the new process: run the target; what goes wrong is sent, not printed."""
    try:
        with redirect_stdout(io.StringIO()):  # what trainers print belongs to no table
            target(pipe, *arguments)
    except EOFError:
        pass  # nobody asks any more
    except LabError as error:
        pipe.send(error)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        pipe.send(LabError(f"{target.__name__}: {type(error).__name__}: {error} ({where})"))


def ours(pipe: Connection, work: Work) -> None:
    """The lab's PPO, its history and checkpoints on disk as in a study. Answers "step" with an
    update's metrics, "limit" with the machine's limit."""
    with tempfile.TemporaryDirectory() as folder:
        serve_ours(pipe, work, folder)


def serve_ours(pipe: Connection, work: Work, folder: str) -> None:
    from .demo import peak_memory_mb
    from .machine import limit, stages
    from .policy import Policy
    from .ppo import PPO
    from .runs import Run
    from .settings import PPOSettings

    policy = Policy.load(work.folder, work.trainable, "cpu", work.chat_template)
    if not work.wanted:
        policy.trunk.eos_ids = frozenset()  # no completion ends early: each update the same work
    settings = PPOSettings(
        batch_size=work.batch,
        num_ppo_epochs=work.epochs,
        num_mini_batches=1,
        max_new_tokens=work.tokens,
        learning_rate=work.learning_rate,
        kl_coef=work.kl_coef,
        kl_target=None,
        seed=work.seed,
    )
    score, run = score_function(work, policy.trunk), Run(folder, {"kind": "ppo"})
    trainer = PPO(policy, score, work.prompts, settings, run)
    prompt_ids = [policy.trunk.encode(p, work.tokens) for p in work.prompts]
    answer = {"prompt_ids": prompt_ids, "layers": policy.trunk.layers}
    while True:
        pipe.send(answer)
        if pipe.recv() == "step":
            answer = trainer.step() | memory() | {"peak_memory_mb": peak_memory_mb()}
        else:
            count = sum(map(len, prompt_ids))
            needed = stages(trainer.policy, count, work.batch, work.tokens, work.epochs)
            trained = sum(p.numel() for p in trainer.parameters)
            answer = limit(needed, trained, work.epochs)


def memory() -> dict[str, float]:
    """Megabytes that this process holds now."""
    import psutil

    return {"memory_mb": psutil.Process().memory_info().rss / 1e6}


def score_function(work: Work, trunk) -> Callable:
    """SHARE times the share of wanted tokens; without any, a random linear head on the features
    that the lab's reward head reads, in standard deviations of the batch."""
    import torch

    def share(prompts, samples):
        wanted = torch.isin(samples.completion_ids, torch.tensor(work.wanted))
        return SHARE * (wanted & samples.completion_mask).sum(1) / samples.lengths

    generator = torch.Generator().manual_seed(work.seed)
    weight = torch.randn(2 * trunk.hidden_size, generator=generator)

    def random_head(prompts, samples):
        raw = samples.features() @ weight
        return (raw - raw.mean()) / raw.std().clamp(min=1e-6)

    return share if work.wanted else random_head
