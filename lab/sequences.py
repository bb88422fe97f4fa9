"""Prompts with given completions, as DPO, SFT and the reward model train on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .policy import Policy
from .samples import Samples
from .sampling import logprobs, pad_left
from .trunk import Trunk

STATES_KEPT = 512e6  # bytes of trunk states; what is beyond is read again each time
ROWS_AT_ONCE = 16


class Sequences:
    """Token ids of prompts and completions, and the trunk's states of them, which never change.

    The states are read at first use, all of them, in batches that do not depend on what trains: the
    same numbers come again when a run is continued. Too many to keep are read as they are needed.

    Args:
        completions: token ids, a sampled or appended end-of-sequence token included; may be empty.
    """

    def __init__(
        self, trunk: Trunk, prompts: Sequence[list[int]], completions: Sequence[Sequence[int]]
    ) -> None:
        self.trunk, self.prompts = trunk, list(prompts)
        self.completions = [list(c) for c in completions]
        self._states: list[Tensor] = []
        tokens = sum(len(p) + len(c) for p, c in zip(self.prompts, self.completions, strict=True))
        self._keeps = trunk.split and 4 * tokens * trunk.hidden_size <= STATES_KEPT

    def __len__(self) -> int:
        return len(self.prompts)

    def chunks(self, size: int = ROWS_AT_ONCE) -> Iterator[list[int]]:
        """All row numbers, `size` at a time."""
        for rows in range(0, len(self), size):
            yield list(range(rows, min(rows + size, len(self))))

    def samples(self, rows: Sequence[int]) -> Samples:
        """Some rows in the shape of a rollout, without log-probs and without what the reward head
        reads."""
        ids, mask, width = self._padded(rows)
        lengths, inputs = mask[:, width:].sum(1), ids
        if self._keeps:
            self._read()
            inputs = torch.zeros(*ids.shape, self.trunk.hidden_size, device=ids.device)
            inputs[mask] = torch.cat([self._states[i] for i in rows])
        elif self.trunk.split:
            inputs = self.trunk.read(ids, mask)[0]
        none = torch.zeros(len(rows), mask.shape[1] - width, device=ids.device)
        states = none.new_zeros(len(rows), mask.shape[1], 0)
        return Samples(ids, mask, width, lengths, lengths > 0, none, None, inputs, states)

    def _read(self) -> None:
        for rows in self.chunks() if not self._states else ():
            ids, mask, _ = self._padded(rows)
            states = self.trunk.read(ids, mask)[0]
            self._states += [s[m].clone() for s, m in zip(states, mask, strict=True)]

    def _padded(self, rows: Sequence[int]) -> tuple[Tensor, Tensor, int]:
        """Ids and mask [B, P + C], filler on both sides, and P."""
        trunk = self.trunk
        ids, mask = pad_left([self.prompts[i] for i in rows], trunk.pad_id, trunk.device)
        backwards = [self.completions[i][::-1] for i in rows]
        tail, tail_mask = pad_left(backwards, trunk.pad_id, trunk.device)
        width = ids.shape[1]
        return torch.cat([ids, tail.flip(1)], 1), torch.cat([mask, tail_mask.flip(1)], 1), width

    @torch.no_grad()
    def total_logprobs(self, policy: Policy) -> Tensor:
        """Log-prob [n] of each whole completion under a policy; 0 of an empty one."""
        found = [logprobs(policy, self.samples(rows))[0].sum(1) for rows in self.chunks()]
        return torch.cat(found)

    @torch.no_grad()
    def features(self) -> Tensor:
        """What the fitted reward head reads of each completion [n, 2·H]."""
        found = []
        for rows in self.chunks():
            ids, mask, width = self._padded(rows)
            states = self.trunk.read(ids, mask)[1]
            found.append(Trunk.pool(states[:, width:], mask[:, width:]))
        return torch.cat(found)
