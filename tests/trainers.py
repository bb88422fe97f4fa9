"""One of each kind of trainer, around a tiny random model."""

from __future__ import annotations

import torch
from helpers import build_policy

from lab.demonstrations import Demonstration
from lab.dpo import DPO, TokenPair
from lab.grpo import GRPO
from lab.ppo import PPO
from lab.pretraining import Pretraining
from lab.reward_trainer import RewardTrainer
from lab.settings import (
    DPOSettings,
    GRPOSettings,
    PPOSettings,
    PretrainSettings,
    RewardSettings,
    SFTSettings,
)
from lab.sft import SFT

PROMPTS = ["w20 w21 w22", "w23", "w24 w25", "w30 w31 w32 w33 w34", "w40"]
PAIRS = [
    TokenPair(PROMPTS[i % 5], (17, 5 + i, 17), (9 + i, 12), *rest)
    for i, rest in enumerate([(1.0, 1.0), (1.0, 0.5), (0.5, 0.5), (1.0, 1 / 6)] * 3)
]
HELDOUT = [TokenPair("w50 w51", (17, 6, 17), (19,)), TokenPair("w50 w51", (8, 8), (8, 17), 0.5)]
DEMONSTRATIONS = [
    Demonstration(p, f"w17 w17 w{18 + i}", "heldout" if i == 4 else "train")
    for i, p in enumerate(PROMPTS)
]
TOKENS = {"train": torch.arange(400) % 37 + 5, "heldout": torch.arange(90) % 37 + 5}
KINDS = ("ppo", "grpo", "dpo", "sft", "reward", "reward-top", "pretrain")


def likes(prompts, samples) -> list[float]:
    """A score that wants one token, as often as it can be had."""
    return [float(row.count(17)) for row in samples.token_lists()]


def make(kind: str, run=None, policy=None, **settings):
    """A trainer of a kind, with small settings."""
    policy = policy or build_policy(trainable=2, eos=range(3, 7))
    common = {"learning_rate": 3e-3, "micro_batch_size": 3, **settings}
    rollout = {"max_new_tokens": 6, **common}
    if kind == "ppo":
        mine = {"batch_size": 8, "num_ppo_epochs": 2, "kl_coef": 0.1, "kl_target": None, **rollout}
        return PPO(policy, likes, PROMPTS, PPOSettings(**mine), run)
    if kind == "grpo":
        mine = {"batch_size": 8, "num_generations": 4, "num_iterations": 2, **rollout}
        return GRPO(policy, likes, PROMPTS, GRPOSettings(**mine), run)
    if kind == "dpo":
        return DPO(policy, PAIRS, DPOSettings(**{"batch_size": 5, **common}), run)
    if kind == "sft":
        return SFT(policy, DEMONSTRATIONS, SFTSettings(**{"batch_size": 3, **common}), run)
    if kind == "pretrain":
        mine = {"batch_size": 4, "window": 8, "warmup": 0, "schedule": 1_000_000, **common}
        whole = build_policy(trainable="all", eos=range(3, 7))
        return Pretraining(whole, TOKENS, PretrainSettings(**mine), run)
    layers = "top" if kind == "reward-top" else "head"
    mine = {"batch_size": 5, "layers": layers, **common}
    return RewardTrainer(policy, PAIRS, HELDOUT, RewardSettings(**mine), run)
