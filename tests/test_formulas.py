"""Each formula against its definition, written out the slow way."""

from __future__ import annotations

import math

import pytest
import torch

from lab.formulas import (
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

LENGTHS = [5, 1, 3, 4]
MASK = torch.arange(5)[None] < torch.tensor(LENGTHS)[:, None]


def noise(*shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spoiled(values: torch.Tensor) -> torch.Tensor:
    """The same, with NaN wherever there is no token."""
    return torch.where(MASK, values, float("nan"))


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_gae_is_the_discounted_sum_of_temporal_differences(gamma, lam):
    rewards, values = noise(4, 5), noise(4, 5, seed=1)
    advantages, returns = gae(spoiled(rewards), spoiled(values), MASK, gamma, lam)
    for i, n in enumerate(LENGTHS):
        v = [*values[i, :n].tolist(), 0.0]  # nothing is worth anything after the last token
        deltas = [float(rewards[i, t]) + gamma * v[t + 1] - v[t] for t in range(n)]
        for t in range(n):
            expected = sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, n))
            assert advantages[i, t] == pytest.approx(expected, abs=1e-5)
            assert returns[i, t] == pytest.approx(expected + v[t], abs=1e-5)
        assert not advantages[i, n:].any()
        assert not returns[i, n:].any()


def test_gae_without_discount_returns_the_sum_of_rewards_to_come():
    rewards, values = noise(4, 5), noise(4, 5, seed=1)
    _, returns = gae(rewards, values, MASK, 1.0, 1.0)
    for i, n in enumerate(LENGTHS):
        to_come = [float(rewards[i, t:n].sum()) for t in range(n)]
        assert returns[i, :n].tolist() == pytest.approx(to_come, abs=1e-5)


def test_masked_mean_and_variance_are_those_of_the_real_tokens():
    values = noise(4, 5)
    real = values[MASK]
    assert masked_mean(spoiled(values), MASK) == pytest.approx(real.mean().item())
    assert masked_var(spoiled(values), MASK) == pytest.approx(real.var(correction=1).item())


def test_whitening_divides_by_the_unbiased_deviation():
    values = noise(4, 5) * 3 + 7
    real = values[MASK]
    whitened = whiten(spoiled(values), MASK)
    expected = (real - real.mean()) / real.std(correction=1)
    assert torch.allclose(whitened[MASK], expected, atol=1e-5)
    kept = whiten(spoiled(values), MASK, shift_mean=False)
    assert torch.allclose(kept[MASK], expected + real.mean(), atol=1e-5)
    assert not whitened[~MASK].any()
    assert not kept[~MASK].any()


@pytest.mark.parametrize("values", [torch.full((2, 3), 5.0), torch.tensor([[5.0]])])
def test_whitening_equal_or_single_values_gives_zeros(values):
    assert not whiten(values, torch.ones_like(values, dtype=torch.bool)).any()


def test_k1_is_the_log_ratio_and_k3_its_expm1_form():
    policy, reference = noise(4, 5), noise(4, 5, seed=1)
    ratio = (reference - policy).double()
    assert torch.allclose(kl_per_token(policy, reference, "k1").double(), -ratio)
    k3 = kl_per_token(policy, reference, "k3")
    assert torch.allclose(k3.double(), ratio.exp() - 1 - ratio, atol=1e-5)
    assert (k3 >= 0).all()


def test_k3_of_nearby_policies_does_not_drown_in_rounding():
    policy = torch.full((1,), -2.0)
    difference = 1e-3
    k3 = kl_per_token(policy, policy + difference, "k3").item()
    assert k3 == pytest.approx(difference**2 / 2, rel=0.02)
    assert kl_per_token(policy, policy, "k3").item() == 0


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_kl_estimates_average_to_the_kl(estimator):
    p, q = noise(1, 6).softmax(-1)[0], noise(1, 6, seed=1).softmax(-1)[0]
    mean = (p * kl_per_token(p.log(), q.log(), estimator)).sum()
    assert mean.item() == pytest.approx((p * (p / q).log()).sum().item(), abs=1e-6)


def test_the_score_sits_on_the_last_token_and_the_penalty_on_each():
    kl, scores = noise(4, 5), torch.tensor([10.0, 20.0, 30.0, 40.0])
    kl = torch.where(MASK, kl, 0.0)
    rewards = token_rewards(scores, kl, torch.tensor(LENGTHS), 0.5)
    for i, n in enumerate(LENGTHS):
        expected = (-0.5 * kl[i]).tolist()
        expected[n - 1] += scores[i].item()
        assert rewards[i].tolist() == pytest.approx(expected)


def test_policy_loss_is_the_pessimistic_of_clipped_and_unclipped():
    old, new, advantages = noise(4, 5) * 0.3, noise(4, 5, seed=1) * 0.3, noise(4, 5, seed=2)
    loss, share = clipped_policy_loss(spoiled(new), spoiled(old), advantages, MASK, 0.2)
    losses, bound = [], []
    for n, o, a in zip(new[MASK].tolist(), old[MASK].tolist(), advantages[MASK].tolist()):  # noqa: B905
        ratio = math.exp(n - o)
        clipped = min(max(ratio, 0.8), 1.2)
        losses.append(-min(ratio * a, clipped * a))
        bound.append(clipped * a < ratio * a)
    assert loss.item() == pytest.approx(sum(losses) / len(losses), abs=1e-6)
    assert share.item() == pytest.approx(sum(bound) / len(bound))
    assert 0 < share < 1


@pytest.mark.parametrize(("advantage", "moves"), [(1.0, False), (-1.0, True)])
def test_a_ratio_past_the_clip_has_a_gradient_only_where_it_leads_back(advantage, moves):
    new = torch.tensor([[0.5]], requires_grad=True)
    one = torch.ones(1, 1)
    loss, share = clipped_policy_loss(new, torch.zeros(1, 1), advantage * one, one.bool(), 0.2)
    loss.backward()
    assert bool(new.grad.any()) == moves
    assert share == (not moves)


def test_filler_gets_no_gradient_even_where_it_is_nan():
    new = spoiled(noise(4, 5)).requires_grad_()
    old, advantages = spoiled(noise(4, 5, seed=1)), torch.where(MASK, noise(4, 5, seed=2), 0.0)
    clipped_policy_loss(new, old, advantages, MASK, 0.2)[0].backward()
    assert new.grad.isfinite().all()
    assert not new.grad[~MASK].any()


def test_value_loss_is_clipped_around_the_old_values():
    new, old, returns = noise(4, 5), noise(4, 5, seed=1), noise(4, 5, seed=2)
    loss, share = clipped_value_loss(spoiled(new), spoiled(old), spoiled(returns), MASK, 0.2)
    losses, bound = [], []
    for n, o, r in zip(new[MASK].tolist(), old[MASK].tolist(), returns[MASK].tolist()):  # noqa: B905
        near = min(max(n, o - 0.2), o + 0.2)
        losses.append(0.5 * max((n - r) ** 2, (near - r) ** 2))
        bound.append((near - r) ** 2 > (n - r) ** 2)
    assert loss.item() == pytest.approx(sum(losses) / len(losses), abs=1e-6)
    assert share.item() == pytest.approx(sum(bound) / len(bound))
    assert 0 < share < 1


def test_variance_explained_is_one_for_a_perfect_head_and_zero_for_none():
    returns = noise(4, 5)
    assert variance_explained(returns, returns, MASK) == pytest.approx(1)
    assert variance_explained(torch.zeros(4, 5), returns, MASK) == pytest.approx(0)
    assert variance_explained(returns, torch.ones(4, 5), MASK) == 0  # nothing to explain


def test_the_adapted_kl_coef_is_the_given_one_at_the_target_and_dearer_above():
    assert adapted_kl_coef(0.1, 8, 8) == pytest.approx(0.1)
    assert adapted_kl_coef(0.1, 0, 8) == pytest.approx(0.1 / math.e**4)
    assert adapted_kl_coef(0.1, 12, 8) == pytest.approx(0.1 * math.e**2)
    prices = [adapted_kl_coef(0.1, kl, 8) for kl in range(-10, 40)]
    assert prices == sorted(prices)


@pytest.mark.parametrize("target", [0.01, 8, 1000])
@pytest.mark.parametrize("kl", [-100, 0, 7.9, 1e6])
@pytest.mark.parametrize("kl_coef", [0, 0.1, 100])
def test_the_adapted_kl_coef_is_never_more_than_twenty_times_the_given(kl_coef, kl, target):
    assert 0 <= adapted_kl_coef(kl_coef, kl, target) <= 20 * kl_coef
