"""Log-probs of tokens and their gradients are those of the plain softmax, in any chunks."""

from __future__ import annotations

import pytest
import torch
from helpers import build_policy

from lab import logprobs as module
from lab.logprobs import TokenLogprobs


def inputs(n: int = 11, width: int = 6, vocabulary: int = 19):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(n, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64)
    return hidden, weight, torch.randint(vocabulary, (n,), generator=generator)


def plain(hidden, weight, tokens, temperature):
    rows = (hidden @ weight.t() / temperature).log_softmax(-1)
    return rows[torch.arange(len(tokens)), tokens]


@pytest.mark.parametrize("rows", [1, 4, 256])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("trained", ["hidden", "weight", "both"])
def test_values_and_gradients_are_those_of_autograd(rows, temperature, trained, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows)
    hidden, weight, tokens = inputs()
    hidden.requires_grad_(trained != "weight")
    weight.requires_grad_(trained != "hidden")
    leaves = [x for x in (hidden, weight) if x.requires_grad]
    direction = torch.linspace(-1, 2, len(tokens), dtype=torch.float64)
    ours = TokenLogprobs.apply(hidden, weight, tokens, temperature)
    expected = plain(hidden, weight, tokens, temperature)
    assert torch.allclose(ours, expected, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(ours @ direction, leaves),
        torch.autograd.grad(expected @ direction, leaves),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-12)


def test_logits_of_any_size_do_not_overflow():
    hidden, weight, tokens = inputs()
    ours = TokenLogprobs.apply(1e4 * hidden, weight, tokens, 1.0)
    assert torch.allclose(ours, plain(1e4 * hidden, weight, tokens, 1.0))
    assert ours.isfinite().all()


def test_no_token_has_no_log_prob():
    hidden, weight, _ = inputs()
    none = TokenLogprobs.apply(hidden[:0], weight, torch.zeros(0, dtype=torch.long), 1.0)
    assert none.shape == (0,)


def test_logits_of_a_rollout_are_never_kept_for_the_backward_pass(tiny_policy):
    policy = tiny_policy(trainable=2).copy()
    hidden = torch.randn(40, 32, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        policy.token_logprobs(hidden, torch.arange(40), 0.7).sum().backward()
    assert not any(t.shape == (40, 64) for t in kept)


@pytest.mark.parametrize("family", ["llama", "gpt2", "granite"])
@pytest.mark.parametrize("trainable", [2, "all"])
def test_every_familys_own_logits_are_used(family, trainable):
    """Granite scales its logits."""
    policy = build_policy(family, trainable).copy()
    hidden = torch.randn(9, 32, requires_grad=True)
    tokens = torch.arange(9)
    found = policy.token_logprobs(hidden, tokens, 0.7)
    expected = (policy.logits(hidden) / 0.7).log_softmax(-1)[tokens, tokens]
    assert torch.allclose(found, expected, atol=1e-5)
    weights = [p for p in policy.head.parameters() if p.requires_grad]
    for a, b in zip(
        torch.autograd.grad(found.sum(), [hidden, *weights], retain_graph=True),
        torch.autograd.grad(expected.sum(), [hidden, *weights]),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-5)
