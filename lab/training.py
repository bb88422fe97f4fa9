"""How a study makes its runs: each kind of trainer, pinned to what it learns from.

What a run learns from lies in its own folder (a reward model, pairs, demonstrations), so that
ranking goes on while it trains without moving its goal.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .demonstrations import Demonstration, load_demonstrations, write_demonstrations
from .errors import BadSetting, DamagedStudy, LabError, NotReady, NotRepeated
from .files import write_json
from .reward import RewardHead
from .settings import (
    DPOSettings,
    GRPOSettings,
    PPOSettings,
    PretrainSettings,
    RewardSettings,
    RolloutSettings,
    Settings,
    SFTSettings,
)
from .texts import Texts

if TYPE_CHECKING:
    from .dpo import TokenPair
    from .experiment import Experiment
    from .policy import Policy
    from .runs import Run
    from .samples import Samples
    from .trainer import Trainer

KINDS: dict[str, type[Settings]] = {
    "ppo": PPOSettings,
    "grpo": GRPOSettings,
    "dpo": DPOSettings,
    "sft": SFTSettings,
    "reward": RewardSettings,
    "pretrain": PretrainSettings,
}
WITH_POLICY = ("ppo", "grpo", "dpo", "sft", "pretrain")  # the kinds that end in a policy
PLACES = ("start", "demonstrations", "corpus")  # options of a new run that are no settings


def settings_for(study: Experiment, kind: str, **settings: Any) -> Settings:
    """Checked settings of a new run: the study's sampling settings and seed, and what is given.

    Raises:
        BadSetting: the kind, or a setting, is unknown or out of its range.
    """
    if kind not in KINDS:
        raise BadSetting(f"kind={kind!r}: give one of {', '.join(KINDS)}.")
    own: dict[str, Any] = {"seed": study.seed}
    if issubclass(KINDS[kind], RolloutSettings):
        own |= {"max_new_tokens": study.max_new_tokens, "temperature": study.temperature}
    return KINDS[kind].of(own | settings)


def make_run(
    study: Experiment,
    kind: str,
    settings: dict[str, Any],
    start: str = "reference",
    demonstrations: str | Path | Sequence[Demonstration | tuple[str, str]] | None = None,
    corpus: Texts | str | Path | Sequence[str] | None = None,
    on_chunk: Callable[[int], None] | None = None,
) -> Run:
    """A new run of a study, in a folder with all that it learns from.

    Args:
        start: what the run starts from and is held close to: "reference", or the name of a run,
            such as an SFT that PPO should go on from.
        demonstrations: what SFT learns from; see `load_demonstrations`.
        corpus: what pretraining learns from; see `Texts.of`.
        on_chunk: gets how many of the missing completions of `completions.pool()` are there.

    Raises:
        NotReady: what the kind learns from is not there yet.
    """
    import torch
    from safetensors.torch import save_file

    from .runs import Run, next_folder

    checked = settings_for(study, kind, **settings)
    config = {
        "kind": kind,
        "settings": asdict(checked),
        "start": start,
        "created": time.time(),
        "threads": torch.get_num_threads(),
        "rankings": len(study.store.rankings()),
    }
    if start != "reference" and start not in study.runs:
        raise NotReady(f"start={start!r}: this study has no such run. It has {study.runs}.")
    pinned: dict[str, Callable[[Path], None]] = {}
    if kind == "sft":
        if demonstrations is None:
            raise NotReady("SFT needs demonstrations: a file or a list of (prompt, completion).")
        found = load_demonstrations(demonstrations)
        pinned["demonstrations.jsonl"] = lambda path: write_demonstrations(path, found)
    elif kind == "pretrain":
        from .pretraining import tokens_of

        texts, tokenizer = Texts.of(corpus), study.reference.trunk.tokenizer
        parts = {"train": texts.train, "heldout": texts.all_heldout}
        tokens = {part: tokens_of(tokenizer, found) for part, found in parts.items()}
        pinned["corpus.safetensors"] = lambda path: save_file(tokens, path)
    else:
        study.reward_model.require_head()
    if kind in ("ppo", "grpo"):
        config["prompts"] = study.completions.pool(on_chunk)
        study.reward_model.refit()  # with the offsets of the whole pool
        head = study.reward_model.require_head()
        pinned["reward.json"] = lambda path: head.save(path.parent)
    if kind in ("dpo", "reward"):
        pairs = pairs_to_pin(study, own_heldout=kind == "reward")
        pinned["pairs.json"] = lambda path: write_json(path, pairs)
    if start != "reference":
        weights = study.open_run(start).policy.trainable_state()
        pinned["start.safetensors"] = lambda path: save_file(weights, path)
    folder = next_folder(study.folder, kind)
    folder.mkdir(parents=True)
    for name, write in pinned.items():
        write(folder / name)
    return Run(folder, config)


def trainer_class(kind: str) -> type[Trainer]:
    """The trainer of a kind. Imported when it is asked for: torch takes seconds."""
    from .dpo import DPO
    from .grpo import GRPO
    from .ppo import PPO
    from .pretraining import Pretraining
    from .reward_trainer import RewardTrainer
    from .sft import SFT

    return {c.kind: c for c in (PPO, GRPO, DPO, SFT, RewardTrainer, Pretraining)}[kind]


def open_trainer(study: Experiment, run: Run, resume: bool = True) -> Trainer:
    """The trainer of a run, at its newest update; without `resume`, at its newest checkpoint."""
    kind = run.config["kind"]
    trainer, settings = trainer_class(kind), KINDS[kind].of(run.config["settings"])
    reference = start_of(study, run)
    if kind in ("ppo", "grpo"):
        score = partial(score_samples, RewardHead.load(run.folder))
        opened = trainer(reference, score, run.config["prompts"], settings, run)
    elif kind == "sft":
        found = load_demonstrations(run.folder / "demonstrations.jsonl")
        opened = trainer(reference, found, settings, run)
    elif kind == "pretrain":
        from .pretraining import load_tokens

        opened = trainer(reference, load_tokens(run.folder / "corpus.safetensors"), settings, run)
    else:
        training, heldout = pinned_pairs(run.folder / "pairs.json")
        more = (heldout,) if kind == "reward" else ()
        opened = trainer(reference, training, *more, settings=settings, run=run)
    opened.lock = study.compute
    if resume and opened.update < run.last:  # a crash came before the next checkpoint
        with suppress(NotRepeated):  # said when it is stepped
            opened.rewind(run.last)
    return opened


def start_of(study: Experiment, run: Run) -> Policy:
    """What a run starts from and is held close to."""
    if run.config.get("start", "reference") == "reference":
        return study.reference
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = run.folder / "start.safetensors"
    policy = study.reference.copy()
    try:
        policy.load_trainable_state(load_file(path))
    except (OSError, RuntimeError, KeyError, SafetensorError) as error:
        raise DamagedStudy(f"{path} can't be read ({error}). Start a new run.") from error
    return policy.requires_grad_(False)


def score_samples(head: RewardHead, prompts: list[str], samples: Samples) -> list[float]:
    """The score that PPO maximises: a pinned reward head on the rollout's own trunk states."""
    return head.score(prompts, samples.features().numpy(force=True)).tolist()


def pairs_to_pin(study: Experiment, own_heldout: bool) -> list[dict[str, Any]]:
    """The preference pairs of a study with their token ids. Pairs of held-out prompts are marked;
    with `own_heldout`, where there are none, those of every fifth ranked prompt are."""
    pairs = study.store.pairs()
    ids = {c.id: c.token_ids for c in study.store.completions()}
    ranked = list(dict.fromkeys(p.prompt for p in pairs))
    heldout = set(study.heldout) & set(ranked)
    if own_heldout and not heldout:
        heldout = set(ranked[4::5])
    return [
        {"prompt": p.prompt, "chosen": ids[p.chosen], "rejected": ids[p.rejected]}
        | {"target": p.target, "weight": p.weight, "heldout": p.prompt in heldout}
        for p in pairs
    ]


def pinned_pairs(path: Path) -> tuple[list[TokenPair], list[TokenPair]]:
    """The pairs of a run: those that train, and those that are held out.

    Raises:
        DamagedStudy: the file can't be read.
    """
    from .dpo import TokenPair

    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found: tuple[list, list] = ([], [])
        for row in rows:
            sides = (tuple(row["chosen"]), tuple(row["rejected"]))
            pair = TokenPair(row["prompt"], *sides, row["target"], row["weight"])
            found[row["heldout"]].append(pair)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DamagedStudy(f"{path} can't be read ({error}). Start a new run.") from error
    return found


def policy_of(study: Experiment, name: str) -> Policy:
    """A frozen policy: "reference", or what a run has come to. Raises LabError for any other."""
    if name == "reference":
        return study.reference
    if name not in study.runs:
        raise LabError(f"There is no run {name!r} with a policy. There are: {study.runs}.")
    return frozen_copy(study, study.open_run(name).policy)


def frozen_copy(study: Experiment, policy: Policy) -> Policy:
    """What a policy is now, whatever becomes of it."""
    copy = study.reference.copy()
    copy.start_from(policy)
    return copy.requires_grad_(False)


def policy_at(
    study: Experiment, name: str, update: int, tell: Callable[[str], None] | None = None
) -> Policy:
    """A frozen policy: what a run was after an update. A trainer of the run that is in use stays
    where it is, and nothing on disk changes.

    Args:
        tell: gets words on how far it is, where updates have to be computed again.

    Raises:
        LabError: there is no such run, or it has no such update.
        NotRepeated: it comes out otherwise on this machine than it is recorded.
    """
    from .past import Past

    if name not in study.runs:
        raise LabError(f"There is no run {name!r} with a policy. There are: {study.runs}.")
    with study.compute:
        if (trainer := study.trainer_in_use(name)) is not None and trainer.update == update:
            return frozen_copy(study, trainer.policy)

        def say(row: dict) -> None:
            if tell:
                tell(f"{name}: computed update {row['update']} of {update} again…")

        trainer = open_trainer(study, Past(study.folder / name), resume=False)
        trainer.rewind(update, say)
        return trainer.policy.requires_grad_(False)
