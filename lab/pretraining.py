"""Pretraining: predict the next token of plain text. Where a base model comes from.

The loss is the mean of -log p(x_t | x_<t) over windows of a long row of tokens, documents laid end
to end (Bengio et al. 2003; Radford et al. 2018, equation 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from .errors import BadCorpus, BadSetting, DamagedStudy, UnsuitableModel
from .muon import Muon
from .plots import GRADIENT, Plot, loss_plot
from .policy import Policy
from .runs import History, Row
from .sampling import sample
from .settings import PretrainSettings
from .trainer import Trainer

MEASURED_EVERY = 20  # updates, for the loss on held-out text and for samples
HELD_OUT_WINDOWS = 16
OPENINGS = ("", "What is the moon?", "How do I make friends?", "Once upon a time")


class Pretraining(Trainer):
    """Trains a whole model on rows of tokens.

    Args:
        reference: what the run starts from, as a rule random weights. It must not be split.
        tokens: "train" and "heldout", a long row of token ids each; see `tokens_of`.
        settings: see PretrainSettings.
        run: where history and checkpoints go; an existing run is continued. None: memory only.
    """

    kind = "pretrain"
    best_metric = "mean_token_logprob"
    checkpoint_every = 50
    plots = (
        loss_plot("held-out text"),
        GRADIENT,
        Plot("learning rate", {"learning_rate": "learning rate"}, "rate", ".1e", from_zero=True),
    )

    def __init__(
        self,
        reference: Policy,
        tokens: dict[str, Tensor],
        settings: PretrainSettings | None = None,
        run: History | None = None,
    ) -> None:
        settings = settings or PretrainSettings()
        if reference.trunk.split:
            raise BadSetting('Pretraining trains the whole model: give the study trainable="all".')
        if settings.window > reference.trunk.context:
            raise BadSetting(
                f"window={settings.window}: the model's context is {reference.trunk.context}."
            )
        self.reference, self.tokens = reference, tokens
        self.windows = (len(tokens["train"]) - 1) // settings.window
        if self.windows < 1:
            raise BadCorpus(
                f"The text has {len(tokens['train'])} tokens, and a window is "
                f"{settings.window + 1}: give more text, or a smaller window."
            )
        self.policy = reference.copy()
        super().__init__({"policy": self.policy}, settings, run)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Muon for the matrices inside the model, AdamW for embeddings and vectors."""
        embeddings = [m for m in self.policy.top.modules() if isinstance(m, nn.Embedding)]
        outer = {id(layer.weight) for layer in (self.policy.head, *embeddings)}
        matrices = [p for p in self.parameters if p.ndim == 2 and id(p) not in outer]
        return Muon(matrices, self.parameters, self.settings.learning_rate)

    def begin(self) -> None:
        self.policy.start_from(self.reference)

    def twin(self, settings: PretrainSettings, run: History) -> Self:
        return type(self)(self.reference, self.tokens, settings, run)

    def rate(self) -> float:
        """Rises over `warmup` updates, then falls along half a cosine to a hundredth."""
        s = self._now
        past = min(1.0, max(0, self.update - s.warmup) / max(1, s.schedule - s.warmup))
        fallen = 0.01 + 0.495 * (1 + math.cos(math.pi * past))
        return s.learning_rate * min(1.0, self.update / max(1, s.warmup)) * fallen

    def take(self) -> tuple[Row, list[Row]]:
        s = self._now
        rows = self.next_windows()
        loss = 0.0
        for first in range(0, len(rows), s.micro_batch_size):
            part = self._cut("train", rows[first : first + s.micro_batch_size])
            part_loss = self.loss(part) * len(part) / len(rows)
            self.descend(part_loss)
            loss += part_loss.item()
        norm = self.apply_gradients()
        metrics = {
            "loss": loss,
            "mean_token_logprob": -loss,
            "grad_norm": norm,
            "num_tokens": len(rows) * s.window,
            "epoch": self.update * len(rows) / self.windows,
            "learning_rate": self.rate(),
        }
        if self.update > 1 and self.update % MEASURED_EVERY:
            return metrics, []
        if (heldout := self.evaluate()) is not None:
            metrics["eval_loss"] = heldout
        return metrics, self.samples()

    def next_windows(self) -> list[int]:
        """Which windows this update reads: at first those at the beginning of the text, in order,
        a curriculum (Bengio et al. 2009) where its beginning is easy; then shuffled passes."""
        size = self._now.batch_size
        if self.update > self._now.in_order:
            return self.turn(self.windows, size)
        return [i % self.windows for i in range((self.update - 1) * size, self.update * size)]

    def loss(self, windows: Tensor) -> Tensor:
        """Mean of -log p of each token [B, T + 1] but the first, given those before it."""
        seen, next_tokens = windows[:, :-1], windows[:, 1:]
        hidden = self.policy.hidden(seen, torch.ones_like(seen, dtype=torch.bool))
        return nn.functional.cross_entropy(
            self.policy.logits(hidden).flatten(0, 1), next_tokens.flatten()
        )

    @torch.no_grad()
    def evaluate(self) -> float | None:
        """Loss on the same few windows of held-out text each time; None without any."""
        count = min(HELD_OUT_WINDOWS, (len(self.tokens["heldout"]) - 1) // self._now.window)
        if count < 1:
            return None
        windows = (len(self.tokens["heldout"]) - 1) // self._now.window
        return self.loss(self._cut("heldout", range(0, windows, windows // count))).item()

    def samples(self) -> list[Row]:
        """What the model writes now, after a few openings; the first begins with nothing."""
        trunk = self.policy.trunk
        prompts = [trunk.encode(text) if text else trunk.end for text in OPENINGS]
        drawn = sample(self.policy, prompts, max_new_tokens=40, seed=self._now.seed)
        rows = zip(OPENINGS, drawn.token_lists(), strict=True)
        return [{"prompt": text, "completion": trunk.decode(ids)} for text, ids in rows]

    def _cut(self, part: str, rows: Sequence[int]) -> Tensor:
        """Windows [B, T + 1] of a row of tokens; neighbours share one token."""
        size, tokens = self._now.window, self.tokens[part]
        found = [tokens[i * size : (i + 1) * size + 1] for i in rows]
        return torch.stack(found).long().to(self.policy.device)


def tokens_of(tokenizer, texts: Sequence[str]) -> Tensor:
    """Documents end to end [N], each followed by the end of sequence, which begins the next."""
    end = tokenizer.eos_token_id
    if end is None:
        raise UnsuitableModel("The tokenizer has no end of sequence to put between documents.")
    rows: list[np.ndarray] = [np.array([end], np.int32)]
    for first in range(0, len(texts), 1024):
        part = list(texts[first : first + 1024])
        for ids in tokenizer(part, add_special_tokens=False)["input_ids"]:
            rows.append(np.array([*ids, end], np.int32))
    return torch.from_numpy(np.concatenate(rows))


def load_tokens(path: Path) -> dict[str, Tensor]:
    """The rows of tokens that a run is pinned to. Raises DamagedStudy."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
        return {part: found[part] for part in ("train", "heldout")}
    except (OSError, KeyError, SafetensorError) as error:
        raise DamagedStudy(f"{path} can't be read ({error}). Start a new run.") from error
