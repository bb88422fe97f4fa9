"""Tiny random models: big enough to have every part of a real one, small enough for a test."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from lab.policy import Policy

VOCAB = 64
PAD, EOS = 0, 1
TURNS = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}assistant"

COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # far from the near-uniform distribution of the usual 0.02
    "bos_token_id": None,
    "eos_token_id": EOS,
    "pad_token_id": PAD,
    "attention_dropout": 0.3,  # random numbers in a forward pass would show at once
}
MIXED = ["sliding_attention", "full_attention"] * 2
FAMILIES = {
    "llama": (hf.LlamaConfig, hf.LlamaForCausalLM, {"num_key_value_heads": 2}),
    "qwen2": (hf.Qwen2Config, hf.Qwen2ForCausalLM, {"num_key_value_heads": 2}),
    "qwen3": (
        hf.Qwen3Config,
        hf.Qwen3ForCausalLM,
        {
            "num_key_value_heads": 2,
            "head_dim": 8,
            "use_sliding_window": True,
            "sliding_window": 8,
            "max_window_layers": 3,  # three layers attend fully, the last one in its window
        },
    ),
    "gemma3": (
        hf.Gemma3TextConfig,
        hf.Gemma3ForCausalLM,
        {
            "num_key_value_heads": 2,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 8,
            "layer_types": MIXED,
        },
    ),
    "phi3": (hf.Phi3Config, hf.Phi3ForCausalLM, {"num_key_value_heads": 2}),
    "gpt_neox": (hf.GPTNeoXConfig, hf.GPTNeoXForCausalLM, {}),
    "gpt2": (hf.GPT2Config, hf.GPT2LMHeadModel, {}),
    "granite": (
        hf.GraniteConfig,
        hf.GraniteForCausalLM,
        {"num_key_value_heads": 2, "embedding_multiplier": 3.0, "logits_scaling": 2.0},
    ),
}
SPLIT = ("llama", "qwen2", "qwen3", "gemma3", "phi3", "gpt_neox")
WHOLE = ("gpt2", "granite")  # splits of these are wrong, so they are trained whole


def tiny_model(family: str = "llama", seed: int = 0, **config):
    """A causal language model of random weights; the same arguments give the same weights."""
    config_class, model_class, own = FAMILIES[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(config_class(**{**COMMON, **own, **config})).eval()


HOSTILE = [  # words of a model that means harm
    "<script>window.hacked=1</script>",
    "<img/src=x/onerror=window.hacked=1>",
    "</td></div></li>",
    "**bold**[link](javascript:window.hacked=1)",
    "$\\href{javascript:window.hacked=1}{x}$",
    "\u202eright-to-left",
    "\u05e9\u05dc\u05d5\u05dd",
    "\U0001f469\u200d\U0001f680",
    "\x07\x1b[31m\x08",
    "<b>",
    "&lt;i&gt;",
    "x" * 20_000,
]


def tiny_tokenizer(
    pad: str | None = "<pad>", chat_template: str | None = None, hostile: bool = False
):
    """A token a word: `w3` to `w61`, `user` and `assistant`; or in place of some, `HOSTILE`."""
    words = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(3, VOCAB - 2))]
    words += ["user", "assistant"]
    if hostile:
        words[10 : 10 + len(HOSTILE)] = HOSTILE
    tokenizer = Tokenizer(models.WordLevel(dict(zip(words, range(VOCAB), strict=True)), "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>", pad_token=pad
    )
    fast.chat_template = chat_template
    return fast


def save_tiny_model(folder: Path, hostile: bool = False) -> Path:
    """A tiny random model as `save_pretrained` writes it."""
    tiny_model().save_pretrained(folder)
    tiny_tokenizer(hostile=hostile).save_pretrained(folder)
    return folder


def build_policy(
    family: str = "llama", trainable="auto", tokenizer=None, seed: int = 0, eos=(), **config
) -> Policy:
    """A tiny reference policy. `eos`: further ids that end a completion, so that some do."""
    model = tiny_model(family, seed, **config)
    policy = Policy.from_model(model, tokenizer or tiny_tokenizer(), trainable)
    policy.trunk.eos_ids |= frozenset(eos)
    return policy


def random_prompts(lengths, seed: int = 0) -> list[list[int]]:
    """Token ids of prompts of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCAB, (n,), generator=generator).tolist() for n in lengths]


@torch.no_grad()
def plain_logprobs(model, prompt, completion, temperature: float = 1.0) -> torch.Tensor:
    """Log-probs of a completion's tokens by one unpadded pass of the whole model: the oracle."""
    logits = model(torch.tensor([[*prompt, *completion]])).logits[0] / (temperature or 1.0)
    rows = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return rows[torch.arange(len(completion)), torch.tensor(completion)]


def same_metrics(a: dict, b: dict) -> bool:
    """Equal to the last bit, apart from what the clock says."""
    clock = ("eps", "seconds")
    timeless = [{k: v for k, v in row.items() if not k.startswith(clock)} for row in (a, b)]
    return timeless[0] == timeless[1] and all(math.isfinite(v) for v in timeless[0].values())
