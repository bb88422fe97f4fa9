"""One trunk, many tops: the split that lets a language model be aligned on two CPU cores.

The lower layers (the trunk) never change, so they run once for each text, and their states serve
the policy, the reference, the value head and the reward model alike. Only a copy of the top
layers and the final norm is trained; embedding and `lm_head` stay frozen.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from .decode import Cache, decode
from .errors import BadSetting, PromptTooLong, UnsuitableModel
from .logprobs import ROWS_AT_ONCE, TokenLogprobs
from .recall import Recall
from .split import cut, find_layers, restore_layer_indices

Trainable = Literal["auto", "all"] | int

LOGITS_CHANGED_BY = ("final_logit_softcapping", "logits_scaling")  # gemma, granite
SPLIT_TOLERANCE = 1e-4  # largest |Δlogit| to the whole model, in fp32, at which a split is trusted


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
        self._tapped: Tensor | None = None
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
            halfway, self._tapped = self._tapped, None
        halfway = states if halfway is None else halfway
        return states, torch.cat([self.body.get_input_embeddings()(ids), halfway], -1)

    def _tap(self, module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        self._tapped = output[0] if isinstance(output, tuple) else output

    @staticmethod
    def pool(states: Tensor, mask: Tensor) -> Tensor:
        """Mean of states [batch, time, width] where mask [batch, time] is true: the features
        [batch, width] of the reward head. A sampled end-of-sequence token is part of the
        completion and is pooled with it."""
        kept = torch.where(mask[..., None], states, 0.0)
        return kept.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


class Policy(nn.Module):
    """A distribution over next tokens: the shared trunk, a top, and `lm_head`.

    `Policy.load` gives the reference, frozen. `copy()` gives a policy that can be trained.
    """

    def __init__(self, trunk: Trunk, top: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.top, self.head = top, head
        self._shared = (trunk,)  # in a tuple, so that it is not a parameter of every policy

    @property
    def trunk(self) -> Trunk:
        return self._shared[0]

    @classmethod
    def load(
        cls,
        folder: str | Path,
        trainable: Trainable = "auto",
        device: str = "auto",
        chat_template: str | None = None,
    ) -> Policy:
        """Read a causal language model of transformers from a folder, and split it.

        Args:
            folder: what `save_pretrained` wrote; safetensors only.
            trainable: how many top layers a copy will train; "auto" is about the top quarter,
                "all" the whole model, embeddings too.
            device: "auto" takes CUDA when there is one.
            chat_template: used in place of the tokenizer's own.

        Raises:
            UnsuitableModel: the files hold no causal language model that the lab can run.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        logging.disable_progress_bar()  # it flashes by, and leaves an empty line in a notebook
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise UnsuitableModel(
                f"{folder} could not be read as a causal language model: {error}"
            ) from error
        if chat_template is not None:
            tokenizer.chat_template = chat_template
        policy = cls.from_model(model.to(device), tokenizer, trainable)
        policy.trunk.weights_hash = hash_weights(Path(folder))
        return policy

    @classmethod
    def from_model(cls, model: nn.Module, tokenizer, trainable: Trainable = "auto") -> Policy:
        """Split a model that is already in memory. The model's modules are taken over."""
        model.eval().requires_grad_(False)
        body, head = model.base_model, model.get_output_embeddings()
        n = len(find_layers(body)[1])
        k = check_trainable(trainable, n)
        probe = probe_ids(model)
        with torch.no_grad():
            expected = model(probe).logits

        policy = None
        trunk_body = cut(body, 0, n - k, final_norm=False) if k < n else None
        if trunk_body is not None:
            top = cut(body, n - k, n, final_norm=True)
            policy = cls(Trunk(trunk_body, tokenizer, n - k, n, True), top, head)
        if policy is None or policy._largest_error(probe, expected) > SPLIT_TOLERANCE:
            restore_layer_indices(body)
            if policy is not None and policy.trunk._hook is not None:
                policy.trunk._hook.remove()  # the layers go on without that trunk
            half = max(1, n // 2)
            trunk_body = cut(body, 0, half, final_norm=False) or body
            policy = cls(Trunk(trunk_body, tokenizer, half, n, False), body, head)
            if (error := policy._largest_error(probe, expected)) > SPLIT_TOLERANCE:
                raise UnsuitableModel(
                    f"{type(model).__name__}: lm_head on the last hidden state is off by "
                    f"{error:.1e} from the model's own logits. The lab needs a plain causal "
                    "language model."
                )
        eos = model.generation_config.eos_token_id if model.generation_config else None
        eos = tokenizer.eos_token_id if eos is None else eos
        policy.trunk.eos_ids = frozenset(eos if isinstance(eos, list) else [eos]) - {None}
        return policy

    @torch.no_grad()
    def _largest_error(self, ids: Tensor, expected: Tensor) -> float:
        try:
            mask = torch.ones_like(ids)
            logits = self.logits(self.hidden(self.inputs(ids, mask), mask))
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError):
            return float("inf")
        return (logits - expected).abs().max().item()

    def copy(self) -> Policy:
        """A policy with weights of its own to train, on the same trunk."""
        trunk = self.trunk
        if trunk.split:
            policy = Policy(trunk, copy.deepcopy(self.top), self.head)
            policy.top.requires_grad_(True)
        else:  # a tied lm_head must stay tied in the copy: both go through one deepcopy
            top, head = copy.deepcopy((self.top, self.head))
            policy = Policy(trunk, top, head)
            policy.requires_grad_(True)
        return policy

    def trainable_state(self) -> dict[str, Tensor]:
        """The tensors that training moves, by name."""
        return {n: p.data for n, p in self.named_parameters() if p.requires_grad}

    def start_from(self, other: Policy) -> None:
        """Take over the weights of another policy of the same model, where this one trains."""
        self.load_trainable_state({n: p.data for n, p in other.named_parameters()})

    def load_trainable_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `trainable_state` gave."""
        own = self.trainable_state()
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def inputs(self, ids: Tensor, mask: Tensor, cache=None, positions: Tensor | None = None):
        """What the top starts from: trunk states, or the ids themselves without a split."""
        return self.trunk.read(ids, mask, cache, positions)[0] if self.trunk.split else ids

    def hidden(self, inputs: Tensor, mask: Tensor, cache=None, positions: Tensor | None = None):
        """Last hidden states [batch, time, hidden] after the final norm."""
        if decodes(cache, inputs):
            return decode(self.top, cache, inputs, mask, positions)[0]
        return run_body(self.top, inputs, mask, cache, positions)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits [..., vocabulary] of hidden states."""
        config, logits = self.top.config, self.head(hidden)
        if cap := getattr(config, "final_logit_softcapping", None):  # gemma
            logits = cap * torch.tanh(logits / cap)
        if scale := getattr(config, "logits_scaling", None):  # granite
            logits = logits / scale
        return logits

    def token_logprobs(self, hidden: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
        """Log-probs [N] of tokens [N] drawn from hidden states [N, H]."""
        config, plain = self.top.config, self.head.bias is None
        if plain and not any(getattr(config, n, None) for n in LOGITS_CHANGED_BY):
            return TokenLogprobs.apply(hidden, self.head.weight, tokens, temperature)

        def rows(states: Tensor, token: Tensor) -> Tensor:
            logits = self.logits(states) / temperature
            return logits.gather(1, token[:, None])[:, 0] - logits.logsumexp(-1)

        parts = zip(hidden.split(ROWS_AT_ONCE), tokens.split(ROWS_AT_ONCE), strict=True)
        return torch.cat([checkpoint(rows, *part, use_reentrant=False) for part in parts])


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


def probe_ids(model: nn.Module) -> Tensor:
    """One random text, longer than any attention window (up to a bound), to check a split on."""
    config = model.config
    window = getattr(config, "sliding_window", None) or 0
    limit = getattr(config, "max_position_embeddings", None) or 2048
    length = min(max(64, window + 16), limit, 8192)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (1, length), generator=generator)
    return ids.to(next(model.parameters()).device)


def check_trainable(trainable: Trainable, n: int) -> int:
    """The number of layers to train, of n."""
    if trainable == "all":
        return n
    if trainable == "auto":
        return min(n, max(1, round(n / 4)))
    if isinstance(trainable, int) and not isinstance(trainable, bool) and 1 <= trainable <= n:
        return trainable
    raise BadSetting(f'trainable={trainable!r}: give "auto", "all" or a number from 1 to {n}.')


def hash_weights(folder: Path) -> str:
    """Sixteen hex digits that change whenever a weight does."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()[:16]
