"""Direct preference optimisation (Rafailov et al. 2023): preferences without a reward model.

The policy itself is read as a reward, beta·log(π/ref), and fitted to the pairs by Bradley-Terry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from .errors import LabError
from .formulas import dpo_loss
from .plots import Plot
from .policy import Policy
from .runs import History, Row
from .sampling import logprobs
from .sequences import Sequences
from .settings import DPOSettings
from .trainer import Trainer
from .trunk import Trunk

ROUNDING = 1e-4  # nats; before the first update the log-ratios are 0 up to this


@dataclass(frozen=True)
class TokenPair:
    """Two completions of a prompt as token ids. Target 1: `chosen` was preferred; ½: a tie."""

    prompt: str
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    target: float = 1.0
    weight: float = 1.0


def pair_of_texts(trunk: Trunk, prompt: str, chosen: str, rejected: str) -> TokenPair:
    """A pair from texts, as in TRL's preference format; each text ends with the end of sequence."""
    ids = trunk.tokenizer([chosen, rejected], add_special_tokens=False)["input_ids"]
    return TokenPair(prompt, *((*row, *trunk.end) for row in ids))


class DPO(Trainer):
    """Trains a copy of a reference policy on preference pairs.

    Args:
        reference: what the run starts from and is held close to. Its log-probs of the pairs are
            computed once.
        pairs: each weighs in the loss as much as its `weight` says.
        settings: see DPOSettings.
        run: where history and checkpoints go; an existing run is continued. None: memory only.
    """

    kind = "dpo"
    best_metric = "rewards/margins"
    plots = (
        Plot(
            "reward, beta · log(π/ref)",
            {"rewards/chosen": "of the chosen", "rewards/rejected": "of the rejected"},
            "reward of the chosen",
            "+.2f",
        ),
        Plot("accuracy", {"rewards/accuracies": "pairs in the right order"}, "accuracy"),
        Plot("margin", {"rewards/margins": "chosen less rejected"}, "margin", "+.2f"),
        Plot(
            "log-prob (nats)",
            {"logps/chosen": "log-prob of the chosen", "logps/rejected": "of the rejected ones"},
            "log-probs",
            ".1f",
        ),
        Plot("loss", {"loss": "loss of the update"}, "loss", from_zero=True),
    )

    def __init__(
        self,
        reference: Policy,
        pairs: Sequence[TokenPair],
        settings: DPOSettings | None = None,
        run: History | None = None,
    ) -> None:
        if not pairs:
            raise LabError("DPO needs at least one preference pair: rank some completions first.")
        self.reference, self.pairs = reference, list(pairs)
        self.policy = reference.copy()
        trunk = reference.trunk
        room = [max(len(p.chosen), len(p.rejected)) for p in pairs]
        prompts = [trunk.encode(p.prompt, r) for p, r in zip(pairs, room, strict=True)]
        self.chosen = Sequences(trunk, prompts, [p.chosen for p in pairs])
        self.rejected = Sequences(trunk, prompts, [p.rejected for p in pairs])
        self._reference_logps = torch.stack(
            [s.total_logprobs(reference) for s in (self.chosen, self.rejected)]
        )
        self._mean_weight = sum(p.weight for p in pairs) / len(pairs)
        super().__init__({"policy": self.policy}, settings or DPOSettings(), run)

    def begin(self) -> None:
        self.policy.start_from(self.reference)

    def twin(self, settings: DPOSettings, run: History) -> Self:
        return type(self)(self.reference, self.pairs, settings, run)

    def take(self) -> tuple[Row, list[Row]]:
        s = self._now
        rows = self.turn(len(self.pairs), min(s.batch_size, len(self.pairs)))
        at_once, found = max(1, s.micro_batch_size // 2), []
        for first in range(0, len(rows), at_once):
            loss, columns = self._loss(rows[first : first + at_once])
            self.descend(loss.sum() / len(rows))
            found.append(torch.cat([loss[:, None], columns], 1).detach().cpu())
        norm = self.apply_gradients()
        return self._metrics(rows, torch.cat(found), norm), self._texts(rows)

    def _loss(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Weighted losses [n], and [n, 4]: log-probs of chosen and rejected, log(π/ref) of both."""
        s, device = self._now, self.policy.trunk.device
        pairs = [self.pairs[i] for i in rows]
        logps = torch.stack(
            [
                logprobs(self.policy, sequences.samples(rows))[0].sum(1)
                for sequences in (self.chosen, self.rejected)
            ]
        )
        log_ratios = scaled = logps - self._reference_logps[:, rows]
        if s.loss_type == "ipo":  # means over tokens
            lengths = torch.tensor([[len(p.chosen), len(p.rejected)] for p in pairs], device=device)
            scaled = log_ratios / lengths.T.clamp(min=1)
        targets = torch.tensor([p.target for p in pairs], device=device)
        weights = torch.tensor([p.weight / self._mean_weight for p in pairs], device=device)
        loss = weights * dpo_loss(scaled[0] - scaled[1], targets, s.beta, s.loss_type)
        return loss, torch.cat([logps, log_ratios]).T

    def _metrics(self, rows: list[int], found: Tensor, norm: float) -> Row:
        """TRL's names. Accuracy is over strict pairs; equal rewards count half."""
        loss, chosen_logps, rejected_logps, *ratios = found.T
        chosen, rejected = (self._now.beta * r for r in ratios)
        strict = torch.tensor([self.pairs[i].target == 1 for i in rows])
        gap = ratios[0] - ratios[1]
        right = torch.where(gap.abs() < ROUNDING, 0.0, gap.sign())[strict] / 2 + 0.5
        return {
            "loss": loss.mean().item(),
            "rewards/chosen": chosen.mean().item(),
            "rewards/rejected": rejected.mean().item(),
            "rewards/margins": (chosen - rejected).mean().item(),
            "rewards/accuracies": right.mean().item() if len(right) else 0.5,
            "logps/chosen": chosen_logps.mean().item(),
            "logps/rejected": rejected_logps.mean().item(),
            "grad_norm": norm,
            "epoch": self.update * len(rows) / len(self.pairs),
            "learning_rate": self._now.learning_rate,
            "beta": self._now.beta,
        }

    def _texts(self, rows: list[int]) -> list[Row]:
        """The update's first pairs, to look at."""
        decode = self.policy.trunk.decode
        pairs = [self.pairs[i] for i in rows[:4]]
        return [
            {"prompt": p.prompt, "chosen": decode(list(p.chosen))}
            | {"rejected": decode(list(p.rejected)), "target": p.target}
            for p in pairs
        ]
