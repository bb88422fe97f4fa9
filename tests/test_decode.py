"""One token a row at a time says what the whole model says; a prompt is read once."""

from __future__ import annotations

import pytest
import torch
from helpers import build_policy, plain_logprobs, random_prompts, tiny_model

from lab import policy as policy_module
from lab import recall
from lab import trunk as module
from lab.decode import ROOM, Cache, decode
from lab.sampling import frozen_logprobs, logprobs, sample
from lab.split import find_layers
from lab.trunk import run_body

PROMPTS = random_prompts([3, 9, 1, 6])


def body_of(family: str, **config):
    body = tiny_model(family, **config).base_model
    return body, find_layers(body)[1]


@pytest.mark.parametrize(
    ("family", "plain"),
    [("llama", True), ("qwen2", True), ("qwen3", False), ("gemma3", False), ("gpt2", False)],
)
def test_only_layers_that_are_known_take_the_short_way(family, plain):
    body, layers = body_of(family)
    assert Cache(body, layers).plain == plain


def test_layers_with_a_window_do_not_begin_anywhere():
    for family, growing in (("llama", True), ("gemma3", False), ("qwen3", False)):
        body, layers = body_of(family)
        assert Cache(body, layers).growing == growing


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("tap", [0, 2])
def test_a_token_through_decode_is_a_token_through_the_models_own_forward(family, tap):
    body, layers = body_of(family)
    ids = torch.randint(3, 64, (4, 9))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, :5] = mask[2, :8] = False  # filler on the left
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)
    seen = []
    layers[1].register_forward_hook(lambda m, i, o: seen.append(o[0] if type(o) is tuple else o))
    with torch.no_grad():
        expected = run_body(body, ids, mask)[:, -1:]
        halfway = seen.pop()[:, -1:]
        cache = Cache(body, layers)
        run_body(body, ids[:, :-1], mask[:, :-1], cache, positions[:, :-1])
        found, tapped = decode(body, cache, ids[:, -1:], mask, positions[:, -1:], tap)
    assert torch.allclose(found, expected, atol=1e-5)
    if tap:
        assert torch.allclose(tapped, halfway, atol=1e-5)
    else:
        assert tapped is None


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3"])
def test_completions_longer_than_the_caches_room_are_those_of_the_whole_model(family):
    policy = build_policy(family, trainable=2)
    policy.trunk.eos_ids = frozenset()
    samples = sample(policy, PROMPTS, max_new_tokens=ROOM + 20, seed=4)
    model = tiny_model(family)
    for row, (prompt, ids) in enumerate(zip(PROMPTS, samples.token_lists(), strict=True)):
        expected = plain_logprobs(model, prompt, ids)
        assert (samples.logprobs[row] - expected).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3", "gpt2"])
def test_rows_that_have_ended_leave_the_batch_and_change_nothing_for_the_others(family):
    """With many ends the batch shrinks again and again; every number is still the model's own."""
    policy = build_policy(family, trainable=2, eos=range(3, 14))
    prompts, model = random_prompts([4, 2, 7, 5, 3, 6, 1, 8]), tiny_model(family)
    samples = sample(policy, prompts, max_new_tokens=20, seed=5)
    lengths = samples.lengths.tolist()
    assert len(set(lengths)) > 3, "completions of several lengths are needed"
    from lab.sampling import read

    stored = read(policy.trunk, prompts, samples.token_lists())
    assert torch.allclose(samples.features(), stored, atol=1e-5)
    for row, (prompt, ids) in enumerate(zip(prompts, samples.token_lists(), strict=True)):
        assert ids[-1] in policy.trunk.eos_ids or len(ids) == 20
        expected = plain_logprobs(model, prompt, ids)
        assert (samples.logprobs[row, : len(ids)] - expected).abs().max() < 1e-5
        assert not samples.logprobs[row, len(ids) :].any()


@pytest.mark.parametrize("rows", [1, 3])
def test_the_size_of_sampled_chunks_changes_no_token(rows):
    policy = build_policy(trainable=2, eos=range(3, 8))
    whole = sample(policy, PROMPTS * 2, max_new_tokens=12, seed=6)
    parts = sample(policy, PROMPTS * 2, max_new_tokens=12, seed=6, rows_at_once=rows)
    assert whole.token_lists() == parts.token_lists()
    assert torch.equal(whole.lengths, parts.lengths)
    width = min(whole.logprobs.shape[1], parts.logprobs.shape[1])
    assert torch.allclose(whole.logprobs[:, :width], parts.logprobs[:, :width], atol=1e-5)
    assert torch.allclose(whole.features(), parts.features(), atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "gpt_neox"])
def test_a_prompt_goes_through_the_trunk_once(family, monkeypatch):
    policy, calls = build_policy(family, trainable=2), []
    run = module.run_body

    def counting(body, inputs, *rest):
        if body is policy.trunk.body and inputs.shape[1] > 1:
            calls.append(inputs.shape)
        return run(body, inputs, *rest)

    monkeypatch.setattr(module, "run_body", counting)
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0]]
    first = sample(policy, prompts, max_new_tokens=5, seed=1)
    assert calls == [(1, 3), (1, 9)]
    again = sample(policy, prompts, max_new_tokens=5, seed=1)
    assert len(calls) == 2
    assert first.token_lists() == again.token_lists()
    assert torch.equal(first.logprobs, again.logprobs)


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "gpt_neox", "gemma3", "gpt2"])
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_a_reference_that_keeps_prompts_gives_the_same_log_probs(family, tokens):
    policy = build_policy(family, trainable=2, eos=range(3, 8))
    samples = sample(policy, PROMPTS, max_new_tokens=tokens, temperature=0.7, seed=3)
    with torch.no_grad():
        expected, _ = logprobs(policy, samples, 0.7)
    for _ in range(2):  # read, then remembered
        found = frozen_logprobs(policy, samples, 0.7)
        assert torch.allclose(found, expected, atol=1e-5)
    for rows, part in samples.chunks(2):
        found = frozen_logprobs(policy, part, 0.7)
        assert torch.allclose(found, expected[rows, : found.shape[1]], atol=1e-5)


def test_a_reference_reads_a_prompt_once(monkeypatch):
    policy, calls = build_policy(trainable=2), []
    samples = sample(policy, PROMPTS, max_new_tokens=5)
    run = policy_module.run_body

    def counting(body, inputs, *rest):
        calls.append(tuple(inputs.shape[:2]))
        return run(body, inputs, *rest)

    monkeypatch.setattr(policy_module, "run_body", counting)
    frozen_logprobs(policy, samples)
    assert calls == [(1, len(p)) for p in PROMPTS] + [(4, 4)]
    frozen_logprobs(policy, samples)
    assert calls[5:] == [(4, 4)]


def test_what_is_kept_of_a_prompt_depends_on_no_other():
    """Or a run that goes on in another process would not be the same to the last bit."""
    a, b = build_policy(trainable=2), build_policy(trainable=2)
    sample(a, PROMPTS, max_new_tokens=2)
    sample(b, PROMPTS[1:], max_new_tokens=2)
    found = [p.trunk._recall._of(p.trunk, tuple(PROMPTS[1])) for p in (a, b)]
    assert torch.equal(found[0].states, found[1].states)
    for n in range(2):
        assert torch.equal(found[0].keys[n], found[1].keys[n])
        assert torch.equal(found[0].values[n], found[1].values[n])


def test_a_prompt_is_read_again_for_another_number_of_threads():
    policy = build_policy(trainable=2)
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        sample(policy, PROMPTS[:1], max_new_tokens=2)
    assert list(policy.trunk._recall._kept) == [(2, tuple(PROMPTS[0])), (1, tuple(PROMPTS[0]))]


def test_prompts_that_are_kept_take_bounded_memory(monkeypatch):
    policy = build_policy(trainable=2)
    kept = policy.trunk._recall._kept
    sample(policy, [PROMPTS[1]], max_new_tokens=2)
    one = kept[1, tuple(PROMPTS[1])].megabytes
    assert one > 0
    monkeypatch.setattr(recall, "MEGABYTES", 2.5 * one)
    many = random_prompts([9] * 6, seed=3)
    sample(policy, many, max_new_tokens=2)
    assert list(kept) == [(1, tuple(p)) for p in many[-2:]], "the newest stay"


def test_policies_on_one_trunk_share_what_it_has_read():
    reference = build_policy(trainable=2)
    sample(reference, PROMPTS, max_new_tokens=2)
    assert len(reference.copy().trunk._recall._kept) == len(PROMPTS)


def test_the_trunks_prompts_survive_a_batch_that_shrinks():
    """The batch's cache is a copy: dropping rows from it must not touch what is kept."""
    policy = build_policy(trainable=2, eos=range(3, 40))
    before = [sample(policy, PROMPTS, max_new_tokens=9, seed=2).token_lists() for _ in range(2)]
    assert before[0] == before[1]
