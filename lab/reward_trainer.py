"""The reward model by gradient steps: the textbook curve, one step at a time.

`reward.py` fits the same loss to its minimum after every ranking. Here it is gone down step by
step, with a copy of the top layers if wanted, for those who have hundreds of rankings or want to
see accuracy on held-out pairs rise and fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from .dpo import TokenPair
from .errors import LabError
from .formulas import preference_loss
from .plots import Plot
from .policy import Policy
from .runs import History, Row
from .samples import Samples
from .sequences import ROWS_AT_ONCE, Sequences
from .settings import RewardSettings
from .trainer import Trainer
from .trunk import Trunk


class RewardTrainer(Trainer):
    """Trains a linear head on preference pairs (Bradley-Terry, Christiano et al. 2017, eq. 1).

    With `layers="head"` it reads what the fitted reward model reads; with "top", the last hidden
    states of a copy of the top layers, which trains as well. Both pool over the completion's mean.
    Its metrics are of the pairs that train (with "top", of those of the update) and of the held-out
    ones, all after the step.

    Args:
        reference: whose trunk and top are read; they are not changed.
        pairs: what trains.
        heldout: what measures after each step, of prompts that do not train.
        settings: see RewardSettings.
        run: where history and checkpoints go; an existing run is continued. None: memory only.
    """

    kind = "reward"
    best_metric = "eval_accuracy"
    plots = (
        Plot("accuracy", {"accuracy": "of the update", "eval_accuracy": "held out"}, "accuracy"),
        Plot("loss", {"loss": "of the update", "eval_loss": "held out"}, "loss", from_zero=True),
        Plot("margin", {"margin": "of the update", "eval_margin": "held out"}, "margin", "+.2f"),
    )

    def __init__(
        self,
        reference: Policy,
        pairs: Sequence[TokenPair],
        heldout: Sequence[TokenPair] = (),
        settings: RewardSettings | None = None,
        run: History | None = None,
    ) -> None:
        if not pairs:
            raise LabError("The reward model needs at least one preference pair to train on.")
        settings = settings or RewardSettings()
        self.reference, self.pairs, self.heldout = reference, list(pairs), list(heldout)
        trunk = reference.trunk
        self.top = reference.copy() if settings.layers == "top" else None
        width = trunk.hidden_size * (1 if self.top else 2)
        self.head = nn.Linear(width, 1, bias=False).to(trunk.device)
        self.sides = [self._sequences(side) for side in ("chosen", "rejected")]
        self._known = None if self.top else [side.features() for side in self.sides]
        self.scale = self._unit()
        modules = {"head": self.head} | ({"top": self.top} if self.top else {})
        super().__init__(modules, settings, run)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW; its weight decay stands in for the L2 penalty of the fitted reward model."""
        s = self.settings
        return torch.optim.AdamW(
            self.parameters, s.learning_rate, weight_decay=s.weight_decay, fused=True
        )

    def begin(self) -> None:
        nn.init.zeros_(self.head.weight)
        if self.top:
            self.top.start_from(self.reference)

    def twin(self, settings: RewardSettings, run: History) -> Self:
        return type(self)(self.reference, self.pairs, self.heldout, settings, run)

    def take(self) -> tuple[Row, list[Row]]:
        s = self._now
        rows = self.turn(len(self.pairs), min(s.batch_size, len(self.pairs)))
        at_once = max(1, s.micro_batch_size // 2)
        total = sum(self.pairs[i].weight for i in rows)
        for first in range(0, len(rows), at_once):
            part = rows[first : first + at_once]
            loss = preference_loss(self.margins(part), self._column("target", part))
            self.descend((self._column("weight", part) * loss).sum() / total)
        norm = self.apply_gradients()
        seen = rows if self.top else range(len(self.pairs))  # all, where that costs nothing
        metrics = {
            **self._metrics(self._margins_of(seen), seen),
            "grad_norm": norm,
            "epoch": self.update * len(rows) / len(self.pairs),
            "learning_rate": s.learning_rate,
        }
        if self.heldout:
            rows = range(len(self.pairs), len(self.pairs) + len(self.heldout))
            measured = self._metrics(self._margins_of(rows), rows)
            metrics |= {f"eval_{name}": value for name, value in measured.items()}
        return metrics, self._texts()

    def margins(self, rows: Sequence[int]) -> Tensor:
        """r(chosen) - r(rejected) [n] of pairs; the held-out ones are numbered after the others."""
        return self._rewards(self._features(0, rows)) - self._rewards(self._features(1, rows))

    def score(self, prompts: Sequence[str], samples: Samples) -> Tensor:
        """Rewards [B] of a rollout, for PPO: comparable within a prompt."""
        with torch.no_grad():
            return self._rewards(self._pooled(samples))

    @torch.no_grad()
    def _margins_of(self, rows: Sequence[int]) -> Tensor:
        parts = torch.tensor(rows).split(ROWS_AT_ONCE)
        return torch.cat([self.margins(part.tolist()) for part in parts])

    @torch.no_grad()
    def _unit(self) -> Tensor:
        """The size of a feature difference at the start: divided by it, one learning rate suits
        every model."""
        first = range(min(len(self.pairs), 64))
        differences = self._features(0, first) - self._features(1, first)
        return differences.pow(2).mean().sqrt().clamp(min=1e-6)

    def _rewards(self, features: Tensor) -> Tensor:
        return self.head(features / self.scale).squeeze(-1)

    def _features(self, side: int, rows: Sequence[int]) -> Tensor:
        if self._known is not None:
            return self._known[side][list(rows)]
        return self._pooled(self.sides[side].samples(list(rows)))

    def _pooled(self, samples: Samples) -> Tensor:
        """What the head reads of each completion [B, width]: the mean over its tokens."""
        if self.top is None:
            return samples.features()
        hidden = self.top.hidden(samples.inputs, samples.mask)
        return Trunk.pool(hidden[:, samples.prompt_width :], samples.completion_mask)

    def _sequences(self, side: str) -> Sequences:
        pairs, trunk = [*self.pairs, *self.heldout], self.reference.trunk
        texts = [getattr(p, side) for p in pairs]
        prompts = [trunk.encode(p.prompt, len(t)) for p, t in zip(pairs, texts, strict=True)]
        return Sequences(trunk, prompts, texts)

    def _column(self, name: str, rows: Sequence[int]) -> Tensor:
        both = [*self.pairs, *self.heldout]
        return torch.tensor([float(getattr(both[i], name)) for i in rows], device=self.scale.device)

    def _metrics(self, margins: Tensor, rows: Sequence[int]) -> Row:
        """TRL's names. Accuracy and margin are over strict pairs; equal rewards count half."""
        target, weight = self._column("target", rows), self._column("weight", rows)
        strict = target == 1
        right = margins.sign()[strict] / 2 + 0.5
        return {
            "loss": (weight @ preference_loss(margins, target) / weight.sum()).item(),
            "accuracy": right.mean().item() if len(right) else 0.5,
            "margin": margins[strict].mean().item() if len(right) else 0.0,
        }

    def _texts(self) -> list[Row]:
        decode = self.reference.trunk.decode
        return [
            {"prompt": p.prompt, "chosen": decode(list(p.chosen))}
            | {"rejected": decode(list(p.rejected))}
            for p in (self.heldout or self.pairs)[:4]
        ]
