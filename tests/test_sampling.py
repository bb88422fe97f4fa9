"""What sampling keeps is what a plain pass of the whole model would say of the same tokens."""

from __future__ import annotations

import pytest
import torch
from helpers import EOS, FAMILIES, PAD, VOCAB, plain_logprobs, random_prompts, tiny_model
from helpers import tiny_tokenizer as tokenizer_of
from scipy.stats import chisquare

from lab.errors import BadSetting
from lab.sampling import draw, keep_nucleus, logprobs, pad_left, read, sample
from lab.trunk import Trunk

ENDS = range(3, 10)  # with these as ends of sequence too, about one token in eight ends
PROMPTS = [7, 1, 20, 3, 20, 12]


@pytest.mark.parametrize("temperature", [0.7, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_sampling_time_logprobs_are_those_of_the_whole_model(family, temperature, tiny_policy):
    policy, whole = tiny_policy(family, eos=ENDS), tiny_model(family)
    prompts = random_prompts(PROMPTS)
    samples = sample(policy, prompts, max_new_tokens=16, temperature=temperature, seed=1)
    assert len(set(samples.lengths.tolist())) > 2
    for i, completion in enumerate(samples.token_lists()):
        expected = plain_logprobs(whole, prompts[i], completion, temperature)
        assert (samples.logprobs[i, : len(completion)] - expected).abs().max() < 1e-5
        assert not samples.logprobs[i, len(completion) :].any()


@pytest.mark.parametrize("trainable", ["auto", "all"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_training_time_logprobs_are_the_sampled_ones_in_any_chunks(family, trainable, tiny_policy):
    reference = tiny_policy(family, trainable, eos=ENDS)
    policy = reference.copy()
    samples = sample(policy, random_prompts(PROMPTS), max_new_tokens=12, temperature=0.7, seed=2)
    for size in (1, 4, 6):
        chunks = [samples.rows(rows) for rows in torch.arange(len(samples)).split(size)]
        for of in (policy, reference):
            again = torch.cat([logprobs(of, chunk, 0.7)[0] for chunk in chunks])
            assert (again - samples.logprobs).abs().max() < 1e-5


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_features_of_a_rollout_are_those_read_from_its_stored_ids(family, tiny_policy):
    policy = tiny_policy(family, eos=ENDS)
    prompts = random_prompts(PROMPTS)
    samples = sample(policy, prompts, max_new_tokens=12, seed=3)
    completions = samples.token_lists()
    assert samples.finished.any()
    together = read(policy.trunk, prompts, completions)
    assert (samples.features() - together).abs().max() < 1e-5
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        alone = read(policy.trunk, [prompt], [completion])
        assert (together[i] - alone[0]).abs().max() < 1e-5
        ids = torch.tensor([[*prompt, *completion]])
        states = policy.trunk.read(ids, torch.ones_like(ids).bool())[1]
        assert (alone[0] - states[0, len(prompt) :].mean(0)).abs().max() < 1e-5  # the EOS as well


def test_rollout_states_of_the_last_token_are_real(tiny_policy):
    policy = tiny_policy()
    samples = sample(policy, random_prompts([4, 9]), max_new_tokens=5)
    tops, features = policy.trunk.read(samples.ids, samples.mask)
    assert (samples.inputs - tops)[samples.mask].abs().max() < 1e-5
    assert (samples.states - features)[samples.mask].abs().max() < 1e-5


def test_nothing_follows_the_end_of_sequence(tiny_policy):
    policy = tiny_policy(eos=ENDS)
    head = torch.nn.Linear(32, 1)
    prompts = random_prompts([5] * 40)
    samples = sample(policy, prompts, max_new_tokens=12, seed=4, value_head=head)
    ends = policy.trunk.eos_ids
    for i, ids in enumerate(samples.completion_ids.tolist()):
        length = int(samples.lengths[i])
        assert not ends & set(ids[: length - 1])
        assert bool(samples.finished[i]) == (ids[length - 1] in ends)
        assert set(ids[length:]) <= {PAD}
        assert samples.completion_mask[i].tolist() == [j < length for j in range(len(ids))]
        assert not samples.values[i, length:].any()
        assert samples.values[i, :length].all()
    assert 0 < samples.finished.sum() <= 40


def test_an_end_of_sequence_that_was_not_sampled_is_never_appended(tiny_policy):
    policy = tiny_policy()
    policy.trunk.eos_ids = frozenset()
    samples = sample(policy, random_prompts([4, 5]), max_new_tokens=7)
    assert samples.lengths.tolist() == [7, 7]
    assert not samples.finished.any()


@pytest.mark.parametrize("pad", ["<pad>", "<eos>", None])
def test_masks_come_from_lengths_whatever_the_pad_id(pad, tiny_policy):
    """The pad id may be the end of sequence, and it may be sampled as a word."""
    policy, whole = tiny_policy(tokenizer=tokenizer_of(pad=pad)), tiny_model()
    prompts = [[*row, policy.trunk.pad_id, 5] for row in random_prompts([2, 6] * 30)]
    samples = sample(policy, prompts, max_new_tokens=12, seed=5)
    assert samples.mask[:, : samples.prompt_width].sum(1).tolist() == [len(p) for p in prompts]
    completions = samples.token_lists()
    assert samples.lengths.tolist() == [len(c) for c in completions]
    assert any(PAD in c[:-1] for c in completions)
    assert any(c[-1] == EOS for c in completions)
    for i, completion in enumerate(completions):
        expected = plain_logprobs(whole, prompts[i], completion)
        assert (samples.logprobs[i, : len(completion)] - expected).abs().max() < 1e-5


def test_same_seed_same_tokens(tiny_policy):
    prompts = random_prompts([5, 9])
    first, again, other = (
        sample(tiny_policy(), prompts, max_new_tokens=10, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first.ids, again.ids)
    assert torch.equal(first.logprobs, again.logprobs)
    assert first.token_lists() != other.token_lists()


def test_two_policies_share_their_random_numbers(tiny_policy):
    reference = tiny_policy()
    reference.trunk.eos_ids = frozenset()
    policy = reference.copy()
    policy.trainable_state()["top.norm.weight"].mul_(1.002)
    prompts = random_prompts([5] * 30)
    ours, theirs, unrelated = (
        sample(p, prompts, max_new_tokens=1, seed=seed).completion_ids
        for p, seed in ((policy, 1), (reference, 1), (reference, 2))
    )
    assert (ours == theirs).float().mean() > 0.9
    assert (unrelated == theirs).float().mean() < 0.5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_distribution(temperature):
    logits = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(0)) * 1.5
    uniform = torch.rand(40_000, generator=torch.Generator().manual_seed(1))
    tokens, logprob = draw(logits.expand(len(uniform), -1), temperature, 1.0, uniform)
    expected = (logits[0] / temperature).log_softmax(-1)
    assert torch.allclose(logprob, expected[tokens], atol=1e-5)
    counts = tokens.bincount(minlength=VOCAB)
    common = expected.exp() * len(uniform) > 5
    seen = [*counts[common].tolist(), int(counts[~common].sum())]
    wanted = [*expected.exp().double()[common].tolist()]
    wanted = [w * len(uniform) for w in [*wanted, max(1e-9, 1 - sum(wanted))]]
    assert chisquare(seen, wanted, sum_check=False).pvalue > 1e-3


@pytest.mark.parametrize("size", [8, 49_152])
@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24, 0.5])
def test_extreme_uniforms_never_draw_what_has_no_mass(size, uniform):
    logits = torch.randn(4, size, generator=torch.Generator().manual_seed(0))
    logits[:, [0, 1, -2, -1]] = float("-inf")
    tokens, logprob = draw(logits, 1.0, 1.0, torch.full((4,), uniform))
    assert logprob.isfinite().all()
    assert {0.0: (tokens == 2).all(), 0.5: True}.get(uniform, (tokens >= size - 12).all())


def test_top_p_keeps_the_smallest_nucleus():
    probs = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25], [0.97, 0.01, 0.01, 0.01]])
    kept = keep_nucleus(probs, 0.65) > 0
    assert kept[0].tolist() == [False, True, False, True]
    assert kept.sum(1).tolist() == [2, 3, 1]
    assert torch.equal(keep_nucleus(probs, 0.65)[kept], probs[kept])
    assert (keep_nucleus(probs, 1e-9) > 0).sum(1).tolist() == [1, 1, 1]


def test_top_p_draws_in_proportion_inside_the_nucleus():
    probs = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(1))
    tokens, logprob = draw(probs.log().expand(len(uniform), -1), 1.0, 0.65, uniform)
    share = tokens.bincount(minlength=4) / len(uniform)
    assert (share - torch.tensor([0, 4 / 7, 0, 3 / 7])).abs().max() < 0.01
    assert torch.allclose(logprob, probs.log()[0][tokens])  # of the model, not of the nucleus


def test_temperature_zero_is_greedy(tiny_policy):
    policy, whole = tiny_policy(), tiny_model()
    prompts = random_prompts([6, 11])
    samples = sample(policy, prompts, max_new_tokens=6, temperature=0)
    with torch.no_grad():
        for prompt, completion in zip(prompts, samples.token_lists(), strict=True):
            logits = whole(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
            assert logits.argmax(-1).tolist() == completion
    assert (logprobs(policy, samples, 0)[0] - samples.logprobs).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", 5000),
        ("temperature", -0.1),
        ("temperature", 6),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("top_p", 1.1),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, value, tiny_policy):
    with pytest.raises(BadSetting, match=f"{name}={value}"):
        sample(tiny_policy(), [[5]], **{name: value})


def test_tokens_are_told_as_they_are_drawn(tiny_policy):
    told = []
    policy = tiny_policy(eos=range(3, 20))
    drawn = sample(policy, [[5], [6]] * 4, max_new_tokens=6, seed=1, on_token=told.append)
    whole = drawn.token_lists()
    assert len({len(row) for row in whole}) > 1
    for n, rows in enumerate(told, 1):
        assert rows == [row[:n] for row in whole]
    assert told[-1] == whole


def test_a_completion_without_tokens_has_features_zero(tiny_policy):
    trunk = tiny_policy().trunk
    assert not read(trunk, [[5], [6, 7]], [[], []]).any()
    assert not read(trunk, [[5], [6, 7]], [[], [8]])[0].any()


def test_padding_goes_left():
    ids, mask = pad_left([[5, 6], [7]], 9, "cpu")
    assert ids.tolist() == [[5, 6], [9, 7]]
    assert mask.tolist() == [[True, True], [False, True]]
    assert Trunk.pool(torch.ones(2, 2, 1), mask).tolist() == [[1], [1]]
