"""Sampling reads one token a row at a time: the same layers, with as few operations as they allow.

A model's own forward spends a quarter of such a step on what is not a product of matrices, and
copies its cache whenever that grows. Layers of the plain kind go through `decode` instead, which
says the same (tests compare it with the whole model); others keep their own forward.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

PLAIN = (LlamaDecoderLayer, Qwen2DecoderLayer)
ROOM = 64  # positions that a cache grows by


class GrowingLayer(DynamicLayer):
    """Keys and values of one layer in memory with room for more, so that a token copies none."""

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs):
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._room = None
        start, new = self.get_seq_length(), key_states.shape[-2]
        if self._room is None or start + new > self._room[0].shape[-2]:
            self._room = [
                self._larger(old, states, start + new + ROOM)
                for old, states in ((self.keys, key_states), (self.values, value_states))
            ]
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, start : start + new] = states
        self.keys, self.values = (room[:, :, : start + new] for room in self._room)
        return self.keys, self.values

    @staticmethod
    def _larger(old: Tensor, like: Tensor, size: int) -> Tensor:
        room = like.new_empty(*like.shape[:2], size, like.shape[-1])
        if old.numel():
            room[:, :, : old.shape[-2]] = old
        return room

    def fill(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Begin with what each row has read already [heads, tokens, size], filler on the left."""
        width = max(part.shape[1] for part in keys)
        self.lazy_initialization(keys[0], values[0])
        self._room = [
            torch.stack([pad(part, (0, 0, width - part.shape[1], ROOM)) for part in parts])
            for parts in (keys, values)
        ]
        self.keys, self.values = (room[:, :, :width] for room in self._room)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        length = self.get_seq_length()
        self._room = [room[indices] for room in self._room]
        self.keys, self.values = (room[:, :, :length] for room in self._room)


class Cache(DynamicCache):
    """What a stack of layers remembers of the tokens it has read.

    Attributes:
        growing: whether every layer attends to all tokens, so that a row can begin anywhere.
        plain: whether `decode` knows the layers.
    """

    def __init__(self, body: nn.Module, layers: nn.ModuleList) -> None:
        super().__init__(config=body.config)
        self.layers = [GrowingLayer() if type(x) is DynamicLayer else x for x in self.layers]
        self.growing = all(isinstance(x, GrowingLayer) for x in self.layers)
        self.plain = self.growing and all(type(layer) in PLAIN for layer in layers)
        self.stack = layers


def decode(
    body: nn.Module, cache: Cache, inputs: Tensor, mask: Tensor, positions: Tensor, tap: int = 0
) -> tuple[Tensor, Tensor | None]:
    """One more token a row through a stack of plain layers.

    Args:
        inputs: token ids [B, 1], or states [B, 1, H].
        mask: of all tokens so far, this one included [B, T].
        positions: of this one [B, 1].
        tap: after how many layers the states are wanted as well; 0 for none.

    Returns:
        States [B, 1, H] after the final norm, and those after `tap` layers.
    """
    x = inputs if inputs.is_floating_point() else body.get_input_embeddings()(inputs)
    cos, sin = (part[:, None] for part in body.rotary_emb(x, positions))
    hidden = torch.zeros(mask.shape, dtype=x.dtype, device=x.device)
    hidden = hidden.masked_fill_(~mask, float("-inf"))[:, None, None]
    tapped = None
    for n, (layer, kept) in enumerate(zip(cache.stack, cache.layers, strict=True), 1):
        x = x + attend(layer.self_attn, norm(layer.input_layernorm, x), kept, cos, sin, hidden)
        mlp, y = layer.mlp, norm(layer.post_attention_layernorm, x)
        x = x + mlp.down_proj(mlp.act_fn(mlp.gate_proj(y)) * mlp.up_proj(y))
        if n == tap:
            tapped = x
    final = body.norm
    return x if isinstance(final, nn.Identity) else norm(final, x), tapped


def attend(attention, x: Tensor, kept: GrowingLayer, cos: Tensor, sin: Tensor, hidden: Tensor):
    """Attention of one token a row to all that its row has read; `hidden` is -inf on filler."""
    rows, size = len(x), attention.head_dim
    k, v = (p(x).view(rows, -1, 1, size) for p in (attention.k_proj, attention.v_proj))
    # Query heads that share keys stand as several queries of one head: no key is copied for them.
    q = attention.q_proj(x).view(rows, k.shape[1], -1, size)
    keys, values = kept.update(rotate(k, cos, sin), v)
    found = scaled_dot_product_attention(
        rotate(q, cos, sin), keys, values, attn_mask=hidden, scale=attention.scaling
    )
    return attention.o_proj(found.reshape(rows, 1, -1))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of heads [B, heads, 1, size]."""
    first, second = x.chunk(2, -1)
    return torch.addcmul(x * cos, torch.cat((-second, first), -1), sin)


def norm(module: nn.Module, x: Tensor) -> Tensor:
    """RMSNorm; on a processor, `torch.rms_norm` of one row takes twice as long."""
    scale = x.square().mean(-1, keepdim=True).add_(module.variance_epsilon).rsqrt_()
    return (x * scale).mul_(module.weight)
