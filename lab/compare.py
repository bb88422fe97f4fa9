"""The model as found and the model as made, on the same prompts and random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import statistics
from .raters import Rater, Utility, get_rater
from .reward import RewardHead
from .statistics import Estimate

if TYPE_CHECKING:
    from .experiment import Experiment
    from .policy import Policy
    from .trunk import Trunk

OnText = Callable[[list[str]], None]
CHUNK = 64  # rows sampled together: larger products use the processor better
EVALUATION = 1_000_003  # added to a study's seed: evaluation has random numbers of its own


@dataclass
class Answers:
    """Completions of one policy. Row i answers `prompts[i]`.

    Attributes:
        features: what the study's reward head reads of each.
        kl: mean over completions of log-prob under the policy less under the reference, nats; NaN
            where the two have no tokens in common.
    """

    prompts: list[str]
    texts: list[str]
    token_ids: list[tuple[int, ...]]
    finished: list[bool]
    features: np.ndarray
    kl: float

    def rows(self, index: Sequence[int]) -> Answers:
        """Some of the answers. KL is that of all: an answer's own is not kept."""
        names = ("prompts", "texts", "token_ids", "finished")
        picked = {name: [getattr(self, name)[i] for i in index] for name in names}
        return Answers(**picked, features=self.features[list(index)], kl=self.kl)


@dataclass
class Comparison:
    """Reference against aligned, row by row, by the utility of one judge."""

    reference: Answers
    aligned: Answers
    gold_reference: np.ndarray
    gold_aligned: np.ndarray

    @property
    def gain(self) -> Estimate:
        """Mean gain in utility, its interval clustered by prompt."""
        return statistics.mean(self.gold_aligned - self.gold_reference, self.reference.prompts)

    @property
    def win_rate(self) -> Estimate:
        """How often the aligned completion is the better of two with the same seed; ties half."""
        wins = np.sign(self.gold_aligned - self.gold_reference) / 2 + 0.5
        return statistics.proportion(list(wins), self.reference.prompts)

    def summary(self) -> dict:
        """Figures under the names of `summary.json`."""
        return {
            "gold_reference": float(self.gold_reference.mean()),
            "gold_reference_std": float(
                self.gold_reference.std(ddof=min(1, len(self.gold_reference) - 1))
            ),
            "gold_aligned": float(self.gold_aligned.mean()),
            "gold_gain": self.gain.value,
            "gold_gain_interval": self.gain.interval,
            "win_rate": self.win_rate.value,
            "win_rate_interval": self.win_rate.interval,
            "kl": self.aligned.kl,
            "distinct2_reference": statistics.distinct_n(self.reference.texts),
            "distinct2_aligned": statistics.distinct_n(self.aligned.texts),
        }


def answer(
    policy: Policy,
    prompts: Sequence[str],
    *,
    reference: Policy | None = None,
    max_new_tokens: int = 24,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    on_chunk: Callable[[int], None] | None = None,
) -> Answers:
    """A completion for each prompt, in chunks; `on_chunk` gets how many are done.

    Two policies with the same seed see the same random numbers. With `reference`, KL is measured.
    """
    drawing = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p}
    parts = []
    for part in answer_chunks(policy, prompts, reference=reference, seed=seed, **drawing):
        parts.append(part)
        if on_chunk:
            on_chunk(sum(len(p.prompts) for p in parts))
    return join(parts) if parts else no_answers(policy)


def answer_chunks(
    policy: Policy,
    prompts: Sequence[str],
    *,
    reference: Policy | None = None,
    seed: int = 0,
    on_text: OnText | None = None,
    **drawing: float,
) -> Iterator[Answers]:
    """The answers of `answer` to CHUNK prompts at a time: for who works in short jobs.

    Args:
        on_text: called after each token with the texts of the chunk's answers so far.
        drawing: `max_new_tokens`, `temperature` and `top_p` of `sample`.
    """
    import torch  # which takes seconds to import: with the model, not with the panel

    from .sampling import logprobs, sample

    trunk, room = policy.trunk, int(drawing.get("max_new_tokens", 24))
    for first in range(0, len(prompts), CHUNK):
        asked = list(prompts[first : first + CHUNK])
        samples = sample(
            policy,
            [trunk.encode(p, room) for p in asked],
            seed=int(np.random.SeedSequence([seed, first]).generate_state(1)[0]),
            on_token=on_text and texts_told(trunk, on_text),
            **drawing,
        )
        kl = 0.0
        if reference is not None:
            with torch.no_grad():
                found, _ = logprobs(reference, samples, drawing.get("temperature", 1.0))
            kl = (samples.logprobs - found).sum().item() / len(asked)
        ids = samples.token_lists()
        yield Answers(
            prompts=asked,
            texts=[trunk.decode(row) for row in ids],
            token_ids=[tuple(row) for row in ids],
            finished=samples.finished.tolist(),
            features=samples.features().numpy(force=True),
            kl=kl,
        )


def texts_told(trunk: Trunk, on_text: OnText) -> Callable[[list[list[int]]], None]:
    """Hands on texts where tokens come; half a character is held back until it is whole."""
    return lambda rows: on_text([trunk.decode(row).rstrip("\ufffd") for row in rows])


def join(parts: Sequence[Answers]) -> Answers:
    """Answers of several chunks as one."""
    names = ("prompts", "texts", "token_ids", "finished")
    together = {name: [x for part in parts for x in getattr(part, name)] for name in names}
    sizes = np.array([len(part.prompts) for part in parts])
    kl = float(np.array([part.kl for part in parts]) @ sizes / max(1, sizes.sum()))
    return Answers(**together, features=np.concatenate([p.features for p in parts]), kl=kl)


def no_answers(policy: Policy) -> Answers:
    """To no prompts."""
    return Answers([], [], [], [], np.zeros((0, 2 * policy.trunk.hidden_size), np.float32), 0.0)


Judge = Callable[[Answers], Sequence[float]]
"""The utility of each answer: gold, from a rater, or the reward model's score."""


def gold(utility: Utility) -> Judge:
    """A rater's utility as a judge."""
    return lambda a: [utility(p, t) for p, t in zip(a.prompts, a.texts, strict=True)]


def compare(reference: Answers, aligned: Answers, judge: Judge) -> Comparison:
    """Judge both sets of answers to the same prompts."""
    utilities = [np.array(judge(answers), dtype=float) for answers in (reference, aligned)]
    return Comparison(reference, aligned, *utilities)


def measure(
    study: Experiment,
    rater: str | Rater | Utility | None,
    count: int,
    on_chunk: Callable[[int, int], None] | None,
) -> Comparison:
    """See `Experiment.measure`."""
    aligned = study.aligned
    judge, _ = judge_of(study, rater)
    prompts = [prompt for prompt in study.heldout for _ in range(count)]
    total, found = 2 * len(prompts), []
    with study.compute:
        for policy in (study.reference, aligned):
            before = len(found) * len(prompts)
            tell = (lambda n, b=before: on_chunk(b + n, total)) if on_chunk else None
            found.append(
                answer(
                    policy,
                    prompts,
                    reference=study.reference,
                    seed=study.seed + EVALUATION,
                    max_new_tokens=study.max_new_tokens,
                    temperature=study.temperature,
                    on_chunk=tell,
                )
            )
    return compare(*found, judge)


def judge_of(study: Experiment, rater: str | Rater | Utility | None) -> tuple[Judge, str]:
    """A rater's utility; or (None) the reward model of the newest run, in its standard deviations.
    And what the judge is called.

    Raises:
        NotReady: there is no reward model.
    """
    if rater is not None:
        found = get_rater(rater)
        return gold(found.utility), f"the simulated rater {found.name!r}"
    head = judging_head(study) or study.reward_model.require_head()
    pinned = f" of {study.runs[-1]}" if pinned_to(study) else ""
    return lambda a: head.score(a.prompts, a.features), f"the reward model{pinned}"


def judging_head(study: Experiment) -> RewardHead | None:
    """The reward model that the newest run is pinned to; the current one for a run without, or
    while there is no run."""
    folder = pinned_to(study)
    return study.reward_model.head if folder is None else RewardHead.load(folder)


def pinned_to(study: Experiment) -> Path | None:
    """The folder of the newest run, if it has a reward model of its own."""
    folder = study.folder / study.runs[-1] if study.runs else None
    return folder if folder is not None and (folder / "reward.json").exists() else None
