"""Supervised fine-tuning: the likelihood of demonstrations, on their completions alone.

The step before RLHF (Ouyang et al. 2022, section 3.1), and how a model learns what it has never
sampled, such as refusing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from .demonstrations import Demonstration
from .errors import LabError
from .plots import GRADIENT, loss_plot
from .policy import Policy
from .runs import History, Row
from .sampling import logprobs
from .sequences import Sequences
from .settings import SFTSettings
from .trainer import Trainer


class SFT(Trainer):
    """Trains a copy of a reference policy on demonstrations.

    Args:
        reference: what the run starts from.
        demonstrations: those of split "heldout" are measured after each update as `eval_loss`.
        settings: see SFTSettings.
        run: where history and checkpoints go; an existing run is continued. None: memory only.
    """

    kind = "sft"
    best_metric = "mean_token_logprob"
    plots = (loss_plot("held-out demonstrations"), GRADIENT)

    def __init__(
        self,
        reference: Policy,
        demonstrations: Sequence[Demonstration],
        settings: SFTSettings | None = None,
        run: History | None = None,
    ) -> None:
        self.reference, self.demonstrations = reference, list(demonstrations)
        self.train_on = [d for d in demonstrations if d.split == "train"]
        if not self.train_on:
            raise LabError("SFT needs at least one demonstration to train on.")
        self.policy = reference.copy()
        self.sequences = self._encode(self.train_on)
        self.heldout = self._encode([d for d in demonstrations if d.split == "heldout"])
        super().__init__({"policy": self.policy}, settings or SFTSettings(), run)

    def begin(self) -> None:
        self.policy.start_from(self.reference)

    def twin(self, settings: SFTSettings, run: History) -> Self:
        return type(self)(self.reference, self.demonstrations, settings, run)

    def take(self) -> tuple[Row, list[Row]]:
        s = self._now
        rows = self.turn(len(self.train_on), min(s.batch_size, len(self.train_on)))
        total = sum(len(self.sequences.completions[i]) for i in rows)
        loss = 0.0
        for first in range(0, len(rows), s.micro_batch_size):
            part = self.sequences.samples(rows[first : first + s.micro_batch_size])
            part_loss = -logprobs(self.policy, part)[0].sum() / total
            self.descend(part_loss)
            loss += part_loss.item()
        norm = self.apply_gradients()
        metrics = {
            "loss": loss,
            "mean_token_logprob": -loss,
            "grad_norm": norm,
            "num_tokens": total,
            "epoch": self.update * len(rows) / len(self.train_on),
            "learning_rate": s.learning_rate,
        }
        if len(self.heldout):
            metrics["eval_loss"] = self.evaluate()
        shown = [self.train_on[i] for i in rows[:4]]
        return metrics, [{"prompt": d.prompt, "completion": d.completion} for d in shown]

    def evaluate(self) -> float:
        """Mean loss of a token of the held-out demonstrations."""
        total = self.heldout.total_logprobs(self.policy).sum().item()
        return -total / sum(map(len, self.heldout.completions))

    def _encode(self, demonstrations: Sequence[Demonstration]) -> Sequences:
        """Token ids; the end of sequence is part of what is learned."""
        trunk, prompts, completions = self.reference.trunk, [], []
        for d in demonstrations:
            ids = trunk.tokenizer(d.completion, add_special_tokens=False)["input_ids"]
            completions.append([*ids, *trunk.end])
            prompts.append(trunk.encode(d.prompt, len(completions[-1])))
        return Sequences(trunk, prompts, completions)
