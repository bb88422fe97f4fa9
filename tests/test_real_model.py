"""What only the real model can show."""

from __future__ import annotations

import pytest
import torch
from helpers import same_metrics

from lab import catalog
from lab.policy import Policy
from lab.ppo import PPO
from lab.runs import Run
from lab.sampling import logprobs, read, sample
from lab.settings import PPOSettings

pytestmark = pytest.mark.model
PROMPTS = ["Why is the sky blue?", "Write two lines about snow, please, for my grandmother.", "Hi"]


@pytest.fixture(scope="module")
def reference() -> Policy:
    folder = catalog.fetch("smollm2", progress=False)
    return Policy.load(folder.path, chat_template=folder.chat_template)


def test_smollm2_is_split_into_22_frozen_layers_and_8_that_train(reference: Policy) -> None:
    trunk = reference.trunk
    assert trunk.split and len(trunk.body.layers) == 22 and len(reference.top.layers) == 8
    assert trunk.feature_layer == 15
    trained = sum(p.numel() for p in reference.copy().parameters() if p.requires_grad)
    assert trained == sum(p.numel() for p in reference.top.layers.parameters()) + 576


def test_a_prompt_is_one_user_turn_without_a_system_prompt(reference: Policy) -> None:
    ids = reference.trunk.encode("Hi")
    text = reference.trunk.tokenizer.decode(ids)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_log_probs_of_sampling_are_those_of_training(reference: Policy, temperature) -> None:
    prompts = [reference.trunk.encode(p) for p in PROMPTS]
    policy = reference.copy()
    samples = sample(policy, prompts, max_new_tokens=24, temperature=temperature, seed=3)
    with torch.no_grad():
        again, _ = logprobs(policy, samples, temperature)
    assert (again - samples.logprobs).abs().max() < 1e-4


def test_a_rollout_and_a_stored_completion_have_the_same_features(reference: Policy) -> None:
    prompts = [reference.trunk.encode(p) for p in PROMPTS]
    samples = sample(reference, prompts, max_new_tokens=40, temperature=0, seed=0)
    assert samples.finished.any(), "one that ends by itself is needed: its last token is pooled too"
    stored = read(reference.trunk, prompts, samples.token_lists())
    scale = samples.features().abs().mean()
    assert (stored - samples.features()).abs().max() / scale < 1e-3


def test_smollm2_knows_the_capital_of_france(reference: Policy) -> None:
    ids = [reference.trunk.encode("What is the capital of France?")]
    samples = sample(reference, ids, max_new_tokens=12, temperature=0)
    assert "Paris" in reference.trunk.decode(samples.token_lists()[0])


def test_a_run_rewound_or_opened_again_is_the_same_to_the_last_bit(reference, tmp_path) -> None:
    torch.set_num_threads(2)
    settings = PPOSettings(batch_size=6, max_new_tokens=8, num_ppo_epochs=2, learning_rate=1e-3)

    def score(prompts, samples) -> list[float]:
        return samples.lengths.tolist()

    folder = catalog.fetch("smollm2", progress=False)
    first = PPO(reference, score, PROMPTS, settings, Run(tmp_path / "ppo-1", {}))
    first.train(3)
    ids = first.samples.ids
    first.rewind(1)
    again = [first.step(), first.step()]
    assert all(map(same_metrics, again, first.history[1:]))
    assert torch.equal(first.samples.ids, ids)
    fresh = Policy.load(folder.path, chat_template=folder.chat_template)
    second = PPO(fresh, score, PROMPTS, settings, Run(tmp_path / "ppo-1"))
    second.rewind(2)
    second.step()
    for name, weight in second.snapshot()[0].items():
        assert torch.equal(weight, first.snapshot()[0][name])
