"""The model as found and the model as made, on the same prompts and random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from . import statistics
from .policy import Policy
from .raters import Rater, Utility, get_rater
from .reward import RewardHead
from .sampling import logprobs, sample
from .statistics import Estimate

if TYPE_CHECKING:
    from .experiment import Experiment

CHUNK = 64  # rows sampled together: larger products use the processor better


@dataclass
class Answers:
    """Completions of one policy. Row i answers `prompts[i]`.

    Attributes:
        kl: mean over completions of log-prob under the policy less under the reference, nats.
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
    trunk = policy.trunk
    out = Answers(list(prompts), [], [], [], np.zeros((0, 2 * trunk.hidden_size), np.float32), 0.0)
    features, kl = [], 0.0
    for first in range(0, len(prompts), CHUNK):
        ids = [trunk.encode(p, max_new_tokens) for p in prompts[first : first + CHUNK]]
        samples = sample(
            policy,
            ids,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=int(np.random.SeedSequence([seed, first]).generate_state(1)[0]),
        )
        if reference is not None:
            with torch.no_grad():
                under_reference, _ = logprobs(reference, samples, temperature)
            kl += (samples.logprobs - under_reference).sum().item()
        out.texts += [trunk.decode(row) for row in samples.token_lists()]
        out.token_ids += [tuple(row) for row in samples.token_lists()]
        out.finished += samples.finished.tolist()
        features.append(samples.features().numpy(force=True))
        if on_chunk:
            on_chunk(min(first + CHUNK, len(prompts)))
    out.features = np.concatenate(features) if features else out.features
    out.kl = kl / max(1, len(prompts))
    return out


Judge = Callable[[Answers], Sequence[float]]
"""The utility of each answer: gold, from a rater, or the reward model's score."""


def gold(utility: Utility) -> Judge:
    """A rater's utility as a judge."""
    return lambda a: [utility(p, t) for p, t in zip(a.prompts, a.texts, strict=True)]


def compare(reference: Answers, aligned: Answers, judge: Judge) -> Comparison:
    """Judge both sets of answers to the same prompts."""
    utilities = [np.array(judge(answers), dtype=float) for answers in (reference, aligned)]
    return Comparison(reference, aligned, *utilities)


def side_by_side(study: Experiment, prompt: str, count: int, seed: int) -> dict[str, list[dict]]:
    """See `Experiment.side_by_side`."""
    name = f"aligned: {study.policy_name('aligned')}"
    sampling = {"max_new_tokens": study.max_new_tokens, "temperature": study.temperature}
    with study.compute:
        answers = [
            answer(policy, [prompt] * count, seed=seed, **sampling)
            for policy in (study.reference, study.aligned)
        ]
    head = judging_head(study)
    raw = [head.raw(a.features) if head else [None] * count for a in answers]
    offset = head.offsets.get(prompt, raw[0].mean()) if head else 0.0
    return {
        name: [
            {"text": text, "finished": finished}
            | {"score": None if r is None else float(r - offset) / head.spread}
            for text, finished, r in zip(a.texts, a.finished, scores, strict=True)
        ]
        for name, a, scores in zip(("reference", name), answers, raw, strict=True)
    }


def measure(
    study: Experiment,
    rater: str | Rater | Utility | None,
    count: int,
    on_chunk: Callable[[int, int], None] | None,
) -> Comparison:
    """See `Experiment.measure`."""
    aligned = study.aligned
    head = None if rater is not None else judging_head(study) or study.reward_model.require_head()
    prompts = [p.text for p in study.prompts if p.split == "heldout" for _ in range(count)]
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
                    seed=study.seed + 1_000_003,
                    max_new_tokens=study.max_new_tokens,
                    temperature=study.temperature,
                    on_chunk=tell,
                )
            )
    if head is None:
        return compare(*found, gold(get_rater(rater).utility))
    return compare(*found, lambda a: head.raw(a.features) / head.spread)


def judging_head(study: Experiment) -> RewardHead | None:
    """The reward model that the newest run is pinned to; the current one for a run without."""
    folder = study.trainer().run.folder
    if (folder / "reward.json").exists():
        return RewardHead.load(folder)
    return study.reward_model.head
