"""What PPO and GRPO share: answers to prompts, sampled from the policy of the moment and scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from .errors import LabError, TrainingStopped
from .lens import pieces
from .plots import Plot
from .policy import Policy
from .runs import History, Row
from .samples import Samples
from .sampling import frozen_logprobs, sample
from .settings import RolloutSettings
from .statistics import distinct_n
from .token_record import TokenRecord
from .trainer import SAMPLES_KEPT, Trainer

ScoreFunction = Callable[[list[str], Samples], Sequence[float]]
"""Scores of completions: (prompts, samples) -> one number a row."""


class RolloutTrainer(Trainer):
    """Trains a copy of a reference policy on its own samples.

    Args:
        reference: what the run starts from and is held close to. It is not changed.
        score: any function of prompts and samples; the lab gives a pinned reward model.
        prompts: what to answer; each pass over them has an order of its own.
        settings: see PPOSettings and GRPOSettings.
        run: where history and checkpoints go; an existing run is continued. None: memory only.
    """

    best_metric = "objective/rlhf_reward"
    plots = (
        Plot(
            "reward",
            {
                "objective/scores": "score of the reward model",
                "objective/rlhf_reward": "score less the KL penalty",
            },
            "score",
            "+.2f",
        ),
        Plot("KL (nats)", {"objective/kl": "KL to the reference"}, "KL", ".1f", from_zero=True),
        Plot("score", {"objective/scores": "score at its KL"}, "frontier", over_kl=True),
        Plot("entropy (nats)", {"objective/entropy": "entropy of a completion"}, "entropy", ".1f"),
        Plot(
            "distinct-2",
            {"completions/distinct_2": "different pairs of words, share"},
            "variety",
            from_zero=True,
        ),
        Plot(
            "clip fraction",
            {"policy/clipfrac_avg": "tokens that the clip binds, share"},
            "clip fraction",
            from_zero=True,
        ),
    )
    value_head: nn.Module | None = None

    @property
    def completions_per_prompt(self) -> int:
        return 1

    def __init__(
        self,
        reference: Policy,
        score: ScoreFunction,
        prompts: Sequence[str],
        settings: RolloutSettings,
        run: History | None = None,
    ) -> None:
        if not prompts:
            raise LabError(f"{self.kind.upper()} needs at least one prompt to answer.")
        self.reference, self.score, self.prompts = reference, score, list(prompts)
        self.policy = reference.copy()
        self.samples: Samples | None = None
        self.record = TokenRecord()
        heads = {} if self.value_head is None else {"value_head": self.value_head}
        super().__init__({"policy": self.policy, **heads}, settings, run)

    def begin(self) -> None:
        self.policy.start_from(self.reference)

    def twin(self, settings: RolloutSettings, run: History) -> Self:
        return type(self)(self.reference, self.score, self.prompts, settings, run)

    def learn(self, samples: Samples, scores: Tensor) -> Row:
        """Train on one rollout, and tell `self.record` of it. Returns the metrics."""
        raise NotImplementedError

    def take(self) -> tuple[Row, list[Row]]:
        start, self.record = time.perf_counter(), TokenRecord()
        prompts, samples = self.rollout()
        sampled = time.perf_counter()
        scores = self.scores(prompts, samples)
        scored = time.perf_counter()
        metrics = self.learn(samples, scores)
        end = time.perf_counter()
        self.samples = samples
        clock = {
            "seconds_sampling": sampled - start,
            "seconds_scoring": scored - sampled,
            "seconds_training": end - scored,
            "eps": len(samples) / (end - start),
        }
        texts = [self.policy.trunk.decode(ids) for ids in samples.token_lists()]
        metrics["completions/distinct_2"] = distinct_n(texts)
        if self.update > self.run.last:  # else it is on record, as it was the first time
            self.run.note_tokens(self.update, self._tokens())
        rows = zip(prompts, texts, scores.tolist(), strict=True)
        return metrics | clock, [{"prompt": p, "completion": c, "score": x} for p, c, x in rows]

    def _tokens(self) -> Row:
        """What `lab.lens` shows of this update."""
        kept = self.record.kept(SAMPLES_KEPT)
        for row in kept["rows"]:
            row["texts"] = pieces(self.policy.trunk.tokenizer, row["ids"])
        return {"kind": self.kind, **kept}

    def rollout(self) -> tuple[list[str], Samples]:
        """Prompts of this update, and the policy's answers to them."""
        s, each = self._now, self.completions_per_prompt
        turn = self.turn(len(self.prompts), s.batch_size // each)
        prompts = [self.prompts[i] for i in turn for _ in range(each)]
        seed = int(np.random.SeedSequence([s.seed, self.update]).generate_state(1)[0])
        samples = sample(
            self.policy,
            [self.policy.trunk.encode(p, s.max_new_tokens) for p in prompts],
            max_new_tokens=s.max_new_tokens,
            temperature=s.temperature,
            seed=seed,
            value_head=self.value_head,
            rows_at_once=s.rollout_batch_size,
        )
        if not samples.logprobs.isfinite().all():
            raise TrainingStopped("the policy's log-probs are not finite.")
        return prompts, samples

    def scores(self, prompts: list[str], samples: Samples) -> Tensor:
        """One score [B] for each completion, clipped, less the penalty for those without an end."""
        s = self._now
        scores = torch.as_tensor(self.score(prompts, samples), dtype=torch.float32)
        if scores.shape != (len(samples),):
            raise LabError(
                f"The score gave {scores.numel()} numbers for {len(samples)} completions: "
                "it must give one for each."
            )
        if not scores.isfinite().all():
            raise TrainingStopped("the score of a completion is not a finite number.")
        scores = scores.to(samples.ids.device)
        if s.score_clip is not None:
            scores = scores.clamp(-s.score_clip, s.score_clip)
        if s.missing_eos_penalty is not None:
            scores = scores - s.missing_eos_penalty * ~samples.finished
        return scores

    def reference_logprobs(self, samples: Samples) -> Tensor:
        """Log-probs [B, C] of the rollout's tokens under the reference."""
        result = torch.zeros_like(samples.logprobs)
        for rows, part in samples.chunks(self._now.rollout_batch_size):
            found = frozen_logprobs(self.reference, part, self._now.temperature)
            result[rows, : found.shape[1]] = found
        return result

    def minibatches(self, count: int, epoch: int, minibatches: int) -> Iterator[Tensor]:
        """Row numbers of `count` rows in an epoch's own order, a minibatch at a time."""
        rng = np.random.default_rng([self._now.seed, self.update, epoch])
        yield from torch.from_numpy(rng.permutation(count)).tensor_split(minibatches)
