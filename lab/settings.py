"""The settings of training, each checked when it is given."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from .errors import BadSetting


@dataclass(frozen=True)
class PPOSettings:
    """Names and meanings are TRL's. Those in LIVE may be changed between updates."""

    batch_size: int = 32  # episodes an update
    num_ppo_epochs: int = 1  # fresh episodes gain more for their time than second looks at old ones
    num_mini_batches: int = 2
    max_new_tokens: int = 24
    temperature: float = 1.0
    learning_rate: float = 2e-4
    kl_coef: float = 0.15
    kl_target: float | None = 10.0  # nats; kl_coef is the price there. None: the price is fixed
    kl_estimator: Literal["k1", "k3"] = "k1"
    gamma: float = 1.0
    lam: float = 0.95
    cliprange: float = 0.2
    cliprange_value: float = 0.2
    vf_coef: float = 0.1
    whiten_rewards: bool = False
    missing_eos_penalty: float | None = None
    max_grad_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is None and name in ("missing_eos_penalty", "kl_target"):
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise BadSetting(f"{name}={value!r}: give a number from {low} to {high}.")
            if not low <= value <= high:
                raise BadSetting(f"{name}={value}: give a number from {low} to {high}.")
            if name in WHOLE and not isinstance(value, int):
                raise BadSetting(f"{name}={value}: give a whole number from {low} to {high}.")
        if self.kl_estimator not in ("k1", "k3"):
            raise BadSetting(f'kl_estimator={self.kl_estimator!r}: give "k1" or "k3".')
        if self.num_mini_batches > self.batch_size:
            raise BadSetting(
                f"num_mini_batches={self.num_mini_batches}: give at most batch_size, which is "
                f"{self.batch_size}."
            )

    @classmethod
    def of(cls, settings: dict) -> PPOSettings:
        """Settings by name. Raises BadSetting for a name that there is not."""
        names = [f.name for f in fields(cls)]
        if unknown := sorted(set(settings) - set(names)):
            raise BadSetting(f"Unknown setting {unknown[0]!r}. PPO has: {', '.join(names)}.")
        return cls(**settings)


RANGES = {
    "batch_size": (1, 1024),
    "num_ppo_epochs": (1, 32),
    "num_mini_batches": (1, 1024),
    "max_new_tokens": (1, 4096),
    "temperature": (0.05, 5),
    "learning_rate": (0, 1),
    "kl_coef": (0, 100),
    "kl_target": (0.01, 1000),
    "gamma": (0, 1),
    "lam": (0, 1),
    "cliprange": (0.001, 10),
    "cliprange_value": (0.001, 1000),
    "vf_coef": (0, 100),
    "missing_eos_penalty": (0, 1000),
    "max_grad_norm": (0.001, 1e6),
    "seed": (0, 2**31 - 1),
}
WHOLE = ("batch_size", "num_ppo_epochs", "num_mini_batches", "max_new_tokens", "seed")
LIVE = ("learning_rate", "kl_coef", "kl_target", "cliprange", "temperature")
