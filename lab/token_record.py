"""What PPO and GRPO note down of every token of a rollout while they train on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .samples import Samples


class TokenRecord:
    """Filled in by a trainer, in passing: it keeps tensors that are there anyway, and puts them
    into words and numbers only at the end of the update, for the few rows that are kept."""

    def __init__(self) -> None:
        self._minibatches: list[tuple[Tensor | None, Tensor]] = []
        self._samples: Samples | None = None
        self._numbers: dict[str, Tensor] = {}
        self._cliprange = 0.0

    def rollout(
        self,
        samples: Samples,
        cliprange: float,
        advantages: Tensor,
        reference: Tensor,
        kl: Tensor,
        **numbers: Tensor,
    ) -> None:
        """The rollout, where the clip begins, and numbers of its tokens [B, C]: advantages as they
        are trained on (or one a row [B]), log-probs under the reference, KL, and what else a
        trainer has."""
        self._samples, self._cliprange = samples, cliprange
        if advantages.dim() == 1:
            advantages = advantages[:, None].expand_as(kl)
        self._numbers = {"logprobs": samples.logprobs, "reference": reference, "kl": kl}
        if samples.values is not None:
            self._numbers["values"] = samples.values
        self._numbers |= {"advantages": advantages, **numbers}

    def minibatch(self, log_ratio: Tensor, rows: Tensor | None = None) -> None:
        """log(new / old) of tokens [b, C] just before a step of the optimizer; `rows` says which
        of the rollout they are (None: all of it)."""
        self._minibatches.append((rows, log_ratio))

    def kept(self, count: int) -> dict[str, Any]:
        """What is kept of the first `count` rows, as JSON can hold it:

        - `cliprange`, and of each epoch `clipfrac`: the share of all the rollout's tokens where
          the clip binds;
        - `rows`, each with its `ids`; lists as long: `logprobs` at sampling, `values` and what
          `rollout` was given; and by epoch `log_ratios` and `clipped`.

        Numbers have five significant digits.
        """
        samples = self._samples
        if samples is None:
            return {"rows": []}
        epochs = self._epochs(samples)
        clipped = [clip_binds(e, self._numbers["advantages"], self._cliprange) for e in epochs]
        real = samples.completion_mask
        numbers = {name: value[:count].tolist() for name, value in self._numbers.items()}
        ratios = [epoch[:count].tolist() for epoch in epochs]
        binds = [(binding & real)[:count].int().tolist() for binding in clipped]
        rows = []
        for row, ids in enumerate(samples.token_lists()[:count]):
            n = len(ids)
            rows.append(
                {
                    "ids": ids,
                    **{name: short(value[row][:n]) for name, value in numbers.items()},
                    "log_ratios": [short(epoch[row][:n]) for epoch in ratios],
                    "clipped": [epoch[row][:n] for epoch in binds],
                }
            )
        shares = [(binding & real).sum().item() / real.sum().item() for binding in clipped]
        return {"cliprange": self._cliprange, "clipfrac": short(shares), "rows": rows}

    def _epochs(self, samples: Samples) -> list[Tensor]:
        """Log-ratios [B, C] of each epoch: a row's first minibatch is in the first, and so on."""
        epochs: list[Tensor] = []
        seen = [0] * len(samples)
        for rows, log_ratio in self._minibatches:
            rows = torch.arange(len(samples)) if rows is None else rows
            epoch = seen[int(rows[0])]
            if epoch == len(epochs):
                epochs.append(torch.zeros_like(samples.logprobs))
            epochs[epoch][rows] = log_ratio
            for row in rows.tolist():
                seen[row] += 1
        return epochs


def clip_binds(log_ratio: Tensor, advantages: Tensor, cliprange: float) -> Tensor:
    """Where PPO's clip binds: the ratio has left 1 ± cliprange on the side that the advantage
    pushes to, so that the token has no gradient (Schulman et al. 2017, eq. 7)."""
    ratio = log_ratio.exp()
    near = ratio.clamp(1 - cliprange, 1 + cliprange)
    return -advantages * near > -advantages * ratio


def short(values: list[float]) -> list[float]:
    """Five significant digits."""
    return [float(f"{value:.5g}") for value in values]
