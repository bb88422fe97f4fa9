"""RLHF Lab: hold the whole loop of reinforcement learning from human feedback in your hands.

import lab
study = lab.Experiment("first")
study.rank()
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .errors import LabError

if TYPE_CHECKING:
    from .claims import claim
    from .continuations import kind_of
    from .demonstrations import Demonstration, load_demonstrations
    from .dpo import DPO
    from .experiment import Experiment
    from .grpo import GRPO
    from .next_token import next_tokens
    from .ppo import PPO
    from .pretraining import Pretraining
    from .prompts import Prompt, load_prompts
    from .raters import Rater
    from .refusals import is_refusal, refusal_rates
    from .reward_trainer import RewardTrainer
    from .sample import sample_study
    from .settings import (
        DPOSettings,
        GRPOSettings,
        PPOSettings,
        PretrainSettings,
        RewardSettings,
        SFTSettings,
    )
    from .sft import SFT
    from .store import PreferenceStore
    from .texts import Texts

__version__ = "0.1.0"

# Imported at first use, so that `import lab` takes no time: torch comes with the model.
_HOME = {
    "DPO": "dpo",
    "DPOSettings": "settings",
    "Demonstration": "demonstrations",
    "Experiment": "experiment",
    "GRPO": "grpo",
    "GRPOSettings": "settings",
    "PPO": "ppo",
    "PPOSettings": "settings",
    "PreferenceStore": "store",
    "PretrainSettings": "settings",
    "Pretraining": "pretraining",
    "Prompt": "prompts",
    "Rater": "raters",
    "RewardSettings": "settings",
    "RewardTrainer": "reward_trainer",
    "SFT": "sft",
    "SFTSettings": "settings",
    "Texts": "texts",
    "claim": "claims",
    "is_refusal": "refusals",
    "kind_of": "continuations",
    "load_demonstrations": "demonstrations",
    "load_prompts": "prompts",
    "next_tokens": "next_token",
    "refusal_rates": "refusals",
    "sample_study": "sample",
}
__all__ = [
    "DPO",
    "GRPO",
    "PPO",
    "SFT",
    "DPOSettings",
    "Demonstration",
    "Experiment",
    "GRPOSettings",
    "LabError",
    "PPOSettings",
    "PreferenceStore",
    "PretrainSettings",
    "Pretraining",
    "Prompt",
    "Rater",
    "RewardSettings",
    "RewardTrainer",
    "SFTSettings",
    "Texts",
    "claim",
    "is_refusal",
    "kind_of",
    "load_demonstrations",
    "load_prompts",
    "next_tokens",
    "refusal_rates",
    "sample_study",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
