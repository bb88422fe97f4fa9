"""The formulas of PPO for language models, one function each. Tensors are [B rows, C tokens]."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over real tokens. `where`, not a product: filler may hold anything, even NaN."""
    return torch.where(mask, values, 0.0).sum() / mask.sum()


def masked_var(values: Tensor, mask: Tensor) -> Tensor:
    """Unbiased variance over real tokens, as in TRL's `masked_var`; 0 for a single one."""
    centred = values - masked_mean(values, mask)
    return torch.where(mask, centred**2, 0.0).sum() / (mask.sum() - 1).clamp(min=1)


def whiten(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """Unit (unbiased) variance over real tokens; the mean is kept unless `shift_mean`. 0 on
    filler. TRL's `masked_whiten`."""
    mean = masked_mean(values, mask)
    whitened = (values - mean) * torch.rsqrt(masked_var(values, mask) + 1e-8)
    return torch.where(mask, whitened if shift_mean else whitened + mean, 0.0)


def kl_per_token(logprobs: Tensor, reference: Tensor, estimator: str = "k1") -> Tensor:
    """Estimates of KL(policy ‖ reference) from the policy's own samples (Schulman 2020): k1 is
    log(π/ref), unbiased; k3 is ref/π - 1 - log(ref/π), never negative. 0 where both are 0."""
    log_ratio = reference - logprobs
    return -log_ratio if estimator == "k1" else torch.expm1(log_ratio) - log_ratio


def adapted_kl_coef(kl_coef: float, kl: float, target: float) -> float:
    """The price of a nat that holds KL near a target: kl_coef there, e⁴ times less at KL 0, and
    rising as steeply above (20 times at most).

    A proportional controller, like that of Ziegler et al. (2019, section 2.2), but without
    memory: theirs lowers the price while KL is still small, and then overshoots for as long.
    """
    return kl_coef * math.exp(min(math.log(20), 4 * (kl / target - 1)))


def token_rewards(scores: Tensor, kl: Tensor, lengths: Tensor, kl_coef: float) -> Tensor:
    """-kl_coef·KL at each token, and the score [B] at the last real one: at end-of-sequence where
    it was sampled, else where the completion was cut off (Ziegler et al. 2019, eq. 2)."""
    rewards = -kl_coef * kl
    last = (lengths - 1)[:, None]
    return rewards.scatter_add(1, last, scores[:, None].to(rewards.dtype))


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns by generalised advantage estimation (Schulman et al. 2016, eq. 16).
    The value after the last token is 0, cut off or not, as in TRL."""
    advantages = torch.zeros_like(rewards)
    following, next_value = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = torch.where(mask[:, t], delta + gamma * lam * following, 0.0)
        next_value = torch.where(mask[:, t], values[:, t], 0.0)
        advantages[:, t] = following
    return advantages, torch.where(mask, advantages + values, 0.0)


def clipped_surrogate(
    new: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, cliprange: float
) -> tuple[Tensor, Tensor]:
    """PPO's clipped surrogate (Schulman et al. 2017, eq. 7), negated, of each token; and the share
    of tokens where the clip binds."""
    ratio = torch.where(mask, new - old, 0.0).exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    return torch.maximum(unclipped, clipped), masked_mean((clipped > unclipped).float(), mask)


def clipped_policy_loss(
    new: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, cliprange: float
) -> tuple[Tensor, Tensor]:
    """The mean of the clipped surrogate over tokens, as in TRL's PPO; and the share of tokens where
    the clip binds."""
    surrogate, share = clipped_surrogate(new, old, advantages, mask, cliprange)
    return masked_mean(surrogate, mask), share


def clipped_value_loss(
    new: Tensor, old: Tensor, returns: Tensor, mask: Tensor, cliprange: float
) -> tuple[Tensor, Tensor]:
    """Half the squared error of the value head, clipped around the old values; and the share of
    tokens where the clip binds."""
    near = torch.maximum(torch.minimum(new, old + cliprange), old - cliprange)
    unclipped, clipped = (new - returns) ** 2, (near - returns) ** 2
    loss = 0.5 * masked_mean(torch.maximum(unclipped, clipped), mask)
    return loss, masked_mean((clipped > unclipped).float(), mask)


def variance_explained(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns): 1 for a perfect value head, 0 for a useless one."""
    total = masked_var(returns, mask)
    return float(1 - masked_var(returns - values, mask) / total) if total > 0 else 0.0


def group_advantages(scores: Tensor, size: int, scale: bool) -> tuple[Tensor, Tensor]:
    """Advantages [B] of completions that stand in groups of `size` to a prompt, and the standard
    deviation [B / size] of each group's scores: (score - group mean) / (deviation + 1e-4) as in
    GRPO (Shao et al. 2024, section 4.1.2; TRL's 1e-4). Without `scale` the division is left out, as
    in "Dr. GRPO" (Liu et al. 2025). 0 in a group of equal scores."""
    groups = scores.view(-1, size)
    differ = (groups != groups[:, :1]).any(1, keepdim=True)  # or rounding would make a difference
    spread = torch.where(differ, groups.std(1, keepdim=True), 0.0)
    advantages = torch.where(differ, groups - groups.mean(1, keepdim=True), 0.0)
    if scale:
        advantages = advantages / (spread + 1e-4)
    return advantages.view(-1), spread[:, 0]


def preference_loss(margins: Tensor, targets: Tensor) -> Tensor:
    """Bradley-Terry loss [n] of margins r(chosen) - r(rejected): -log sigmoid(margin) where the
    target is 1 (Christiano et al. 2017, eq. 1); of a tie (½), half of each order's."""
    return torch.nn.functional.softplus(margins) - targets * margins


def dpo_loss(
    log_ratios: Tensor, targets: Tensor, beta: float, loss_type: str = "sigmoid"
) -> Tensor:
    """Loss [n] of pairs by log(π/ref)(chosen) - log(π/ref)(rejected).

    "sigmoid": DPO (Rafailov et al. 2023, eq. 7), the Bradley-Terry loss of beta times that.
    "ipo": the squared distance to 1 / (2·beta) (Azar et al. 2023, eq. 17), for log-ratios that are
    means over tokens, as in TRL. A tie's target is ½: no margin at all.
    """
    if loss_type == "ipo":
        return (log_ratios - (2 * targets - 1) / (2 * beta)) ** 2
    return preference_loss(beta * log_ratios, targets)
