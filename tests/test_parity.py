"""The lab computes what TRL 1.12.0 computes, which is run beside it on tiny models.

Where TRL differs from the lab's normal mode, and how these tests meet it:

- TRL's critic is a model of its own; the lab's value head is linear, on the policy's last state, so
  that a text goes through one model. `Apart` gives the lab a critic; or else TRL is given a head on
  the policy (`trl_reference.SharedValue`).
- TRL puts the score of a completion that ended early one past its end-of-sequence token, where
  there is no action, and trains a value there; the lab puts it on the last token. `Apart` does as
  TRL does. Where every completion has the full length both are the same, and the lab's PPO is
  compared as it is.
- TRL takes every pad id for filler; the lab's masks come from lengths. `draw` draws none.
- TRL's `approxkl` and `ratio` are means over filler too, where they are 0 and 1; the lab's are over
  tokens. They are compared where there is no filler. `ratio_var` is TRL's variance between
  minibatches, the lab's between tokens.
- TRL's PPO divides by temperature + 1e-7, and doesn't clip gradients.
- With `gradient_accumulation_steps` TRL weighs each part of a batch alike, however few tokens it
  has, and steps after so many parts even where they belong to several minibatches. It is left at 1
  here, while the lab takes a few rows at a time and weighs them by their tokens.
- TRL's DPO ends every completion with EOS; the lab appends none that was not sampled. The pairs
  here all end with it.
- TRL's GRPO multiplies the KL by the ratio of probabilities unless `use_bias_correction_kl=False`;
  the lab's is that of the paper it names. It leaves positions to the model, so that GPT-2 counts
  filler on the left: GPT-2 gets prompts of one length here.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata

import pytest

if importlib.util.find_spec("trl") is None or metadata.version("trl") != "1.12.0":
    pytest.skip(
        "TRL 1.12.0 is not installed: pip install -e '.[parity]' -c constraints.txt",
        allow_module_level=True,
    )

import torch
import trl_reference as reference
from helpers import EOS, PAD, VOCAB, random_prompts, tiny_tokenizer
from torch import Tensor, nn
from trl_reference import LEARNING_RATE, LENGTHS, WIDTH, quiet

from lab.dpo import DPO, TokenPair
from lab.formulas import (
    clipped_policy_loss,
    clipped_value_loss,
    gae,
    group_advantages,
    kl_per_token,
    masked_mean,
    masked_var,
    preference_loss,
    token_rewards,
    whiten,
)
from lab.grpo import GRPO
from lab.policy import Policy
from lab.ppo import PPO
from lab.reward_trainer import RewardTrainer
from lab.samples import Samples
from lab.sampling import logprobs, sample
from lab.settings import DPOSettings, GRPOSettings, PPOSettings, RewardSettings
from lab.trunk import positions_of

with quiet():
    from trl.experimental.ppo import ppo_trainer as trl
    from trl.trainer.utils import selective_log_softmax

TOLERANCE = 1e-5
TWICE = LENGTHS * 2  # for whitening TRL wants eight to a minibatch
FULL = (WIDTH,) * 8

families = pytest.mark.parametrize("family", ["llama", "gpt2"])
splits = pytest.mark.parametrize(
    ("family", "trainable"), [("llama", 2), ("llama", "all"), ("gpt2", "all")]
)
temperatures = pytest.mark.parametrize("temperature", [0.7, 1.0])
whitening = pytest.mark.parametrize("whiten_rewards", [False, True])
minibatching = pytest.mark.parametrize("num_mini_batches", [1, 2])


def near(ours, theirs, mask: Tensor | None = None) -> bool:
    ours, theirs = torch.as_tensor(ours), torch.as_tensor(theirs)
    if mask is not None:
        ours, theirs = ours[mask], theirs[mask]
    return torch.allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE)


# Log-probs


@temperatures
@pytest.mark.parametrize("moved", [False, True])
@splits
def test_log_probs_of_our_samples_are_those_that_trl_finds(family, temperature, moved, trainable):
    """At sampling and afterwards, for the policy (moved) and for the reference."""
    unmoved = lab_policy(family, trainable)
    policy = unmoved.copy()
    load(policy, reference.language_model(family, trainable, moved))
    samples = sample(
        policy,
        random_prompts((1, 9, 4, 6, 2, 7) * 4),
        max_new_tokens=24,
        temperature=temperature,
    )
    mask, first = samples.completion_mask, samples.prompt_width - 1
    assert samples.finished.any()
    assert not samples.finished.all()
    filled = torch.where(samples.mask, samples.ids, VOCAB)  # an id that no model can draw
    for lab, moves in ((policy, moved), (unmoved, False)):
        theirs = reference.language_model(family, trainable, moves)
        with torch.no_grad():
            logits = trl.forward(theirs, filled, VOCAB).logits[:, first:-1]
            expected = selective_log_softmax(
                logits / (temperature + 1e-7), samples.completion_ids.where(mask, 0)
            )
            found = logprobs(lab, samples, temperature)[0]
        assert near(found, expected, mask)
        if lab is policy:
            assert near(samples.logprobs, expected, mask)


@families
@temperatures
def test_log_probs_of_what_trl_generates_are_its_own(family, temperature):
    """Those that TRL keeps are the scores of `generate`, with its key-value cache."""
    from transformers import GenerationConfig

    policy, theirs = lab_policy(family), reference.language_model(family)
    prompts = random_prompts((1, 9, 4, 6, 2, 7))
    queries = torch.tensor([[PAD] * (9 - len(p)) + p for p in prompts])
    config = GenerationConfig(
        max_new_tokens=12,
        temperature=temperature + 1e-7,
        top_k=0,
        top_p=1.0,
        do_sample=True,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    with quiet():
        ids, logits = trl.batch_generation(theirs, queries, 3, PAD, config)
    expected = selective_log_softmax(logits, ids[:, 9:])
    lengths = trl.first_true_indices(ids[:, 9:] == PAD)  # a pad that was drawn ends it, for TRL
    assert lengths.min() < lengths.max()
    samples = samples_of(policy, queries, ids[:, 9:], lengths)
    with torch.no_grad():
        found = logprobs(policy, samples, temperature)[0]
    assert near(found, expected, samples.completion_mask)


# Formulas, on the tensors that TRL's update had in its hands

KINDS = [
    {},
    {"temperature": 0.7, "whiten_rewards": True},
    {"kl_estimator": "k3", "kl_coef": 0.5, "missing_eos_penalty": 1.5},
    {"kl_estimator": "k3", "whiten_rewards": True, "gamma": 0.9, "lam": 0.8},
    {"lengths": TWICE, "num_mini_batches": 2, "cliprange": 0.1, "cliprange_value": 0.05},
]


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(kind) or "plain")
def trace(request, family) -> reference.Trace:
    return reference.ppo(family, **request.param)


@families
def test_whitening_masked_mean_and_variance_are_trls(family):
    for update in reference.ppo(family).updates:
        for values, mask in (
            (update.non_score_reward, ~update.padding_mask_p1),
            (update.values * 3 + 7, ~update.padding_mask),
        ):
            assert near(masked_mean(values, mask), trl.masked_mean(values, mask))
            assert near(masked_var(values, mask), trl.masked_var(values, mask))
            for shift in (True, False):
                theirs = trl.masked_whiten(values, mask, shift_mean=shift)
                assert near(whiten(values, mask, shift), theirs, mask)


@families
def test_kl_rewards_advantages_and_returns_are_trls(trace):
    args = trace.args
    for update in trace.updates:
        mask, rewarded = ~update.padding_mask, ~update.padding_mask_p1
        assert (rewarded & ~mask).any()  # somewhere TRL's score is past the end
        kl = kl_per_token(update.logprobs, update.ref_logprobs, args.kl_estimator)
        assert kl.abs().mean() > 1e-3
        assert near(kl, update.kl)
        assert near(-args.kl_coef * kl, update.non_score_reward)
        rewards = token_rewards(update.scores, kl, rewarded.sum(1), args.kl_coef)
        if args.whiten_rewards:
            rewards = whiten(rewards, rewarded, shift_mean=False)
        assert near(rewards, update.rewards)
        advantages, returns = gae(rewards, update.values, rewarded, args.gamma, args.lam)
        assert near(advantages, torch.stack(update.advantages_reversed[::-1], 1))
        assert near(returns, update.returns)
        assert near(whiten(advantages, mask), update.advantages)


@families
def test_policy_loss_value_loss_and_what_is_clipped_are_trls(trace):
    args, clips = trace.args, []
    for update in trace.updates:
        assert len(update.minibatches) == 2 * args.num_mini_batches
        for m in update.minibatches:
            mask = ~update.padding_mask[m["mini_batch_inds"]]
            rewarded = ~update.padding_mask_p1[m["mini_batch_inds"]]
            where = m["ppo_epoch_idx"], m["minibatch_idx"], 0
            loss, clipped = clipped_policy_loss(
                m["new_logprobs"], m["mb_logprobs"], m["mb_advantage"], mask, args.cliprange
            )
            assert near(loss, m["pg_loss"])
            assert near(clipped, update.pg_clipfrac_stats[where])
            value_loss, value_clipped = clipped_value_loss(
                m["vpred"], m["mb_values"], m["mb_return"], rewarded, args.cliprange_value
            )
            assert near(value_loss, m["vf_loss"])
            assert near(value_clipped, m["vf_clipfrac"])
            assert near(loss + args.vf_coef * value_loss, m["loss"])
            clips.append([clipped, value_clipped])
    assert torch.tensor(clips).amax(0).gt(0.1).all()


# Whole updates


@families
@temperatures
@whitening
@minibatching
def test_policy_and_critic_are_trls_after_each_of_two_updates(
    family, temperature, whiten_rewards, num_mini_batches
):
    options = {
        "lengths": TWICE,
        "temperature": temperature,
        "whiten_rewards": whiten_rewards,
        "num_mini_batches": num_mini_batches,
    }
    trace = reference.ppo(family, **options)
    for update in trace.updates:
        for m in update.minibatches:
            lengths = (~update.padding_mask[m["mini_batch_inds"]]).sum(1)
            assert (lengths == WIDTH).any()
            assert (lengths < WIDTH).any()
    follow(Apart(family, trace), trace)


@families
@pytest.mark.parametrize(
    "options",
    [
        {"kl_estimator": "k3", "kl_coef": 0.5, "missing_eos_penalty": 1.5},
        {"gamma": 0.9, "lam": 0.8, "cliprange": 0.1, "cliprange_value": 0.05, "vf_coef": 1.0},
    ],
    ids=lambda options: "-".join(options),
)
def test_policy_and_critic_are_trls_with_other_settings(family, options):
    trace = reference.ppo(family, **options)
    follow(Apart(family, trace), trace)


@families
@minibatching
def test_rows_that_go_through_a_few_at_a_time_weigh_as_much_as_they_have_tokens(
    family, num_mini_batches
):
    trace = reference.ppo(family, lengths=TWICE, num_mini_batches=num_mini_batches)
    follow(Apart(family, trace), trace)


@temperatures
@splits
@minibatching
def test_the_labs_ppo_as_it_is_is_trls_where_no_completion_ends_early(
    family, temperature, trainable, num_mini_batches
):
    """With a value head on the policy, on a trunk and its top or on the whole model, three rows at
    a time."""
    trace = reference.ppo(
        family,
        lengths=FULL,
        trainable=trainable,
        shared=True,
        temperature=temperature,
        num_mini_batches=num_mini_batches,
    )
    trainer = Fed(family, trace, trainable, micro_batch_size=3)
    rows = follow(trainer, trace)
    for row, update in zip(rows, trace.updates, strict=True):
        for name in ("policy/approxkl_avg", "val/ratio"):
            assert row[name] == pytest.approx(update.metrics[name], rel=1e-4, abs=TOLERANCE), name


SHARED_NAMES = [
    *(f"objective/{x}" for x in ("kl", "entropy", "scores", "non_score_reward", "rlhf_reward")),
    *("loss/policy_avg", "loss/value_avg", "policy/clipfrac_avg", "val/clipfrac_avg"),
    *("val/num_eos_tokens", "episode"),
]
SAME_SETTINGS = [
    *("num_ppo_epochs", "num_mini_batches", "kl_coef", "kl_estimator", "gamma", "lam", "cliprange"),
    *("cliprange_value", "vf_coef", "whiten_rewards", "temperature", "missing_eos_penalty"),
]


def follow(trainer: Fed, trace: reference.Trace) -> list[dict]:
    """Step beside TRL; after each update weights and metrics must be the same. Returns ours."""
    rows, before = [], dict(trace.start)
    for update in trace.updates:
        row = trainer.step()
        for ours, theirs in (
            (by_trls_names(trainer.policy, trainer.first.base_model_prefix), update.policy),
            (trainer.critic_state(), update.value),
        ):
            same_weights(ours, theirs)
        moved = {n: (p - before[n]).abs().max().item() for n, p in update.policy.items()}
        trained = {n for n, p in trainer.first.named_parameters() if p.requires_grad}
        assert by_trls_names(trainer.policy, trainer.first.base_model_prefix).keys() == trained
        assert all(moved[name] > 20 * TOLERANCE for name in trained), moved
        assert not any(moved[name] for name in moved.keys() - trained)
        before = update.policy
        for name in SHARED_NAMES:
            assert row[name] == pytest.approx(update.metrics[name], rel=1e-4, abs=TOLERANCE), name
        rows.append(row)
    return rows


# Preferences


@splits
@pytest.mark.parametrize(("loss_type", "beta"), [("sigmoid", 0.3), ("ipo", 0.5)])
def test_dpo_is_trls_pair_by_pair_and_step_by_step(family, loss_type, beta, trainable):
    """Log-probs, loss and rewards of each pair; then weights, with gradients clipped."""
    trace = reference.dpo(family, loss_type, beta, trainable)
    first = reference.language_model(family, trainable, moved=True)
    pairs = [TokenPair(reference.words(p), (*c, EOS), (*r, EOS)) for p, c, r in reference.PAIRS]
    settings = DPOSettings(
        batch_size=len(pairs),
        micro_batch_size=5,
        learning_rate=LEARNING_RATE,
        beta=beta,
        loss_type=loss_type,
    )
    trainer = DPO(lab_policy(family, trainable), pairs, settings)
    load(trainer.policy, first)
    for update in trace.updates:
        texts = [list(p.chosen) for p in pairs]
        order = [texts.index(x[m == 1].tolist()) for x, m in chosen_rows(update)]
        assert sorted(order) == list(range(len(pairs)))
        with torch.no_grad():
            loss, found = trainer._loss(order)
        chosen, rejected, *log_ratios = found.T
        assert near(loss, update.per_sequence_loss)
        assert near(chosen, update.chosen_logps)
        assert near(rejected, update.rejected_logps)
        assert near(log_ratios[0], update.chosen_logratios)
        assert near(log_ratios[1], update.rejected_logratios)
        row = trainer.step()
        for name in (
            *("loss", "grad_norm", "logps/chosen", "logps/rejected", "rewards/chosen"),
            *("rewards/rejected", "rewards/margins", "rewards/accuracies"),
        ):
            assert row[name] == pytest.approx(update.metrics[name], rel=TOLERANCE, abs=TOLERANCE)
        same_weights(by_trls_names(trainer.policy, first.base_model_prefix), update.policy)


def chosen_rows(update):
    """Token ids and completion mask of the chosen completion of each pair."""
    half = len(update.input_ids) // 2
    return zip(update.input_ids[:half], update.completion_mask[:half], strict=True)


def test_the_loss_of_the_reward_model_is_trls():
    trainer = RewardTrainer(
        lab_policy("llama", 1),
        [TokenPair(reference.words(p), (*c, EOS), (*r, EOS)) for p, c, r in reference.PAIRS],
        settings=RewardSettings(batch_size=len(reference.PAIRS), learning_rate=0.05),
    )
    for _ in range(3):
        trainer.step()
        rows = range(len(reference.PAIRS))
        with torch.no_grad():
            chosen, rejected = (trainer._rewards(trainer._features(i, rows)) for i in (0, 1))
        loss, metrics = reference.preference_loss(chosen, rejected)
        margins = trainer.margins(rows)
        assert near(preference_loss(margins, torch.ones(len(margins))).mean(), loss)
        ours = trainer._metrics(margins.detach(), rows)
        assert ours["loss"] == pytest.approx(loss, abs=TOLERANCE)
        for name in ("accuracy", "margin"):
            assert ours[name] == pytest.approx(metrics[name], abs=TOLERANCE), name


# GRPO


@families
@pytest.mark.parametrize("micro_batch_size", [5, 16])
@pytest.mark.parametrize(
    ("temperature", "beta", "epsilon", "scale_rewards"),
    [(1.0, 0.1, 0.2, "group"), (0.7, 0.5, 0.05, "none")],
)
def test_grpo_is_trls_on_what_trl_generates(
    family, micro_batch_size, temperature, beta, epsilon, scale_rewards
):
    trace = reference.grpo(
        family, temperature=temperature, beta=beta, epsilon=epsilon, scale_rewards=scale_rewards
    )
    trainer = FedGroups(
        lab_policy(family),
        lambda prompts, samples: [reference.reward_of_ids(ids) for ids in samples.token_lists()],
        ["w3"],
        GRPOSettings(
            batch_size=16,
            num_generations=reference.GROUP,
            num_iterations=2,
            micro_batch_size=micro_batch_size,
            learning_rate=LEARNING_RATE,
            temperature=temperature,
            beta=beta,
            epsilon=epsilon,
            scale_rewards=scale_rewards == "group",
        ),
    )
    trainer.trace, first = trace, reference.language_model(family, moved=True)
    load(trainer.policy, first)
    clipped = []
    for update in trace.updates:
        row = trainer.step()
        samples = trainer.samples
        mask = samples.completion_mask
        assert torch.equal(mask, update.completion_mask.bool())
        assert not samples.finished.all()
        assert samples.finished.any()
        assert near(samples.logprobs, update.old_per_token_logps, mask)
        assert near(trainer.reference_logprobs(samples), update.ref_per_token_logps, mask)
        scores = torch.tensor(trainer.score([], samples))
        advantages, _ = group_advantages(scores, reference.GROUP, scale_rewards == "group")
        assert near(advantages, update.advantages)
        same_weights(by_trls_names(trainer.policy, first.base_model_prefix), update.policy)
        theirs = update.metrics
        assert row["loss"] == pytest.approx(theirs["loss"], abs=TOLERANCE)
        assert row["objective/scores"] == pytest.approx(theirs["reward"])
        assert row["frac_reward_zero_std"] == theirs["frac_reward_zero_std"]
        assert row["val/length"] == pytest.approx(theirs["completions/mean_length"])
        assert row["kl"] == pytest.approx(theirs["kl"], abs=TOLERANCE)
        clipped.append(theirs["clip_ratio/region_mean"])
        assert row["policy/clipfrac_avg"] == pytest.approx(clipped[-1], abs=TOLERANCE)
    assert max(clipped) > 0.01


# The lab beside TRL


def same_weights(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours
    assert ours.keys() <= theirs.keys()
    apart = {name: (ours[name] - theirs[name]).abs().max().item() for name in ours}
    assert max(apart.values()) < TOLERANCE, apart


class Fed(PPO):
    """The lab's PPO as it is, on the completions and in the minibatches that TRL had."""

    def __init__(self, family: str, trace: reference.Trace, trainable="all", **settings) -> None:
        self.trace, self.scorer = trace, reference.classifier(family, seed=2)
        self.first = reference.language_model(family, trainable, moved=True)
        given = {
            "batch_size": trace.args.batch_size,
            "max_new_tokens": WIDTH,
            "learning_rate": LEARNING_RATE,
            "kl_target": None,
            "max_grad_norm": 1e6,
            **{name: getattr(trace.args, name) for name in SAME_SETTINGS},
        }
        super().__init__(
            lab_policy(family, trainable), self.scored, ["w3"], PPOSettings(**given | settings)
        )

    def begin(self) -> None:
        super().begin()
        load(self.policy, self.first)

    def rollout(self) -> tuple[list[str], Samples]:
        update = self.trace.updates[self.update - 1]
        lengths = (update.responses != PAD).sum(1)
        samples = samples_of(self.policy, update.queries, update.responses, lengths)
        with torch.no_grad():
            samples.logprobs, hidden = logprobs(self.policy, samples, self._now.temperature)
            samples.values = torch.where(
                self.reward_mask(samples), self.values(samples, hidden), 0.0
            )
        return ["w3"] * len(samples), samples

    def minibatches(self, count: int, epoch: int, minibatches: int):
        for m in self.trace.updates[self.update - 1].minibatches:
            if m["ppo_epoch_idx"] == epoch:
                yield torch.from_numpy(m["mini_batch_inds"])

    @torch.no_grad()
    def scored(self, prompts: list[str], samples: Samples) -> Tensor:
        """What TRL's reward model says of the last token."""
        last = samples.prompt_width + samples.lengths - 1
        return every_token(self.scorer, samples)[torch.arange(len(samples)), last]

    def critic_state(self) -> dict[str, Tensor]:
        return {f"score.{n}": p.detach() for n, p in self.value_head.named_parameters()}


class Apart(Fed):
    """With what TRL does and the lab does not: a critic apart, and the score one past the end."""

    def __init__(self, family: str, trace: reference.Trace, micro_batch_size: int = 3) -> None:
        self.critic = reference.classifier(family, seed=1)
        super().__init__(family, trace, micro_batch_size=micro_batch_size)
        self.modules = {"policy": self.policy, "critic": self.critic}
        self.parameters = list(self._trained().values())
        self.optimizer = self.make_optimizer()

    def rollout(self) -> tuple[list[str], Samples]:
        prompts, samples = super().rollout()
        return prompts, Untrimmed(**vars(samples))

    def reward_mask(self, samples: Samples) -> Tensor:
        columns = torch.arange(samples.completion_ids.shape[1])
        return columns <= samples.lengths[:, None]

    def values(self, samples: Samples, hidden: Tensor) -> Tensor:
        first = samples.prompt_width - 1
        return every_token(self.critic, samples)[:, first:-1]

    def critic_state(self) -> dict[str, Tensor]:
        return {n: p.detach() for n, p in self.critic.named_parameters()}


class FedGroups(GRPO):
    """The lab's GRPO as it is, on the completions that TRL generated."""

    trace: reference.Trace

    def rollout(self) -> tuple[list[str], Samples]:
        update = self.trace.updates[self.update - 1]
        lengths = update.completion_mask.sum(1)
        samples = samples_of(self.policy, update.prompt_ids, update.completion_ids, lengths)
        with torch.no_grad():
            samples.logprobs, _ = logprobs(self.policy, samples, self._now.temperature)
        return ["w3"] * len(samples), samples


class Untrimmed(Samples):
    """Samples that keep the column past the longest completion, where TRL may put a score."""

    def rows(self, index: Tensor) -> Samples:
        return Untrimmed(**vars(super().rows(index)))

    def trimmed(self) -> Samples:
        return self


def every_token(model: nn.Module, samples: Samples) -> Tensor:
    """The number of a classifier [B, P + C] at each token."""
    states = model.base_model(
        input_ids=samples.ids,
        attention_mask=samples.mask,
        position_ids=positions_of(samples.mask),
        use_cache=False,
    )
    return model.score(states.last_hidden_state).squeeze(-1)


def samples_of(policy: Policy, queries: Tensor, responses: Tensor, lengths: Tensor) -> Samples:
    """TRL's ids as the lab's samples, without log-probs and values."""
    tail = torch.arange(responses.shape[1]) < lengths[:, None]
    ids, mask = torch.cat([queries, responses], 1), torch.cat([queries != PAD, tail], 1)
    return Samples(
        ids=ids,
        mask=mask,
        prompt_width=queries.shape[1],
        lengths=lengths,
        finished=((responses == EOS) & tail).any(1),
        logprobs=torch.zeros(responses.shape),
        values=None,
        inputs=policy.inputs(ids, mask),
        states=torch.zeros(*ids.shape, 0),
    )


def lab_policy(family: str, trainable="all") -> Policy:
    """The lab's reference, of the weights of TRL's."""
    policy = Policy.from_model(reference.language_model(family), tiny_tokenizer(), trainable)
    assert policy.trunk.split == (trainable != "all" and family != "gpt2")
    return policy


def by_trls_names(policy: Policy, prefix: str) -> dict[str, Tensor]:
    """What trains in a policy of the lab."""
    below = policy.trunk.layers - policy.top.config.num_hidden_layers
    found = {}
    for name, tensor in policy.trainable_state().items():
        part, *rest = name.split(".")
        if rest[0] in ("layers", "h"):
            rest[1] = str(int(rest[1]) + below)
        found[".".join([{"top": prefix, "head": "lm_head"}[part], *rest])] = tensor
    return found


def load(policy: Policy, model: nn.Module) -> None:
    """Give a policy of the lab the weights of a whole model, where it trains."""
    theirs = dict(model.named_parameters())
    for name, tensor in by_trls_names(policy, model.base_model_prefix).items():
        tensor.copy_(theirs[name].data)
