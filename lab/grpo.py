"""Group relative policy optimisation (Shao et al. 2024, "DeepSeekMath", section 4.1).

What most people train with today, and a telling contrast to PPO: no value head. Each prompt is
answered several times, and a completion's advantage is how much better it is than its group.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .formulas import clipped_surrogate, group_advantages, kl_per_token, masked_mean
from .plots import Plot
from .policy import Policy
from .rollout import RolloutTrainer, ScoreFunction
from .runs import History, Row
from .samples import Samples
from .sampling import logprobs
from .settings import GRPOSettings


class GRPO(RolloutTrainer):
    """See RolloutTrainer for the arguments."""

    kind = "grpo"
    plots = (
        *RolloutTrainer.plots,
        Plot(
            "equal groups",
            {"frac_reward_zero_std": "groups whose scores are all equal, share"},
            "equal groups",
            from_zero=True,
        ),
    )

    def __init__(
        self,
        reference: Policy,
        score: ScoreFunction,
        prompts: Sequence[str],
        settings: GRPOSettings | None = None,
        run: History | None = None,
    ) -> None:
        super().__init__(reference, score, prompts, settings or GRPOSettings(), run)

    @property
    def completions_per_prompt(self) -> int:
        return self._now.num_generations

    def learn(self, samples: Samples, scores: Tensor) -> Row:
        """The algorithm: advantages within each group, then clipped updates with KL in the loss."""
        s, old, mask = self._now, samples.logprobs, samples.completion_mask
        reference = self.reference_logprobs(samples)
        advantages, spread = group_advantages(scores, s.num_generations, s.scale_rewards)
        kl = old - reference
        self.record.rollout(samples, s.epsilon, advantages, reference, kl)
        stats = [self._iteration(samples, advantages, reference) for _ in range(s.num_iterations)]

        mean_score, mean_kl = scores.mean().item(), kl.sum(1).mean().item()
        return {
            "episode": self.update * s.batch_size,
            "objective/kl": mean_kl,
            "objective/entropy": (-old).sum(1).mean().item(),
            "objective/scores": mean_score,
            "objective/scores_std": spread.mean().item(),
            "objective/rlhf_reward": mean_score - s.beta * mean_kl,
            "frac_reward_zero_std": (spread == 0).float().mean().item(),
            **{name: sum(row[name] for row in stats) / len(stats) for name in stats[0]},
            "val/num_eos_tokens": int(samples.finished.sum()),
            "val/length": mask.sum(1).float().mean().item(),
            **{name: getattr(s, name) for name in ("learning_rate", "beta", "temperature")},
        }

    def _iteration(self, samples: Samples, advantages: Tensor, reference: Tensor) -> Row:
        """One step of the optimizer on the whole rollout (eq. 3): the mean over completions of the
        mean over their tokens, a few rows at a time."""
        s, totals, tokens = self._now, torch.zeros(3), samples.lengths.sum().item()
        log_ratio = torch.zeros_like(samples.logprobs)
        for rows, part in samples.chunks(s.micro_batch_size):
            mask, width = part.completion_mask, part.completion_ids.shape[1]
            new, _ = logprobs(self.policy, part, s.temperature)
            surrogate, clipped = clipped_surrogate(
                new, part.logprobs, advantages[rows, None], mask, s.epsilon
            )
            kl = kl_per_token(new, reference[rows, :width], "k3")
            per_token = torch.where(mask, surrogate + s.beta * kl, 0.0)
            loss = (per_token.sum(1) / part.lengths).mean()
            share, token_share = len(rows) / len(samples), part.lengths.sum().item() / tokens
            self.descend(share * loss)
            parts = [share * loss, token_share * clipped, token_share * masked_mean(kl, mask)]
            totals += torch.stack(parts).detach().cpu()
            log_ratio[rows, :width] = torch.where(mask, new - part.logprobs, 0.0).detach()
        self.record.minibatch(log_ratio)
        self.apply_gradients()
        loss, clipped, kl = totals.tolist()
        return {"loss": loss, "policy/clipfrac_avg": clipped, "kl": kl}
