"""Perplexity, the bigram beside it, and how much of a text was seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lab.perplexity import Bigram, Perplexity, documents_of, perplexity, seen


def test_perplexity_is_that_of_the_whole_models_own_loss(tiny_policy) -> None:
    policy = tiny_policy()
    texts = ["1 2 3 4 5", "6 7 8"]
    found = perplexity(policy, texts)
    trunk, total, count = policy.trunk, 0.0, 0
    for ids in documents_of(trunk.tokenizer, trunk.end, texts):
        whole = torch.tensor([[*trunk.end, *ids]])
        hidden = policy.hidden(policy.inputs(whole, whole >= 0), whole >= 0)
        total += torch.nn.functional.cross_entropy(
            policy.logits(hidden)[0, :-1], whole[0, 1:], reduction="sum"
        ).item()
        count += len(ids)
    assert found.value == pytest.approx(math.exp(total / count), rel=1e-4)
    assert found.low <= found.value <= found.high and found.tokens == count


def test_an_interval_knows_that_the_tokens_of_a_document_belong_together() -> None:
    alike = Perplexity.of([10.0] * 8, [10] * 8)
    spread = Perplexity.of([5.0, 15.0] * 4, [10] * 8)
    assert alike.value == pytest.approx(spread.value) == pytest.approx(math.e)
    assert alike.high - alike.low < 1e-9 < spread.high - spread.low


def test_the_bigrams_probabilities_add_up_to_one() -> None:
    tokens = np.random.default_rng(0).integers(0, 20, 500)
    model = Bigram(tokens, 25)
    for last in (3, 24):  # one that was read, and one that never was
        total = sum(math.exp(model.logprobs([last, token])[0]) for token in range(25))
        assert total == pytest.approx(1)


def test_a_bigram_knows_what_follows_and_not_what_comes_two_later() -> None:
    tokens = [1, 2, 3, 4] * 200
    model = Bigram(tokens, 8)
    assert model.perplexity([[1, 2, 3, 4] * 5], end=4).value < 1.2
    assert model.perplexity([[1, 3, 2, 4] * 5], end=4).value > 100


def test_what_was_seen_is_counted_in_sequences_of_words() -> None:
    train = ["one two three four five"]
    assert seen(train, train, n=3) == 1 and seen(train, ["five four three two"], n=3) == 0
    assert seen(train, ["one two three six"], n=3) == 0.5
