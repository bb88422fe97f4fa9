"""The settings of training, each checked when it is given.

Names and meanings are TRL's, but for `kl_target`: with one, `kl_coef` is the price of KL at that
distance and less below; without, it is TRL's fixed price.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any, Self

import numpy as np

from .errors import BadSetting


def number(
    default: float | None, low: float, high: float, *, live: bool = False, optional: bool = False
) -> Any:
    """A number from low to high, whole where the bounds are. `live`: it may change between
    updates. `optional`: None turns off what it governs."""
    rule = {"low": low, "high": high, "live": live, "optional": optional}
    return field(default=default, metadata=rule)


def choice(default: str | bool, *options: str | bool) -> Any:
    """One of a few values."""
    return field(default=default, metadata={"options": options})


@dataclass(frozen=True)
class Settings:
    """What every trainer has. Those that are `live` may be changed between updates."""

    batch_size: int = number(32, 1, 1024)
    micro_batch_size: int = number(4, 1, 1024)  # rows in memory at once: gradients accumulate
    learning_rate: float = number(2e-4, 0.0, 1.0, live=True)
    max_grad_norm: float = number(1.0, 1e-3, 1e6)
    seed: int = number(0, 0, 2**31 - 1)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.generic):
                value = value.item()  # JSON knows no numbers of numpy's
                object.__setattr__(self, f.name, value)
            check(f, value)

    @classmethod
    def of(cls, settings: dict) -> Self:
        """Settings by name. Raises BadSetting for a name that there is not."""
        names = [f.name for f in fields(cls)]
        if unknown := sorted(set(settings) - set(names)):
            trainer = cls.__name__.removesuffix("Settings")
            raise BadSetting(f"Unknown setting {unknown[0]!r}. {trainer} has: {', '.join(names)}.")
        return cls(**settings)

    @classmethod
    def live(cls) -> list[str]:
        """Names of the settings that may be changed between updates."""
        return [f.name for f in fields(cls) if f.metadata.get("live")]


@dataclass(frozen=True)
class RolloutSettings(Settings):
    """What trainers have that sample and score."""

    max_new_tokens: int = number(24, 1, 4096)
    temperature: float = number(1.0, 0.05, 5.0, live=True)
    rollout_batch_size: int = number(64, 1, 1024)  # rows sampled at once
    missing_eos_penalty: float | None = number(None, 0.0, 1000.0, optional=True)
    score_clip: float | None = number(None, 1e-3, 1e6, optional=True)  # scores stay within ± this


@dataclass(frozen=True)
class PPOSettings(RolloutSettings):
    """Settings of PPO; `batch_size` counts episodes an update."""

    num_ppo_epochs: int = number(1, 1, 32)  # fresh episodes gain more for their time than old ones
    num_mini_batches: int = number(2, 1, 1024)
    kl_coef: float = number(0.15, 0.0, 100.0, live=True)
    # Nats; kl_coef is the price there. None: the price is fixed.
    kl_target: float | None = number(10.0, 0.01, 1000.0, live=True, optional=True)
    kl_estimator: str = choice("k1", "k1", "k3")
    gamma: float = number(1.0, 0.0, 1.0)
    lam: float = number(0.95, 0.0, 1.0)
    cliprange: float = number(0.2, 1e-3, 10.0, live=True)
    cliprange_value: float = number(0.2, 1e-3, 1000.0)
    vf_coef: float = number(0.1, 0.0, 100.0)
    whiten_rewards: bool = choice(False, False, True)
    # The epochs of an update end after one whose approxkl is above this.
    max_approxkl: float | None = number(None, 1e-6, 1000.0, optional=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_mini_batches > self.batch_size:
            raise BadSetting(
                f"num_mini_batches={self.num_mini_batches}: give at most batch_size, which is "
                f"{self.batch_size}."
            )


@dataclass(frozen=True)
class GRPOSettings(RolloutSettings):
    """Settings of GRPO; `batch_size` counts completions an update, groups of `num_generations`."""

    num_generations: int = number(8, 2, 64)
    num_iterations: int = number(1, 1, 32)
    beta: float = number(0.04, 0.0, 100.0, live=True)  # the price of KL in the loss
    epsilon: float = number(0.2, 1e-3, 10.0, live=True)
    scale_rewards: bool = choice(True, False, True)  # False: "Dr. GRPO" (Liu et al. 2025)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.num_generations:
            raise BadSetting(
                f"batch_size={self.batch_size}: give a multiple of num_generations, which is "
                f"{self.num_generations}."
            )


@dataclass(frozen=True)
class DPOSettings(Settings):
    """Settings of DPO; `batch_size` counts pairs an update."""

    learning_rate: float = number(1e-4, 0.0, 1.0, live=True)
    beta: float = number(0.1, 1e-3, 100.0, live=True)
    loss_type: str = choice("sigmoid", "sigmoid", "ipo")


@dataclass(frozen=True)
class SFTSettings(Settings):
    """Settings of supervised fine-tuning; `batch_size` counts demonstrations an update."""

    batch_size: int = number(8, 1, 1024)
    learning_rate: float = number(1e-4, 0.0, 1.0, live=True)


@dataclass(frozen=True)
class PretrainSettings(Settings):
    """Settings of pretraining; `batch_size` counts windows of text an update."""

    batch_size: int = number(16, 1, 1024)
    micro_batch_size: int = number(8, 1, 1024)  # half as fast again as 32 at once
    learning_rate: float = number(2.5e-3, 0.0, 1.0, live=True)  # the highest of the schedule
    window: int = number(128, 2, 4096)  # tokens
    warmup: int = number(100, 0, 100_000)  # updates over which the rate rises
    schedule: int = number(3600, 1, 1_000_000)  # updates over which it falls to a hundredth
    in_order: int = number(0, 0, 1_000_000)  # updates that read the text from its beginning


@dataclass(frozen=True)
class RewardSettings(Settings):
    """Settings of the reward model by gradient steps; `batch_size` counts pairs an update."""

    learning_rate: float = number(1e-3, 0.0, 1.0, live=True)
    weight_decay: float = number(0.01, 0.0, 100.0)
    layers: str = choice("head", "head", "top")  # "top": a copy of the top layers trains as well


def check(setting: Field, value: object) -> None:
    """Raises BadSetting with the setting's name, the value and what is allowed."""
    rule = setting.metadata
    if "options" in rule:
        if not any(value is o or (isinstance(o, str) and value == o) for o in rule["options"]):
            allowed = " or ".join(repr(o).replace("'", '"') for o in rule["options"])
            raise BadSetting(f"{setting.name}={value!r}: give {allowed}.")
        return
    if value is None and rule["optional"]:
        return
    low, high = rule["low"], rule["high"]
    whole = isinstance(low, int)
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        noun = "a whole number" if whole else "a number"
        raise BadSetting(f"{setting.name}={value!r}: give {noun} from {low} to {high}.")


def check_study(trainable: str | int, max_new_tokens: int, temperature: float, seed: int) -> None:
    """Raises BadSetting where a study could not train with these; before they are written down."""
    RolloutSettings(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    whole = isinstance(trainable, int) and not isinstance(trainable, bool) and trainable >= 1
    if trainable not in ("auto", "all") and not whole:
        raise BadSetting(f'trainable={trainable!r}: give "auto", "all" or a number of layers.')
