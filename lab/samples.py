"""Completions of a batch of prompts, with all that training needs of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from .trunk import Trunk


@dataclass
class Samples:
    """Completions of a batch of prompts. B rows, P columns of prompt, C of completion, H hidden.

    Attributes:
        ids: token ids [B, P + C]; filler past the ends.
        mask: [B, P + C], true on real tokens. It comes from lengths, never from comparing ids.
        prompt_width: P.
        lengths: tokens of each completion [B], a sampled end-of-sequence token included.
        finished: [B], true where the model ended by itself.
        logprobs: log-prob of each sampled token [B, C] at the sampling temperature; 0 past the end.
        values: the value head's output before each token [B, C]; None unless asked for.
        inputs: what tops start from: trunk states [B, P + C, H], or `ids` without a split.
        states: what the reward head reads of each token [B, P + C, 2·H].
    """

    ids: Tensor
    mask: Tensor
    prompt_width: int
    lengths: Tensor
    finished: Tensor
    logprobs: Tensor
    values: Tensor | None
    inputs: Tensor
    states: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def completion_ids(self) -> Tensor:
        return self.ids[:, self.prompt_width :]

    @property
    def completion_mask(self) -> Tensor:
        return self.mask[:, self.prompt_width :]

    def token_lists(self) -> list[list[int]]:
        """Each completion's token ids, without filler."""
        rows = zip(self.completion_ids.tolist(), self.lengths.tolist(), strict=True)
        return [ids[:length] for ids, length in rows]

    def rows(self, index: Tensor) -> Samples:
        """The same, of some rows."""
        picked = {
            name: value[index] if isinstance(value, Tensor) else value
            for name, value in vars(self).items()
        }
        return Samples(**picked)

    def trimmed(self) -> Samples:
        """The same without columns that are filler in every row."""
        first = int((~self.mask[:, : self.prompt_width].any(0)).sum())
        width = int(self.lengths.max())
        stop = self.prompt_width + width
        return replace(
            self,
            prompt_width=self.prompt_width - first,
            logprobs=self.logprobs[:, :width],
            values=None if self.values is None else self.values[:, :width],
            **{n: getattr(self, n)[:, first:stop] for n in ("ids", "mask", "inputs", "states")},
        )

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Samples]]:
        """Row numbers and trimmed rows, `size` at a time, those of like length together."""
        for rows in self.mask.sum(1).argsort(stable=True).split(size):
            yield rows, self.rows(rows).trimmed()

    def features(self) -> Tensor:
        """What the reward head reads of each completion [B, 2·H]: the mean over its tokens."""
        return Trunk.pool(self.states[:, self.prompt_width :], self.completion_mask)


def join(parts: Sequence[Samples]) -> Samples:
    """Samples of several batches as one, with filler up to the longest prompt and completion."""
    left = max(p.prompt_width for p in parts)
    right = max(p.completion_ids.shape[1] for p in parts)

    def together(name: str, before: bool) -> Tensor:
        found = []
        for part in parts:
            value = getattr(part, name)
            missing = right - part.completion_ids.shape[1]
            margins = (left - part.prompt_width if before else 0, missing)
            found.append(pad(value, (0, 0) * (value.dim() - 2) + margins))
        return torch.cat(found)

    return Samples(
        prompt_width=left,
        lengths=torch.cat([p.lengths for p in parts]),
        finished=torch.cat([p.finished for p in parts]),
        logprobs=together("logprobs", before=False),
        values=None if parts[0].values is None else together("values", before=False),
        **{n: together(n, before=True) for n in ("ids", "mask", "inputs", "states")},
    )
