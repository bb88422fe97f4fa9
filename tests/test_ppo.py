"""PPO raises the score it is given, from where it says it starts, and repeats itself exactly."""

from __future__ import annotations

import math
import re

import pytest
import torch
from helpers import build_policy, same_metrics

from lab import ppo as module
from lab.errors import BadSetting, LabError, PromptTooLong, TrainingStopped
from lab.formulas import adapted_kl_coef
from lab.ppo import PPO
from lab.settings import DPOSettings, GRPOSettings, PPOSettings, RewardSettings, SFTSettings

LIKED = 17
ENDS = range(3, 7)
PROMPTS = ["w20 w21 w22", "w23", "w24 w25", "w30 w31 w32 w33 w34", "w40"]
SMALL = {
    "batch_size": 8,
    "max_new_tokens": 6,
    "learning_rate": 3e-3,
    "num_ppo_epochs": 2,
    "num_mini_batches": 1,
    "kl_coef": 0.1,
    "kl_target": None,
}


def likes(prompts, samples) -> list[float]:
    """A score that wants one token, as often as it can be had."""
    return [float(row.count(LIKED)) for row in samples.token_lists()]


def start(score=likes, prompts=PROMPTS, run=None, policy=None, **settings) -> PPO:
    policy = policy or build_policy(trainable=2, eos=ENDS)
    return PPO(policy, score, prompts, PPOSettings(**{**SMALL, **settings}), run)


def state_of(*modules) -> list[torch.Tensor]:
    return [p.detach().clone() for m in modules for p in m.parameters()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("temperature", [0.7, 1.0])
@pytest.mark.parametrize("trainable", ["auto", "all"])
def test_the_first_epoch_finds_the_policy_that_sampled(family, temperature, trainable):
    policy = build_policy(family, trainable, eos=ENDS)
    ppo = start(policy=policy, temperature=temperature, num_ppo_epochs=1, learning_rate=1e-2)
    for metrics in (ppo.step(), ppo.step()):  # in the second update the policy has moved
        assert metrics["val/ratio"] == pytest.approx(1, abs=1e-4)
        assert metrics["val/ratio_var"] < 1e-8
        assert metrics["policy/approxkl_avg"] < 1e-8
        assert metrics["policy/clipfrac_avg"] == 0


@pytest.mark.parametrize("estimator", ["k1", "k3"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_untrained_policy_has_no_kl_to_its_reference(family, estimator):
    ppo = start(
        lambda p, s: [float(sum(row) % 7) for row in s.token_lists()],
        policy=build_policy(family, eos=ENDS),
        kl_estimator=estimator,
        temperature=0.7,
        learning_rate=1e-2,
    )
    assert abs(ppo.step()["objective/kl"]) < 1e-5
    assert abs(ppo.step()["objective/kl"]) > 1e-3


@pytest.mark.parametrize("trainable", [1, 2, "all"])
def test_reference_trunk_and_shared_head_never_change(trainable):
    reference = build_policy(trainable=trainable, eos=ENDS)
    before = state_of(reference, reference.trunk)
    ppo = start(policy=reference)
    ppo.train(2)
    assert same(before, state_of(reference, reference.trunk))
    assert not same(state_of(reference), state_of(ppo.policy))


@pytest.mark.parametrize("trainable", [1, "all"])
def test_every_trainable_weight_and_the_value_head_move(trainable):
    ppo = start(policy=build_policy(trainable=trainable, eos=ENDS, tie_word_embeddings=False))
    trained = ppo.policy.trainable_state()
    before = {k: v.clone() for k, v in trained.items()}
    head = state_of(ppo.value_head)
    ppo.train(2)
    assert [k for k, v in trained.items() if torch.equal(v, before[k])] == []
    assert not any(torch.equal(a, b) for a, b in zip(head, state_of(ppo.value_head), strict=True))
    in_optimizer = {id(p) for g in ppo.optimizer.param_groups for p in g["params"]}
    assert {id(p) for p in ppo.policy.parameters() if p.requires_grad} <= in_optimizer


def test_the_value_loss_trains_the_policys_top_too():
    ppo = start()
    ppo.step()
    torch.nn.init.normal_(ppo.value_head.weight)
    _, samples = ppo.rollout()
    before = state_of(ppo.policy.top)
    zeros = torch.zeros_like(samples.logprobs)  # no advantage: the policy loss has no gradient
    ppo.optimise(samples, zeros, zeros + 1)
    assert not any(torch.equal(a, b) for a, b in zip(before, state_of(ppo.policy.top), strict=True))


@pytest.mark.parametrize("trainable", [2, "all"])
def test_a_liked_token_becomes_frequent(trainable):
    ppo = start(
        policy=build_policy(trainable=trainable),
        batch_size=16,
        learning_rate=1e-2,
        kl_coef=0.01,
        num_ppo_epochs=4,
    )
    rows = ppo.train(15)
    first, last = (sum(r["objective/scores"] for r in part) / 3 for part in (rows[:3], rows[-3:]))
    assert first < 0.5
    assert last > first + 1.5
    assert rows[-1]["objective/kl"] > 1


def test_a_larger_kl_coef_keeps_the_policy_closer():
    loose, tight = (
        start(kl_coef=k, learning_rate=1e-2, num_ppo_epochs=4).train(10)[-1] for k in (0.0, 2.0)
    )
    assert tight["objective/kl"] < loose["objective/kl"] / 2


@pytest.mark.parametrize("target", [0.01, 1000.0])
def test_a_kl_target_sets_the_price_of_kl_by_the_kl_of_the_update(target):
    ppo = start(kl_target=target, learning_rate=0.05)
    for row in ppo.train(4):
        expected = adapted_kl_coef(0.1, row["objective/kl"], target)
        assert row["objective/kl_coef"] == pytest.approx(expected)
        penalty = -expected * row["objective/kl"]
        assert row["objective/non_score_reward"] == pytest.approx(penalty, abs=1e-6)
    assert ppo.settings.kl_coef == 0.1
    assert row["objective/kl"] > 3.6  # far enough above the smaller target to overflow an exp


def test_metrics_add_up():
    ppo = start(kl_coef=0.2, missing_eos_penalty=5.0)
    ppo.train(2)
    row = ppo.step()
    samples = ppo.samples
    raw = sum(likes([], samples)) / 8 - 5 * (1 - samples.finished.float().mean().item())
    assert row["objective/scores"] == pytest.approx(raw, abs=1e-5)
    assert row["objective/non_score_reward"] == pytest.approx(-0.2 * row["objective/kl"], abs=1e-5)
    total = row["objective/scores"] + row["objective/non_score_reward"]
    assert row["objective/rlhf_reward"] == pytest.approx(total)
    assert row["val/num_eos_tokens"] == int(samples.finished.sum())
    assert row["val/length"] == pytest.approx(samples.lengths.float().mean().item())
    assert (row["update"], row["episode"]) == (3, 24)
    entropy = -samples.logprobs.sum(1).mean().item()
    assert row["objective/entropy"] == pytest.approx(entropy, rel=1e-5)


def test_approxkl_and_ratio_are_means_over_tokens_and_not_over_filler():
    ppo = start(learning_rate=0.0)
    ppo._now, ppo.update = ppo.settings, 1
    _, samples = ppo.rollout()
    mask = samples.completion_mask
    assert not mask.all(), "completions of several lengths are needed"
    samples.logprobs = torch.where(mask, samples.logprobs - 0.1, 0.0)  # as if it had moved by 0.1
    row = ppo._minibatch(samples, torch.zeros(mask.shape), torch.zeros(mask.shape))
    assert row["policy/approxkl_avg"] == pytest.approx(0.5 * 0.1**2, abs=1e-5)
    assert row["val/ratio"] == pytest.approx(math.exp(0.1), abs=1e-5)
    assert row["val/ratio_var"] == pytest.approx(0, abs=1e-5)


def test_scores_are_clipped_before_the_penalty_for_a_missing_end():
    ppo = start(lambda p, s: [100.0, -100.0, 0.5, 0.5] * 2, score_clip=2.0, missing_eos_penalty=1.0)
    ppo.step()
    missing = (~ppo.samples.finished).float().tolist()
    expected = [x - m for x, m in zip([2.0, -2.0, 0.5, 0.5] * 2, missing, strict=True)]
    assert [s["score"] for s in ppo.last_samples] == pytest.approx(expected)


@pytest.mark.parametrize(("limit", "epochs"), [(None, 6), (1e-6, 2), (1000.0, 6)])
def test_epochs_end_where_the_policy_has_moved_too_far(limit, epochs):
    """In the first epoch the policy is that which sampled: the second is the first to be far."""
    ppo = start(num_ppo_epochs=6, max_approxkl=limit, learning_rate=1e-2)
    assert ppo.step()["policy/epochs"] == epochs


def test_the_size_of_rollout_chunks_changes_nothing_but_rounding():
    a, b = (start(rollout_batch_size=n, learning_rate=0.0).step() for n in (64, 3))
    for name in ("objective/kl", "objective/scores", "objective/entropy", "loss/value_avg"):
        assert a[name] == pytest.approx(b[name], abs=1e-5)


def test_same_seed_same_run_and_another_seed_another():
    runs = [start(seed=seed).train(3) for seed in (1, 1, 2)]
    assert all(same_metrics(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not same_metrics(runs[0][0], runs[2][0])


def test_global_random_numbers_have_no_part_in_a_run():
    torch.manual_seed(1)
    first = start().train(2)
    torch.manual_seed(2)
    ppo = start()
    torch.rand(7)
    assert same_metrics(first[1], ppo.train(2)[1])


def test_every_prompt_is_answered_once_a_pass_and_passes_differ():
    ppo = start(prompts=[f"w{i}" for i in range(10, 20)], batch_size=5)
    seen = [s["prompt"] for _ in range(4) for s in (ppo.step(), ppo.last_samples)[1]]
    assert sorted(seen[:10]) == sorted(seen[10:]) == sorted(ppo.prompts)
    assert seen[:10] != seen[10:]


@pytest.mark.parametrize("minibatches", [1, 3, 8])
@pytest.mark.parametrize("whiten", [False, True])
def test_minibatches_and_reward_whitening_train(minibatches, whiten):
    ppo = start(num_mini_batches=minibatches, whiten_rewards=whiten)
    assert all(math.isfinite(v) for row in ppo.train(2) for v in row.values())


@pytest.mark.parametrize(
    "settings",
    [{"batch_size": 1}, {"max_new_tokens": 1}, {"batch_size": 1, "max_new_tokens": 1}, {}],
)
@pytest.mark.parametrize("prompts", [PROMPTS, ["w9"]])
@pytest.mark.parametrize("whiten", [False, True])
def test_the_smallest_rollouts_with_equal_scores_stay_finite(settings, prompts, whiten):
    ppo = start(lambda p, s: [1.0] * len(s), prompts, whiten_rewards=whiten, **settings)
    assert all(math.isfinite(v) for row in ppo.train(2) for v in row.values())
    assert all(p.isfinite().all() for p in ppo.policy.parameters())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("max_new_tokens", 1.5),
        ("num_ppo_epochs", "2"),
        ("temperature", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", -1),
        ("kl_coef", True),
        ("kl_coef", None),
        ("kl_target", 0),
        ("gamma", 1.01),
        ("lam", -0.1),
        ("cliprange", 0),
        ("missing_eos_penalty", -1),
        ("seed", -1),
        ("kl_estimator", "k2"),
        ("num_mini_batches", 99),
        ("micro_batch_size", 0),
        ("rollout_batch_size", 1.0),
        ("score_clip", 0),
        ("max_approxkl", 0),
        ("whiten_rewards", 1),
        ("max_grad_norm", 0),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(BadSetting, match=rf"^{name}={value!r}: give"):
        PPOSettings(**{name: value})


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (GRPOSettings, "num_generations", 1),
        (GRPOSettings, "beta", -0.1),
        (GRPOSettings, "epsilon", 0),
        (DPOSettings, "beta", 0),
        (DPOSettings, "loss_type", "hinge"),
        (SFTSettings, "learning_rate", None),
        (RewardSettings, "layers", "all"),
        (RewardSettings, "weight_decay", -1),
    ],
)
def test_every_trainers_settings_are_checked(settings, name, value):
    shown = re.escape(repr(value))
    with pytest.raises(BadSetting, match=f"^{name}={shown}: give"):
        settings(**{name: value})
    with pytest.raises(BadSetting, match=f"'nonsense'. {settings.__name__[:-8]} has: "):
        settings.of({"nonsense": 1})


def test_unknown_settings_are_refused():
    with pytest.raises(BadSetting, match="'kl_coeff'"):
        PPOSettings.of({"kl_coeff": 0.1})
    assert PPOSettings.of({"kl_coef": 0.2}).kl_coef == 0.2


def test_only_live_settings_change_during_a_run():
    ppo = start()
    ppo.change(learning_rate=0.0, cliprange=0.3)
    before = state_of(ppo.policy)
    row = ppo.step()
    assert (row["learning_rate"], row["cliprange"]) == (0.0, 0.3)
    assert same(before, state_of(ppo.policy))
    with pytest.raises(BadSetting, match="batch_size can't be changed"):
        ppo.change(batch_size=4)
    with pytest.raises(BadSetting, match="learning_rate=2"):
        ppo.change(learning_rate=2)
    assert ppo.settings.learning_rate == 0.0


def test_no_prompts_is_an_error():
    with pytest.raises(LabError, match="at least one prompt"):
        start(prompts=[])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_stops_and_leaves_the_weights(bad):
    scores = iter([[1.0] * 8, [1.0] * 7 + [bad], [1.0] * 8])
    ppo = start(lambda p, s: next(scores))
    ppo.step()
    before = state_of(ppo.policy, ppo.value_head)
    with pytest.raises(TrainingStopped, match=r"Update 2 .*score.*weights"):
        ppo.step()
    assert same(before, state_of(ppo.policy, ppo.value_head))
    assert ppo.update == len(ppo.history) == 1
    assert ppo.step()["update"] == 2


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_loss_that_is_not_finite_in_any_epoch_leaves_the_update_undone(epoch, monkeypatch):
    ppo, twin = start(num_ppo_epochs=3), start(num_ppo_epochs=3)
    ppo.step()
    twin.step()
    before = state_of(ppo.policy, ppo.value_head)
    calls, loss = iter(range(1, 4)), module.clipped_policy_loss

    def broken(*args):
        value, share = loss(*args)
        return (value * float("nan") if next(calls) == epoch else value), share

    monkeypatch.setattr(module, "clipped_policy_loss", broken)
    with pytest.raises(TrainingStopped, match="Update 2"):
        ppo.step()
    assert same(before, state_of(ppo.policy, ppo.value_head))
    monkeypatch.undo()
    assert same_metrics(ppo.step(), twin.step())  # the optimizer's moments are back as well


def test_a_score_that_raises_leaves_the_run_where_it_was():
    fail, twin = [True], start()

    def score(prompts, samples):
        if fail.pop():
            raise KeyError("a score of the user's own went wrong")
        return likes(prompts, samples)

    ppo = start(score)
    with pytest.raises(KeyError):
        ppo.step()
    fail.append(False)
    assert ppo.update == 0
    assert same_metrics(ppo.step(), twin.step())


def test_a_prompt_too_long_leaves_the_run_where_it_was():
    ppo = start(prompts=["w5 " * 125])
    with pytest.raises(PromptTooLong):
        ppo.step()
    assert ppo.update == 0


@pytest.mark.parametrize("count", [7, 9])
def test_a_wrong_number_of_scores_is_an_error_of_the_labs_own(count):
    with pytest.raises(LabError, match="8"):
        start(lambda p, s: [1.0] * count).step()


def test_scores_may_be_a_tensor():
    start(lambda p, s: s.lengths.float()).step()


def test_a_snapshot_goes_back_as_often_as_wanted():
    ppo = start()
    ppo.step()
    snapshot = ppo.snapshot()
    onward = [ppo.step(), ppo.step()]
    for _ in range(2):
        ppo.restore(*snapshot)
        assert ppo.update == 1
        again = [ppo.step(), ppo.step()]
        assert all(same_metrics(a, b) for a, b in zip(onward, again, strict=True))


def test_a_snapshot_continues_in_another_trainer_bit_for_bit():
    one = start()
    one.train(2)
    tensors, state = one.snapshot()
    two = start()
    two.restore({k: v.clone() for k, v in tensors.items()}, state)
    for _ in range(2):
        assert same_metrics(one.step(), two.step())
    assert same(state_of(one.policy, one.value_head), state_of(two.policy, two.value_head))


def test_a_change_during_an_update_waits_for_the_next_one(tiny_policy) -> None:
    """Sampling at one temperature and learning at another would make every ratio wrong."""

    def meddle(prompts, samples):
        trainer.change(temperature=2.0)
        return [0.0] * len(prompts)

    settings = PPOSettings(batch_size=4, max_new_tokens=5, temperature=1.0)
    trainer = PPO(tiny_policy(), meddle, ["w3 w4"], settings)
    assert abs(trainer.step()["val/ratio"] - 1) < 0.01
    assert trainer.history[0]["temperature"] == 1.0
    assert trainer.settings.temperature == 2.0
