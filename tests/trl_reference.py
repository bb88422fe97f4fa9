"""TRL 1.12.0's own trainers at work on tiny models, and the numbers they pass on the way.

Nothing of TRL's arithmetic is written out here. `PPOTrainer.train` is one long function, so its
local variables are read from its frame: at each call of `accelerator.backward` those of a
minibatch, at each call of `log` those of an update.
"""

from __future__ import annotations

import copy
import os
import random
import sys
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
import torch
import transformers as hf
from datasets.utils import disable_progress_bars, enable_progress_bars
from helpers import EOS, PAD, random_prompts, tiny_model, tiny_tokenizer
from torch import Tensor, nn

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # that PPO is experimental is no news

WIDTH = 8  # tokens of a completion, at most
# Tokens of each completion. Those shorter than WIDTH end with EOS; so does one at WIDTH itself.
LENGTHS = (8, 3, 8, 1, 5, 8, 7, 2)
ENDS_AT_WIDTH = 2
PROMPT_LENGTHS = (1, 6, 3, 4, 2, 5, 6, 3)
LEARNING_RATE = 5e-4
CLASSIFIERS = {
    "llama": hf.LlamaForSequenceClassification,
    "gpt2": hf.GPT2ForSequenceClassification,
}


@contextmanager
def quiet():
    """TRL and what it stands on warn of what they will rename, and print progress."""
    before = hf.utils.logging.get_verbosity()
    hf.utils.logging.set_verbosity_error()
    disable_progress_bars()
    hf.utils.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf.utils.logging.set_verbosity(before)
        enable_progress_bars()


@contextmanager
def isolated():
    """A folder for a trainer of TRL, which finds the same random numbers each time and leaves no
    trace in those of who comes after."""
    states = random.getstate(), np.random.get_state()
    np.random.seed(0)
    with quiet(), tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        try:
            yield folder
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def common(folder: str, batch: int) -> dict[str, Any]:
    """Settings of every trainer: a step for each batch, with the lab's optimizer."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": 1,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "adam_epsilon": 1e-5,
        "weight_decay": 0.0,
        "logging_steps": 1,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def language_model(family: str, trainable: int | str = "all", moved: bool = False):
    """The reference, or what training starts from, when that has `moved` away from it in all that
    trains: the top layers and the final norm as in a split policy of the lab, or everything.

    No dropout: TRL turns off the modules of that name alone, not Llama's `attention_dropout`.
    """
    model = tiny_model(family, attention_dropout=0.0)
    if trainable != "all":
        model.requires_grad_(False)
        body = model.base_model
        body.layers[-trainable:].requires_grad_(True)
        body.norm.requires_grad_(True)
    if moved:
        generator = torch.Generator().manual_seed(7)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    return model


def classifier(family: str, seed: int):
    """A model with one number for each token: TRL's value model (seed 1) and reward model (2)."""
    config = copy.deepcopy(language_model(family).config)
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLASSIFIERS[family](config).eval()


class SharedValue(nn.Module):
    """A value model of TRL's shape that is a linear head on the policy's own hidden states."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.base_model_prefix = policy.base_model_prefix
        setattr(self, self.base_model_prefix, policy.base_model)
        self.score = nn.Linear(policy.config.hidden_size, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)


@dataclass
class Update:
    """Local variables of `PPOTrainer.train` at the end of an update; `minibatches` has those at
    each backward pass; `policy` and `value` the weights afterwards."""

    locals: dict[str, Any]
    metrics: dict[str, float]
    policy: dict[str, Tensor]
    value: dict[str, Tensor] = field(default_factory=dict)
    minibatches: list[dict[str, Any]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["locals"][name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass
class Trace:
    """What TRL did. `start`: the policy's weights before the first update."""

    start: dict[str, Tensor]
    args: Any = None
    updates: list[Update] = field(default_factory=list)


def cloned(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, list) and value and isinstance(value[0], Tensor):
        return [v.detach().clone() for v in value]
    return copy.copy(value) if isinstance(value, np.ndarray | int | float) else None


def locals_of(function: str) -> dict[str, Any]:
    """Copies of the tensors and numbers that the function two calls up has in its hands."""
    frame = sys._getframe(2)
    assert frame.f_code.co_name == function, frame.f_code
    found = {name: cloned(value) for name, value in frame.f_locals.items()}
    return {name: value for name, value in found.items() if value is not None}


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def draw(model, queries: Tensor, lengths: tuple[int, ...], temperature: float, seed: int) -> Tensor:
    """Completions of these lengths from TRL's policy, in the columns after the queries [B, P].
    PAD is never drawn (TRL takes it for filler wherever it stands), EOS where it should end."""
    from trl.experimental.ppo.ppo_trainer import forward

    ids, ends = queries, torch.tensor(lengths)
    generator = torch.Generator().manual_seed(seed)
    early = ends < WIDTH
    early[ENDS_AT_WIDTH] = True
    for t in range(WIDTH):
        logits = forward(model, ids, PAD).logits[:, -1] / temperature
        logits[:, [PAD, EOS]] = -torch.inf
        token = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
        token = torch.where(early & (t == ends - 1), EOS, token)
        ids = torch.cat([ids, torch.where(t < ends, token, PAD)[:, None]], 1)
    return ids


@cache
def ppo(
    family: str,
    *,
    lengths: tuple[int, ...] = LENGTHS,
    trainable: int | str = "all",
    shared: bool = False,
    temperature: float = 1.0,
    updates: int = 2,
    **options: Any,
) -> Trace:
    """Updates by TRL's `PPOTrainer.train`.

    Args:
        lengths: of the completions of each update; they are drawn by `draw` where TRL would call
            `generate`, and TRL gets the logits of its own `forward` with them.
        trainable: how many top layers train; "all" is everything.
        shared: the value model is a head on the policy, see SharedValue.
        options: of PPOConfig.
    """
    with isolated() as folder:
        return run_ppo(family, folder, lengths, trainable, shared, temperature, updates, options)


def run_ppo(family, folder, lengths, trainable, shared, temperature, updates, options) -> Trace:
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    count = len(lengths)
    prompts = random_prompts((PROMPT_LENGTHS * count)[: updates * count])
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "left"
    policy = language_model(family, trainable, moved=True)
    value = SharedValue(policy) if shared else classifier(family, seed=1)
    trainer = PPOTrainer(
        args=PPOConfig(
            **common(folder, count),
            total_episodes=updates * count,
            response_length=WIDTH,
            stop_token="eos",
            temperature=temperature,
            num_ppo_epochs=2,
            num_sample_generations=0,
            **options,
        ),
        processing_class=tokenizer,
        model=policy,
        ref_model=language_model(family),
        reward_model=classifier(family, seed=2),
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": prompts}),
        data_collator=hf.DataCollatorWithPadding(
            tokenizer, padding="max_length", max_length=max(PROMPT_LENGTHS)
        ),
    )
    trace, minibatches = Trace(weights(policy), trainer.args), []

    def generation(model, queries, *_):
        seed = len(trace.updates)
        ids = draw(model, queries, lengths, temperature, seed)
        logits = ppo_trainer.forward(model, ids, PAD).logits[:, queries.shape[1] - 1 : -1]
        return ids, logits / (temperature + 1e-7)

    def on_backward(loss, **_):
        minibatches.append(locals_of("train"))
        loss.backward()

    def on_log(metrics):
        found = locals_of("train")
        after = weights(policy), weights(value)
        trace.updates.append(Update(found, dict(metrics), *after, minibatches.copy()))
        minibatches.clear()

    trainer.accelerator.backward, trainer.log = on_backward, on_log
    with (
        patch.object(ppo_trainer, "batch_generation", torch.no_grad()(generation)),
        patch.object(ppo_trainer, "gc", Mock()),  # collecting garbage is two thirds of the time
    ):
        trainer.train()
    assert len(trace.updates) == updates
    return trace


# Preferences

PAIRS = (  # prompt, chosen and rejected, by the ids of their words; each ends with EOS
    ((3, 4), (9, 10, 11), (12,)),
    ((5,), (20, 21), (22, 23, 24, 25)),
    ((6, 7, 8), (30,), (31, 32)),
    ((13, 14), (), (40, 41, 42)),
    ((15, 16, 17, 18), (43, 44, 45, 46, 47), (48, 49)),
    ((19,), (50, 51), (52, 53)),
)


def word_prompts(lengths) -> list[list[int]]:
    """Random prompts of ids whose words tokenize to them again."""
    return [[min(i, 61) for i in ids] for ids in random_prompts(lengths)]


def words(ids) -> str:
    return " ".join(f"w{i}" for i in ids)


class AfterEachStep(hf.TrainerCallback):
    """Calls back with no arguments."""

    def __init__(self, call) -> None:
        self.call = call

    def on_step_end(self, args, state, control, **_):
        self.call()


@cache
def dpo(
    family: str, loss_type: str, beta: float, trainable: int | str = "all", steps: int = 3
) -> Trace:
    """Steps by TRL's DPOTrainer on all of PAIRS; local variables are those of its
    `_compute_loss`."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer
    from trl.trainer import dpo_trainer

    rows = [{"prompt": words(p)} for p, _, _ in PAIRS]
    for row, (_, *sides) in zip(rows, PAIRS, strict=True):
        row["chosen"], row["rejected"] = (f" {words(ids)} <eos>" for ids in sides)
    policy, found = language_model(family, trainable, moved=True), []
    trace, entropy = Trace(weights(policy)), dpo_trainer.entropy_from_logits

    def spy(logits):  # it is called when the loss is there
        found.append(locals_of("_compute_loss"))
        return entropy(logits)

    def after_step():
        trace.updates.append(Update(found.pop(), {}, weights(policy)))

    with isolated() as folder, patch.object(dpo_trainer, "entropy_from_logits", spy):
        trainer = DPOTrainer(
            model=policy,
            ref_model=language_model(family),
            args=DPOConfig(
                **common(folder, len(PAIRS)), max_steps=steps, loss_type=[loss_type], beta=beta
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tiny_tokenizer(),
            callbacks=[AfterEachStep(after_step)],
        )
        trainer.train()
        logged = [row for row in trainer.state.log_history if "loss" in row]
    for update, row in zip(trace.updates, logged, strict=True):
        update.metrics.update(row)
    return trace


def preference_loss(chosen: Tensor, rejected: Tensor) -> tuple[float, dict[str, float]]:
    """Loss and metrics by TRL's RewardTrainer of rewards [n] that some model has given."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    rows = [{"chosen_ids": [*p, *c, EOS], "rejected_ids": [*p, *r, EOS]} for p, c, r in PAIRS]
    with isolated() as folder:
        trainer = RewardTrainer(
            model=classifier("llama", seed=2),
            args=RewardConfig(**common(folder, len(rows))),
            train_dataset=Dataset.from_list(rows),
            processing_class=tiny_tokenizer(),
        )
        logits = torch.cat([chosen, rejected])[:, None]
        inputs = trainer.data_collator(rows)
        loss = trainer.compute_loss(lambda **_: SimpleNamespace(logits=logits), inputs)
    return loss.item(), {name: values[-1] for name, values in trainer._metrics["eval"].items()}


# GRPO

GROUP = 4
MEANS = ("kl", "clip_ratio/region_mean")  # over the iterations of an update


def reward_of_ids(ids: list[int]) -> float:
    return float(sum(ids) % 7)


@cache
def grpo(family: str, *, temperature: float = 1.0, updates: int = 2, **options: Any) -> Trace:
    """Updates of two iterations by TRL's GRPOTrainer, which generates by itself; local variables
    are what its `_generate_and_score_completions` returns, and its `losses`."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    # TRL's GRPO leaves positions to the model, and GPT-2 counts filler on the left among them.
    lengths = (3,) * 8 if family == "gpt2" else PROMPT_LENGTHS
    policy = language_model(family, moved=True)
    trace, rollouts, losses, metrics = Trace(weights(policy)), [], [], []

    def after_step():
        metrics.append({k: v[-1] for k, v in trainer._metrics["train"].items()})
        if len(losses) == 2:
            means = {k: (metrics[-1][k] + metrics[-2][k]) / 2 for k in MEANS}
            means["loss"] = sum(losses) / 2
            rolled = {name: cloned(value) for name, value in rollouts.pop().items()}
            trace.updates.append(Update(rolled, metrics[-2] | means, weights(policy)))
            losses.clear()

    def reward(completion_ids, **_):
        return [reward_of_ids(ids) for ids in completion_ids]

    with isolated() as folder:
        language_model(family).save_pretrained(folder)  # TRL loads the reference from there
        policy.config._name_or_path = folder
        trainer = GRPOTrainer(
            model=policy,
            reward_funcs=reward,
            args=GRPOConfig(
                **common(folder, 4 * GROUP),
                max_steps=2 * updates,
                num_generations=GROUP,
                num_iterations=2,
                steps_per_generation=1,
                max_completion_length=24,
                temperature=temperature,
                loss_type="grpo",
                use_bias_correction_kl=False,
                disable_dropout=True,
                **options,
            ),
            train_dataset=Dataset.from_dict({"prompt": [words(p) for p in word_prompts(lengths)]}),
            processing_class=tiny_tokenizer(),
            callbacks=[AfterEachStep(after_step)],
        )
        generate, compute = trainer._generate_and_score_completions, trainer._compute_loss

        def generating(inputs):
            rollouts.append(generate(inputs))
            return rollouts[-1]

        def computing(model, inputs):
            loss = compute(model, inputs)
            losses.append(loss.item())
            return loss

        trainer._generate_and_score_completions = generating
        trainer._compute_loss = computing
        trace.args = trainer.args
        trainer.train()
    assert len(trace.updates) == updates
    return trace
