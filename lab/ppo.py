"""Proximal policy optimisation for language models, one update at a time.

The definition is TRL 1.12's PPOTrainer, which follows openai/lm-human-preferences (Ziegler et al.
2019) and "The N implementation details of RLHF with PPO" (Huang et al. 2024). A completion is an
episode, a token an action; the score comes at its last token, the KL penalty at each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .formulas import (
    adapted_kl_coef,
    clipped_policy_loss,
    clipped_value_loss,
    gae,
    kl_per_token,
    masked_mean,
    masked_var,
    token_rewards,
    variance_explained,
    whiten,
)
from .plots import Plot
from .policy import Policy
from .rollout import RolloutTrainer, ScoreFunction
from .runs import History, Row
from .samples import Samples
from .sampling import logprobs
from .settings import PPOSettings


class PPO(RolloutTrainer):
    """See RolloutTrainer for the arguments. The value head is linear, on the policy's last hidden
    state, and its gradient flows into the policy, as in the original single-network PPO."""

    kind = "ppo"
    plots = (
        *RolloutTrainer.plots,
        Plot(
            "approxkl",
            {"policy/approxkl_avg": "distance from the policy that sampled"},
            "approxkl",
            ".3f",
            from_zero=True,
        ),
        Plot("value error", {"loss/value_avg": "loss of the value head"}, "value error", ".3f"),
        Plot(
            "explained",
            {"val/var_explained": "variance of returns that values explain"},
            "explained",
        ),
    )

    def __init__(
        self,
        reference: Policy,
        score: ScoreFunction,
        prompts: Sequence[str],
        settings: PPOSettings | None = None,
        run: History | None = None,
    ) -> None:
        self.value_head = nn.Linear(reference.trunk.hidden_size, 1).to(reference.trunk.device)
        super().__init__(reference, score, prompts, settings or PPOSettings(), run)

    def begin(self) -> None:
        super().begin()
        nn.init.zeros_(self.value_head.weight)  # so that training starts from advantages alone
        nn.init.zeros_(self.value_head.bias)

    def learn(self, samples: Samples, scores: Tensor) -> Row:
        """The algorithm: KL to the reference, rewards, advantages, epochs of training. Log-probs
        and values from sampling are the old ones: no forward pass of its own is spent on them."""
        s, mask, old = self._now, samples.completion_mask, samples.logprobs
        rewarded = self.reward_mask(samples)
        reference = self.reference_logprobs(samples)
        kl = kl_per_token(old, reference, s.kl_estimator)
        mean_kl, kl_coef = kl.sum(1).mean().item(), s.kl_coef
        if s.kl_target is not None:
            kl_coef = adapted_kl_coef(kl_coef, mean_kl, s.kl_target)
        rewards = token_rewards(scores, kl, rewarded.sum(1), kl_coef)
        if s.whiten_rewards:
            rewards = whiten(rewards, rewarded, shift_mean=False)
        advantages, returns = gae(rewards, samples.values, rewarded, s.gamma, s.lam)
        advantages = whiten(advantages, mask)
        self.record.rollout(
            samples, s.cliprange, advantages, reference, kl, rewards=rewards, returns=returns
        )
        stats = self.optimise(samples, advantages, returns)

        mean_score = scores.mean().item()
        return {
            "episode": self.update * s.batch_size,
            "objective/kl": mean_kl,
            "objective/entropy": (-old).sum(1).mean().item(),
            "objective/scores": mean_score,
            "objective/scores_std": scores.std(correction=0).item(),
            "objective/non_score_reward": -kl_coef * mean_kl,
            "objective/rlhf_reward": mean_score - kl_coef * mean_kl,
            "objective/kl_coef": kl_coef,
            **stats,
            "val/var_explained": variance_explained(samples.values, returns, rewarded),
            "val/num_eos_tokens": int(samples.finished.sum()),
            "val/length": samples.lengths.float().mean().item(),
            **{name: getattr(s, name) for name in ("learning_rate", "cliprange", "temperature")},
        }

    def reward_mask(self, samples: Samples) -> Tensor:
        """The positions [B, C] with rewards and values: the tokens, the score at the last one."""
        return samples.completion_mask

    def values(self, samples: Samples, hidden: Tensor) -> Tensor:
        """Values [B, C] before each token, from the hidden states that it is drawn from."""
        return self.value_head(hidden).squeeze(-1)

    def optimise(self, samples: Samples, advantages: Tensor, returns: Tensor) -> Row:
        """Epochs of clipped updates on one rollout, a minibatch at a time. Returns means over the
        minibatches."""
        s, stats = self._now, []
        for epoch in range(s.num_ppo_epochs):
            found = [
                self._minibatch(samples.rows(rows), advantages[rows], returns[rows], rows)
                for rows in self.minibatches(len(samples), epoch, s.num_mini_batches)
            ]
            stats += found
            approxkl = sum(row["policy/approxkl_avg"] for row in found) / len(found)
            if s.max_approxkl is not None and approxkl > s.max_approxkl:
                break
        means = {name: sum(row[name] for row in stats) / len(stats) for name in stats[0]}
        return {**means, "policy/epochs": epoch + 1}

    def _minibatch(
        self,
        samples: Samples,
        advantages: Tensor,
        returns: Tensor,
        rows_in_rollout: Tensor | None = None,
    ) -> Row:
        """One step of the optimizer. Rows go through a few at a time; each part of the loss weighs
        as much as it has tokens, so that the gradient is that of the whole minibatch."""
        s, losses, log_ratio = self._now, torch.zeros(4), torch.zeros_like(advantages)
        tokens, rewarded_tokens = samples.lengths.sum(), self.reward_mask(samples).sum()
        for rows, part in samples.chunks(s.micro_batch_size):
            mask, width = part.completion_mask, part.completion_ids.shape[1]
            rewarded = self.reward_mask(part)
            new, hidden = logprobs(self.policy, part, s.temperature)
            values = self.values(part, hidden)
            policy_parts = clipped_policy_loss(
                new, part.logprobs, advantages[rows, :width], mask, s.cliprange
            )
            value_parts = clipped_value_loss(
                values, part.values, returns[rows, :width], rewarded, s.cliprange_value
            )
            policy_parts = mask.sum() / tokens * torch.stack(policy_parts)
            value_parts = rewarded.sum() / rewarded_tokens * torch.stack(value_parts)
            self.descend(policy_parts[0] + s.vf_coef * value_parts[0])
            losses += torch.cat([policy_parts, value_parts]).detach().cpu()
            log_ratio[rows, :width] = torch.where(mask, new - part.logprobs, 0.0).detach()
        self.record.minibatch(log_ratio, rows_in_rollout)
        self.apply_gradients()
        policy_loss, clipped, value_loss, value_clipped = losses.tolist()
        mask, ratio = samples.completion_mask, log_ratio.exp()
        return {
            "policy/approxkl_avg": masked_mean(0.5 * log_ratio**2, mask).item(),
            "policy/clipfrac_avg": clipped,
            "loss/policy_avg": policy_loss,
            "loss/value_avg": value_loss,
            "val/clipfrac_avg": value_clipped,
            "val/ratio": masked_mean(ratio, mask).item(),
            "val/ratio_var": masked_var(ratio, mask).item(),
        }
