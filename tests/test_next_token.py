"""The likeliest next tokens, with the model's own probabilities."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny_model, tiny_tokenizer

from lab.errors import BadSetting
from lab.next_token import next_tokens


def test_the_probabilities_are_those_of_the_whole_model(tiny_policy) -> None:
    found = next_tokens(tiny_policy(), "w5 w6", count=3)
    logits = tiny_model()(torch.tensor([[1, 5, 6]])).logits[0, -1]
    top = logits.softmax(-1).topk(3)
    words = [tiny_tokenizer().decode([i]) for i in top.indices.tolist()]
    assert [word for word, _ in found] == words
    assert [p for _, p in found] == pytest.approx(top.values.tolist(), abs=1e-5)


def test_a_lower_temperature_sharpens(tiny_policy) -> None:
    policy = tiny_policy()
    cold, warm = (next_tokens(policy, "w5", 1, t)[0][1] for t in (0.2, 2.0))
    assert cold > next_tokens(policy, "w5", 1)[0][1] > warm
    assert next_tokens(policy, "w5", 1, 0)[0][1] == pytest.approx(1)


def test_a_temperature_out_of_range_is_refused(tiny_policy) -> None:
    with pytest.raises(BadSetting):
        next_tokens(tiny_policy(), "w5", temperature=-1)
