"""The trunk: the lower layers of a model, frozen, that policies and the reward head share."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .decode import Cache, decode
from .errors import BadPrompts, PromptTooLong
from .recall import Recall
from .split import find_layers


class Trunk(nn.Module):
    """The frozen lower layers, with the tokenizer: everything that no training moves.

    Its last states feed the tops of policy and reference. The reward head reads two things of
    each token: its embedding, the word alone, and the state halfway up the model, the word in its
    context. (Tried with three simulated raters, 40 rankings each: 0.80, 0.78 and 0.87 accurate on
    unseen prompts; the state halfway alone 0.73, 0.75 and 0.82; the trunk's last state less.)
    When not `split`, policies start from token ids, and the trunk serves the reward head alone.

    Args:
        body: a base model that has the layers below `depth` alone, its final norm left out.
        layers: layers of the whole model.
    """

    def __init__(self, body: nn.Module, tokenizer, depth: int, layers: int, split: bool) -> None:
        super().__init__()
        self.body, self.tokenizer = body, tokenizer
        self.layers, self.split = layers, split
        self.feature_layer = min(depth, layers // 2)
        self._tapped = threading.local()  # two threads may read at once
        self._recall = Recall()
        self._hook = None
        if 0 < self.feature_layer < depth:
            layer = find_layers(body)[1][self.feature_layer - 1]
            self._hook = layer.register_forward_hook(self._tap)
        self.context: int = getattr(body.config, "max_position_embeddings", None) or 2048
        self.hidden_size: int = body.config.hidden_size
        self.eos_ids: frozenset[int] = frozenset()
        self.weights_hash = ""

    def new_cache(self) -> Cache:
        """An empty cache for the trunk's layers."""
        return Cache(self.body, find_layers(self.body)[1])

    @torch.no_grad()
    def read_prompts(
        self, prompts: Sequence[Sequence[int]], ids: Tensor, mask: Tensor, cache: Cache
    ) -> tuple[Tensor, Tensor]:
        """`read` of prompts padded on the left; those read before are not read again."""
        if not cache.growing:
            return self.read(ids, mask, cache)
        return self._recall.batch(self, prompts, cache)

    @property
    def pad_id(self) -> int:
        """Filler past the ends. Never compared with: masks come from lengths."""
        pad = self.tokenizer.pad_token_id
        return min(self.eos_ids, default=0) if pad is None else pad

    @property
    def end(self) -> list[int]:
        """What a demonstration ends with: the tokenizer's end of sequence, or one that the model
        takes for it; nothing for a model that has none."""
        own = self.tokenizer.eos_token_id
        return [own] if own in self.eos_ids else sorted(self.eos_ids)[:1]

    @property
    def device(self) -> torch.device:
        return next(self.body.parameters()).device

    @property
    def extractor(self) -> str:
        """What a cached feature depends on: the weights, the layer and the pooling."""
        return f"{self.weights_hash}:0+{self.feature_layer}:mean"

    def encode(self, prompt: str, room: int = 1) -> list[int]:
        """Token ids of a prompt as one user turn (plain text for a model without chat template).

        Raises:
            BadPrompts: the prompt has no tokens.
            PromptTooLong: the prompt and `room` more tokens exceed the model's context.
        """
        if self.tokenizer.chat_template:
            turn = [{"role": "user", "content": prompt}]
            text = self.tokenizer.apply_chat_template(
                turn, tokenize=False, add_generation_prompt=True
            )
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            ids = self.tokenizer(prompt)["input_ids"]
        if not ids:
            raise BadPrompts(f"The prompt {prompt!r} has no tokens: there is nothing to answer.")
        if len(ids) + room > self.context:
            raise PromptTooLong(
                f"The prompt that begins {prompt[:60]!r} has {len(ids):,} tokens; with {room} for "
                f"the completion that exceeds the model's context of {self.context:,}. Shorten it."
            )
        return ids

    def decode(self, ids: list[int]) -> str:
        """Text of a completion, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    @torch.no_grad()
    def read(
        self, ids: Tensor, mask: Tensor, cache=None, positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden states [batch, time, hidden] for the tops, and [batch, time, 2·hidden] for the
        reward head: embeddings beside states halfway up."""
        if decodes(cache, ids):
            tap = self.feature_layer if self._hook else 0
            states, halfway = decode(self.body, cache, ids, mask, positions, tap)
        else:
            states = run_body(self.body, ids, mask, cache, positions)
            halfway = self._tapped.states if self._hook else states
        halfway = states if halfway is None else halfway
        return states, torch.cat([self.body.get_input_embeddings()(ids), halfway], -1)

    def _tap(self, module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        self._tapped.states = output[0] if isinstance(output, tuple) else output

    @staticmethod
    def pool(states: Tensor, mask: Tensor) -> Tensor:
        """Mean of states [batch, time, width] where mask [batch, time] is true: the features
        [batch, width] of the reward head. A sampled end-of-sequence token is part of the
        completion and is pooled with it."""
        kept = torch.where(mask[..., None], states, 0.0)
        return kept.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def run_body(body: nn.Module, inputs: Tensor, mask: Tensor, cache=None, positions=None) -> Tensor:
    """Run a stack of layers on ids (long) or states (float); positions follow the mask, so that
    left padding moves nothing."""
    if positions is None:
        positions = positions_of(mask)[:, -inputs.shape[1] :]
    kind = "inputs_embeds" if inputs.is_floating_point() else "input_ids"
    extra = {"position_ids": positions} if takes_positions(type(body)) else {}
    output = body(
        **{kind: inputs},
        attention_mask=mask,
        past_key_values=cache,
        use_cache=cache is not None,
        **extra,
    )
    return output.last_hidden_state


def decodes(cache: Cache | None, inputs: Tensor) -> bool:
    """Whether one more token a row goes through `decode`."""
    return cache is not None and cache.plain and inputs.shape[1] == 1 and cache.get_seq_length() > 0


def positions_of(mask: Tensor) -> Tensor:
    """Position ids [batch, time] of a mask with left padding."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def takes_positions(body_class: type) -> bool:
    return "position_ids" in inspect.signature(body_class.forward).parameters
