"""The same work in TRL's PPOTrainer: separate policy, reference, reward and value models.

TRL is optional (`pip install -e '.[parity]'`); 1.12.0 is the last version that has PPO.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
import warnings
from importlib import metadata
from multiprocessing.connection import Connection
from typing import Any

from .bench_worker import SHARE, Work
from .errors import LabError

VERSION = "1.12.0"
LEARNING_RATE = 3e-6  # TRL's default
INSTALL = "pip install -e '.[parity]' -c constraints.txt"


def require_trl(lora: bool) -> None:
    """Raises LabError where TRL, its version with PPO, or (for LoRA) peft is missing."""
    if importlib.util.find_spec("trl") is None or metadata.version("trl") != VERSION:
        raise LabError(f"--against trl needs TRL {VERSION}, the last one with PPO: {INSTALL}")
    if lora and importlib.util.find_spec("peft") is None:
        raise LabError(f"--lora needs peft: {INSTALL}")


def trl(pipe: Connection, work: Work, prompt_ids: list[list[int]], lora: bool) -> None:
    """TRL's PPO. Answers each request with an update's seconds, score and KL."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    warnings.simplefilter("ignore", FutureWarning)  # what transformers will rename
    from transformers.utils import logging

    logging.set_verbosity_error()  # a new score head is no news
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(work, prompt_ids, lora, folder)
        trainer.add_callback(answering(pipe))
        trainer.train()


def answering(pipe: Connection) -> Any:
    """A callback that holds TRL's training loop until it is asked for the next update."""
    from transformers import TrainerCallback

    from .demo import peak_memory_mb

    class Answering(TrainerCallback):
        def on_train_begin(self, args, state, control, **_):
            pipe.send({})
            self.wait()

        def on_log(self, args, state, control, logs, **_):
            self.logs = {k: logs[k] for k in ("objective/scores", "objective/kl")}

        def on_step_end(self, args, state, control, **_):
            seconds = time.perf_counter() - self.start
            pipe.send({"seconds": seconds, "peak_memory_mb": peak_memory_mb(), **self.logs})
            self.wait()

        def wait(self) -> None:
            pipe.recv()
            self.start = time.perf_counter()

    return Answering()


def build_trainer(work: Work, prompt_ids: list[list[int]], lora: bool, folder: str) -> Any:
    """TRL's trainer as its own example makes it, in float32 and without gradient checkpointing,
    which would be slower. LoRA has TRL's defaults: rank 16, on the policy alone."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    def load(kind, **options):
        return kind.from_pretrained(work.folder, dtype=torch.float32, **options)

    tokenizer = AutoTokenizer.from_pretrained(work.folder, padding_side="left")
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})  # TRL takes every pad id for filler
    width, peft_config = max(map(len, prompt_ids)), None
    if lora:
        from peft import LoraConfig

        peft_config = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32)
    if work.wanted:
        reward = share_model(work.wanted, width)
    else:
        reward = load(AutoModelForSequenceClassification, num_labels=1)
    return PPOTrainer(
        args=PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=work.batch,
            num_mini_batches=1,
            num_ppo_epochs=work.epochs,
            response_length=work.tokens,
            total_episodes=1_000_000 * work.batch,  # it ends when nobody asks any more
            temperature=1.0,
            stop_token="eos" if work.wanted else None,
            kl_coef=work.kl_coef,
            learning_rate=work.learning_rate,
            lr_scheduler_type="constant",
            num_sample_generations=0,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            seed=work.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        processing_class=tokenizer,
        model=load(AutoModelForCausalLM),
        ref_model=None if lora else load(AutoModelForCausalLM),
        reward_model=reward,
        value_model=load(AutoModelForSequenceClassification, num_labels=1),
        train_dataset=Dataset.from_dict({"input_ids": prompt_ids}),
        data_collator=DataCollatorWithPadding(tokenizer, padding="max_length", max_length=width),
        peft_config=peft_config,
    )


def share_model(wanted: tuple[int, ...], width: int) -> Any:
    """A reward model in TRL's shape that has no weights: at each token of a completion, which
    begins at column `width`, SHARE times the share of wanted tokens up to it."""
    from types import SimpleNamespace

    import torch
    from torch import nn

    class Backbone(nn.Module):
        def forward(self, input_ids, **_):
            hits = torch.isin(input_ids, torch.tensor(wanted)).float()
            hits[:, :width] = 0
            length = (torch.arange(input_ids.shape[1]) - width + 1).clamp(min=1)
            share = SHARE * hits.cumsum(1) / length
            return SimpleNamespace(hidden_states=[share[..., None]])

    class ShareModel(nn.Module):
        base_model_prefix = "backbone"

        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.score = Backbone(), nn.Identity()

    return ShareModel()
