"""`pocket`: a language model so small that a laptop pretrains it during a coffee.

A Llama of four layers with a vocabulary of its own, in an ordinary folder of transformers. A
prompt is the first line of a document; what the model writes is how the document goes on.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from . import demonstrations
from .errors import BadCorpus, ModelUnavailable

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from .policy import Policy

SHIPPED = Path(__file__).resolve().parent.parent / "data" / "pocket"
MADE = ("pocket-sft", "pocket-untrained")  # from the one that is shipped, when first asked for
VOCABULARY = 4096
CONTEXT = 512  # tokens
ROPE_THETA = 100.0  # a base for short texts: a head tells neighbouring places apart at once
END, PAD = "<|end|>", "<|pad|>"  # END stands between documents: it ends one and begins the next
PROMPT_LINE = "{{ '<|end|>' }}{% for m in messages %}{{ m['content'] + '\\n' }}{% endfor %}"
FINE_TUNING: dict[str, float] = {"learning_rate": 4e-4, "batch_size": 16, "micro_batch_size": 16}
FINE_TUNING_UPDATES = 40
SIZES = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
}


def train_tokenizer(texts: Iterable[str], size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Byte-pair encoding (Sennrich et al. 2016) of bytes, so that no character is unknown.

    Raises:
        BadCorpus: there is no text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise BadCorpus("There is no text to train a tokenizer on.")
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END, PAD],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=PROMPT_LINE,
        clean_up_tokenization_spaces=False,
    )


def source(name: str) -> str:
    """What a model of MADE is made from; another text once that has changed."""
    made_from, recipe = [SHIPPED / "tokenizer.json"], f"{SIZES}"
    if name == "pocket-sft":
        made_from += [SHIPPED / "model.safetensors", demonstrations.SHIPPED]
        recipe = f"{FINE_TUNING} {FINE_TUNING_UPDATES}"
    digest = hashlib.sha256(recipe.encode())
    for path in made_from:
        digest.update(path.read_bytes() if path.exists() else b"")
    return f"made here from data/pocket ({digest.hexdigest()[:8]})"


def build(name: str, work: Path, tell: Callable[[str], None]) -> Path:
    """Make a model of MADE inside the empty folder `work`; return its folder.

    Raises:
        ModelUnavailable: pocket itself is not there.
    """
    from transformers import AutoTokenizer

    if not (SHIPPED / "config.json").exists():
        raise ModelUnavailable(f"there is no {SHIPPED}: `python -m lab pretrain` makes one")
    tokenizer, folder = AutoTokenizer.from_pretrained(SHIPPED), work / "model"
    if name == "pocket-untrained":
        save(untrained(tokenizer), tokenizer, folder)
    else:
        save(fine_tuned(lambda words: tell(f"fine-tuning pocket: {words}")), tokenizer, folder)
    return folder


def untrained(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> LlamaForCausalLM:
    """The model before it has read anything: random weights, the same for the same seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SIZES,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def fine_tuned(tell: Callable[[str], None]) -> LlamaForCausalLM:
    """pocket after supervised fine-tuning of all its layers on the demonstrations that the lab
    ships for it."""
    from .policy import Policy
    from .settings import SFTSettings
    from .sft import SFT

    reference = Policy.load(SHIPPED, trainable="all", device="cpu")
    trainer = SFT(reference, demonstrations.shipped("pocket"), SFTSettings(**FINE_TUNING))
    for update in range(1, FINE_TUNING_UPDATES + 1):
        row = trainer.step()
        tell(f"update {update} of {FINE_TUNING_UPDATES}, loss {row['loss']:.2f}")
    return whole(trainer.policy)


def whole(policy: Policy) -> LlamaForCausalLM:
    """The model of a policy that was trained whole."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM(policy.top.config)
    model.base_model.load_state_dict(policy.top.state_dict())
    return model


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write an ordinary folder of transformers, the weights in 16 bits, whole or not at all."""
    import copy

    import torch

    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    copy.deepcopy(model).to(torch.float16).save_pretrained(part)
    tokenizer.save_pretrained(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    folder.chmod(0o755)  # mkdtemp's is for its owner alone
