"""What frozen layers made of a prompt never changes: it is kept, and the prompt not read again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from .decode import Cache

if TYPE_CHECKING:
    from .policy import Policy
    from .trunk import Trunk

MEGABYTES = 64  # of prompts kept; those not asked for the longest go first


@dataclass
class Read:
    """One prompt as frozen layers have read it: its states [tokens, H] and features [tokens, F],
    and keys and values of each layer [heads, tokens, size]."""

    states: Tensor
    features: Tensor
    keys: list[Tensor]
    values: list[Tensor]

    @property
    def megabytes(self) -> float:
        tensors = [self.states, self.features, *self.keys, *self.values]
        return sum(t.numel() * t.element_size() for t in tensors) / 1e6


class Recall:
    """Prompts that a trunk, or a reference's top, has read: an update begins where they end.

    A prompt is read alone, not in a batch, and again for another number of threads: what is kept
    then depends on nothing else, and a run that goes on in another process finds the same numbers,
    to the last bit.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, tuple[int, ...]], Read] = OrderedDict()

    def batch(
        self, reader: Trunk | Policy, prompts: Sequence[Sequence[int]], cache: Cache
    ) -> tuple[Tensor, Tensor]:
        """States and features of prompts [B, P, ...], filler on the left; `cache` is filled."""
        with self._lock:
            read = [self._of(reader, tuple(ids)) for ids in prompts]
        for n, layer in enumerate(cache.layers):
            layer.fill([r.keys[n] for r in read], [r.values[n] for r in read])
        width = max(len(r.states) for r in read)
        states, features = (
            torch.stack([pad(part, (0, 0, width - len(part), 0)) for part in parts])
            for parts in ([r.states for r in read], [r.features for r in read])
        )
        return states, features

    def _of(self, reader: Trunk | Policy, ids: tuple[int, ...]) -> Read:
        key = (torch.get_num_threads(), ids)  # sums depend on it, in their last bits
        if key not in self._kept:
            self._kept[key] = read_alone(reader, ids)
            while len(self._kept) > 1 and sum(r.megabytes for r in self._kept.values()) > MEGABYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def read_alone(reader: Trunk | Policy, ids: Sequence[int]) -> Read:
    """One prompt, read in a batch of its own."""
    cache, row = reader.new_cache(), torch.tensor([ids], device=reader.device)
    states, features = reader.read(row, torch.ones_like(row, dtype=torch.bool), cache)
    keys = [layer.keys[0].clone() for layer in cache.layers]
    values = [layer.values[0].clone() for layer in cache.layers]
    return Read(states[0], features[0], keys, values)
