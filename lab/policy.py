"""One trunk, many tops: the split that lets a language model be aligned on two CPU cores.

The lower layers (the trunk) never change, so they run once for each text, and their states serve
the policy, the reference, the value head and the reward model alike. Only a copy of the top
layers and the final norm is trained; embedding and `lm_head` stay frozen.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from .decode import Cache, decode
from .errors import BadSetting, UnsuitableModel
from .logprobs import ROWS_AT_ONCE, TokenLogprobs
from .recall import Recall
from .split import cut, find_layers, restore_layer_indices
from .trunk import Trunk, decodes, run_body

Trainable = Literal["auto", "all"] | int

LOGITS_CHANGED_BY = ("final_logit_softcapping", "logits_scaling")  # gemma, granite
SPLIT_TOLERANCE = 1e-4  # largest |Δlogit| to the whole model, in fp32, at which a split is trusted


class Policy(nn.Module):
    """A distribution over next tokens: the shared trunk, a top, and `lm_head`.

    `Policy.load` gives the reference, frozen. `copy()` gives a policy that can be trained.
    """

    def __init__(self, trunk: Trunk, top: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.top, self.head = top, head
        self._shared = (trunk,)  # in a tuple, so that it is not a parameter of every policy
        self.recall = Recall()  # of prompts, for a policy that is frozen

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
        except (OSError, ValueError, KeyError, SafetensorError) as error:
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

    @property
    def device(self) -> torch.device:
        return self.trunk.device

    def new_cache(self) -> Cache:
        """An empty cache for the top's layers."""
        return Cache(self.top, find_layers(self.top)[1])

    @torch.no_grad()
    def read(self, ids: Tensor, mask: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
        """Last hidden states of prompts [batch, time, hidden], as a trunk's `read` gives states;
        and nothing for a reward head."""
        hidden = self.hidden(self.inputs(ids, mask), mask, cache)
        return hidden, hidden[..., :0]

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
