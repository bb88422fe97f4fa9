"""How a study makes its runs: each kind of trainer, pinned to what it learns from.

What a run learns from lies in its own folder (a reward model, pairs, demonstrations), so that
ranking goes on while it trains without moving its goal.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .demonstrations import Demonstration, load_demonstrations, write_demonstrations
from .errors import BadSetting, DamagedStudy, LabError, NotReady
from .files import write_json
from .reward import RewardHead
from .settings import (
    DPOSettings,
    GRPOSettings,
    PPOSettings,
    RewardSettings,
    RolloutSettings,
    Settings,
    SFTSettings,
)

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
}
ALIGNING = ("ppo", "grpo", "dpo", "sft")  # those that end in a policy


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
    on_chunk: Callable[[int], None] | None = None,
) -> Run:
    """A new run of a study, in a folder with all that it learns from.

    Args:
        start: what the run starts from and is held close to: "reference", or the name of a run,
            such as an SFT that PPO should go on from.
        demonstrations: what SFT learns from; see `load_demonstrations`.
        on_chunk: gets how many of the missing completions of `completions.pool()` are there.

    Raises:
        NotReady: what the kind learns from is not there yet.
    """
    from .runs import Run, next_folder

    checked = settings_for(study, kind, **settings)
    config = {
        "kind": kind,
        "settings": asdict(checked),
        "start": start,
        "created": time.time(),
        "rankings": len(study.store.rankings()),
    }
    if start != "reference" and start not in study.runs:
        raise NotReady(f"start={start!r}: this study has no such run. It has {study.runs}.")
    if kind == "sft":
        if demonstrations is None:
            raise NotReady("SFT needs demonstrations: a file or a list of (prompt, completion).")
        found = load_demonstrations(demonstrations)
        folder = next_folder(study.folder, kind)
        folder.mkdir(parents=True)
        write_demonstrations(folder / "demonstrations.jsonl", found)
        return Run(folder, config)
    study.reward_model.require_head()
    if kind in ("ppo", "grpo"):
        config["prompts"] = study.completions.pool(on_chunk)
        study.reward_model.refit()  # with the offsets of the whole pool
        folder = next_folder(study.folder, kind)
        folder.mkdir(parents=True)
        study.reward_model.require_head().save(folder)
        return Run(folder, config)
    folder = next_folder(study.folder, kind)
    folder.mkdir(parents=True)
    write_json(folder / "pairs.json", [asdict(p) for p in study.store.pairs()])
    return Run(folder, config)


def trainer_class(kind: str) -> type[Trainer]:
    """The trainer of a kind. Imported when it is asked for: torch takes seconds."""
    from .dpo import DPO
    from .grpo import GRPO
    from .ppo import PPO
    from .reward_trainer import RewardTrainer
    from .sft import SFT

    return {c.kind: c for c in (PPO, GRPO, DPO, SFT, RewardTrainer)}[kind]


def open_trainer(study: Experiment, run: Run) -> Trainer:
    """The trainer of a run, where it stands."""
    kind = run.config["kind"]
    trainer, settings = trainer_class(kind), KINDS[kind].of(run.config["settings"])
    reference = policy_of(study, run.config.get("start", "reference"))
    if kind in ("ppo", "grpo"):
        score = partial(score_samples, RewardHead.load(run.folder))
        return trainer(reference, score, run.config["prompts"], settings, run)
    if kind == "sft":
        found = load_demonstrations(run.folder / "demonstrations.jsonl")
        return trainer(reference, found, settings, run)
    pairs = pinned_pairs(study, run.folder / "pairs.json")
    training, heldout = pairs[False], pairs[True]
    if kind == "dpo":
        return trainer(reference, training, settings, run)
    if not heldout:
        training, heldout = hold_out(training)
    return trainer(reference, training, heldout, settings, run)


def score_samples(head: RewardHead, prompts: list[str], samples: Samples) -> list[float]:
    """The score that PPO maximises: a pinned reward head on the rollout's own trunk states."""
    return head.score(prompts, samples.features().numpy(force=True)).tolist()


def pinned_pairs(study: Experiment, path: Path) -> dict[bool, list[TokenPair]]:
    """The pairs of a run, with token ids: those that train (False), those of held-out prompts.

    Raises:
        DamagedStudy: the file can't be read.
    """
    from .dpo import TokenPair
    from .preferences import Pair

    try:
        pairs = [Pair(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise DamagedStudy(f"{path} can't be read ({error}). Start a new run.") from error
    ids = {c.id: c.token_ids for c in study.store.completions()}
    heldout = {p.text for p in study.prompts if p.split == "heldout"}
    found: dict[bool, list[TokenPair]] = {False: [], True: []}
    for pair in pairs:
        sides = (ids[pair.chosen], ids[pair.rejected])
        token_pair = TokenPair(pair.prompt, *sides, pair.target, pair.weight)
        found[pair.prompt in heldout].append(token_pair)
    return found


def hold_out(pairs: Sequence[TokenPair]) -> tuple[list[TokenPair], list[TokenPair]]:
    """Pairs that train, and those of every fifth prompt, held out; of a single prompt, none."""
    prompts = set(list(dict.fromkeys(p.prompt for p in pairs))[4::5])
    return [p for p in pairs if p.prompt not in prompts], [p for p in pairs if p.prompt in prompts]


def policy_of(study: Experiment, name: str) -> Policy:
    """A frozen policy: "reference", or what a run has come to. Raises LabError for any other."""
    if name == "reference":
        return study.reference
    if name not in study.runs:
        raise LabError(f"There is no run {name!r} with a policy. There are: {study.runs}.")
    from .runs import Run

    policy, run = study.reference.copy(), Run(study.folder / name)
    if (saved := run.load(run.last)) is not None:
        own = {k: v for k, v in saved[0].items() if k.startswith("policy.")}
        policy.load_trainable_state({k.removeprefix("policy."): v for k, v in own.items()})
    return policy.requires_grad_(False)


def run_row(folder: Path) -> dict[str, Any]:
    """A run in a table of runs; its score and KL are those of its newest update."""
    from .runs import Run

    run = Run(folder)
    last = run.history[-1] if run.history else {}
    return {
        "run": run.name,
        "kind": run.config["kind"],
        "parent": run.config.get("parent"),
        "updates": run.last,
        "score": last.get("objective/scores"),
        "kl": last.get("objective/kl"),
        "megabytes": run.megabytes,
        "settings": run.config["settings"],
    }
