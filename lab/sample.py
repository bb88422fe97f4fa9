"""A study made small, to be carried along: the sample study in `data/sample/` is one.

Texts are lines of JSON, and a run's weights their difference to the reference's in eight bits, so
that what takes 0.1 GB and more in a study takes a few MB.
"""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import LabError
from .files import append_json_line, read_json_lines, runs_root, write_json
from .preferences import Completion, Ranking
from .store import PreferenceStore
from .votes import Vote, Votes

if TYPE_CHECKING:
    from .experiment import Experiment
    from .runs import Run
    from .trainer import Trainer

SAMPLE = Path(__file__).resolve().parent.parent / "data" / "sample"
WEIGHTS = "policy.safetensors"
LEVELS = 127  # of eight bits with a sign


def sample_study(name: str = "sample", root: str | Path | None = None) -> Experiment:
    """The sample study: 40 rankings by the simulated rater "cheerful", the reward model that
    follows from them, and a short PPO run of SmolLM2's last layer. What you do in it stays in
    `runs/<name>/`; delete that folder to have it anew."""
    return unpack(SAMPLE, Path(root or runs_root()) / name)


def pack(study: Experiment, folder: str | Path) -> None:
    """Write a study small: rankings, votes, what was ranked, and its runs at their newest update.

    Weights are rounded to eight bits, Adam's moments and earlier checkpoints are left out: a run
    goes on from there, or again from its start, but not bit for bit.

    Raises:
        LabError: the folder exists; a run branched off or did not start from the reference.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    if folder.exists():
        raise LabError(f"{folder} exists already. Delete it, or give another.")
    trainers = [study.open_run(name) for name in study.runs]
    for trainer in trainers:
        if "parent" in trainer.run.config or trainer.run.config["start"] != "reference":
            raise LabError(
                f"{trainer.run.name} did not start from the reference: it can't be packed."
            )
    folder.mkdir(parents=True)
    for name in ("prompts.jsonl", "reward.jsonl"):
        shutil.copy2(study.folder / name, folder)
    settings = json.loads((study.folder / "experiment.json").read_text("utf-8"))
    write_json(folder / "experiment.json", settings | {"guidelines": study.store.guidelines})
    completions = study.store.completions()
    for c in completions:
        append_json_line(folder / "completions.jsonl", asdict(c))
    for ranking in study.store.rankings(skipped=True, repeats=True):
        append_json_line(folder / "rankings.jsonl", asdict(ranking))
    for vote in Votes(study.store).all():
        append_json_line(folder / "votes.jsonl", asdict(vote))
    extractor = study.reference.trunk.extractor
    features = study.reward_model.features([c.id for c in completions]).astype(np.float16)
    save_file({extractor: features}, folder / "features.safetensors")
    for trainer in trainers:
        pack_run(trainer, folder / trainer.run.name)


def pack_run(trainer: Trainer, folder: Path) -> None:
    """The record of a run, and its weights as steps from where it started."""
    from safetensors.torch import save_file

    from .runs import PINNED

    run: Run = trainer.run
    folder.mkdir()
    for name in ("config.json", *PINNED, *run.FILES.values(), "tokens.jsonl"):
        if (run.folder / name).exists():
            shutil.copy2(run.folder / name, folder)
    small = {}
    for name, (start, now) in weights(trainer).items():
        step = now - start
        scale = step.abs().max().clamp(min=1e-12) / LEVELS
        small[f"{name}.step"] = (step / scale).round().char()
        small[f"{name}.scale"] = scale.reshape(1)
    save_file(small, folder / WEIGHTS)


def weights(trainer: Trainer) -> dict[str, tuple]:
    """What a run trains, by name: at its start, and now."""
    with trainer.lock:
        here = trainer.snapshot()
        trainer.begin()
        start, _ = trainer.snapshot()
        trainer.restore(*here)
    names = [name for name in here[0] if not name.startswith("optimizer")]
    return {name: (start[name], here[0][name]) for name in names}


def unpack(folder: str | Path, study: str | Path) -> Experiment:
    """A study from what `pack` wrote; one that was unpacked before is opened as it is.

    Raises:
        LabError: the folder holds no packed study.
    """
    from .experiment import Experiment

    folder, study = Path(folder), Path(study)
    if not (folder / "experiment.json").exists():
        raise LabError(f"{folder} holds no packed study.")
    if not (study / "experiment.json").exists():
        part = study.with_name(f".{study.name}.part")  # a study only once it is whole
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder, part, ignore=shutil.ignore_patterns("*.part"))
        unpack_preferences(folder, part / "preferences.sqlite")
        part.rename(study)
    opened = Experiment(study.name, root=study.parent)
    for name in opened.runs:
        if (opened.folder / name / WEIGHTS).exists():
            unpack_weights(opened, name)
    return opened


def unpack_preferences(folder: Path, path: Path) -> None:
    """Completions with their features, rankings and votes as a store."""
    from safetensors.numpy import load_file

    [(extractor, features)] = load_file(folder / "features.safetensors").items()
    with closing(PreferenceStore(path)) as store:
        rows = read_json_lines(folder / "completions.jsonl")
        completions = [Completion(**row | {"token_ids": tuple(row["token_ids"])}) for row in rows]
        ids = store.add_completions(completions, extractor, features.astype(np.float32))
        new = {c.id: id for c, id in zip(completions, ids, strict=True)}
        added: dict[int, int] = {}
        for row in read_json_lines(folder / "rankings.jsonl"):
            tiers = row["tiers"] and tuple(tuple(new[i] for i in tier) for tier in row["tiers"])
            row |= {"tiers": tiers, "shown": tuple(new[i] for i in row["shown"]), "edits": None}
            row["repeats"] = row["repeats"] and added.get(row["repeats"], 0)
            added[row["id"]] = store.add_ranking(Ranking(**row)).id
        for row in read_json_lines(folder / "votes.jsonl"):
            pairs = {name: tuple(row[name]) for name in ("variants", "texts")}
            Votes(store).add(Vote(**row | pairs))
        store.guidelines = json.loads((folder / "experiment.json").read_text())["guidelines"]


def unpack_weights(study: Experiment, name: str) -> None:
    """A checkpoint after a run's newest update, from the steps of its weights."""
    from safetensors.torch import load_file

    from .runs import Run
    from .training import KINDS, open_trainer

    run = Run(study.folder / name)
    if run.last in run.checkpoints:  # a crash came before they were put away
        return (run.folder / WEIGHTS).unlink()
    small = load_file(run.folder / WEIGHTS)
    with study.compute:
        trainer = open_trainer(study, run, resume=False)
        tensors, _ = trainer.snapshot()
        for key in [n.removesuffix(".step") for n in small if n.endswith(".step")]:
            step = small[f"{key}.step"].float() * small[f"{key}.scale"]
            tensors[key] += step.to(tensors[key].device)
        settings = asdict(KINDS[run.config["kind"]].of(run.settings_of(run.last)))
        run.save(tensors, {"update": run.last, "settings": settings}, trainer.best_metric)
    (run.folder / WEIGHTS).unlink()
