"""`python -m lab pretrain`: pocket from nothing. Corpus, tokenizer, random weights, training, and
the model card with what was measured."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from . import pocket
from .corpus import SHIPPED, Corpus, held_out
from .errors import LabError
from .experiment import Experiment
from .files import write_json
from .pocket_card import Measured, measure, write_card
from .texts import DOCUMENTS, Texts
from .trainer import Trainer

UPDATES = 3600
IN_ORDER = 240  # updates that read the primer before all is shuffled
FOR_TOKENIZER = 5  # one document in so many
WORD_READ = 500  # times
SAMPLES_EVERY = 200  # updates
OTHERS = 1_000  # documents that check the rules for samples


def make_pocket(
    out: str | Path = "runs/pocket",
    updates: int = UPDATES,
    documents: int = DOCUMENTS,
    seed: int = 0,
    corpus: str | Path = SHIPPED,
) -> Measured:
    """Pretrain pocket, or go on where an interruption left it; `out/model` is the model's folder.

    Args:
        out: the folder of a study, which holds the run and its checkpoints.
        corpus: a folder laid out like `data/corpus`.

    Raises:
        BadCorpus: the corpus is empty or can't be read.
        LabError: what lies in `out` was begun with another recipe.
    """
    out, console, start = Path(out).expanduser().resolve(), Console(), time.perf_counter()
    recipe = {"updates": updates, "documents": documents, "seed": seed}
    recipe["corpus"] = fingerprint(Path(corpus))
    check_recipe(out, recipe)
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        task = bars.add_task("documents", total=documents)
        texts = Texts.written(corpus, documents, seed, lambda n: bars.update(task, completed=n))
        task = bars.add_task("tokenizer", total=1)
        if not (out / "untrained").exists():
            tokenizer = pocket.train_tokenizer(read_by_tokenizer(texts, corpus))
            pocket.save(pocket.untrained(tokenizer, seed), tokenizer, out / "untrained")
        bars.update(task, completed=1)
        study = Experiment(
            out.name, str(out / "untrained"), root=out.parent, trainable="all", seed=seed
        )
        trainer = study.trainer("pretrain") if study.runs else begin(study, texts, updates)
        if trainer.update:
            console.print(f"Going on after update {trainer.update} of {trainer.run.name}.")
        train(trainer, updates, bars, console)
    keep(trainer, out / "model")
    console.print("Measuring on held-out text…")
    seconds = sum(row["seconds"] for row in trainer.history)
    facts = recipe | {"seconds_training": seconds, "seconds": time.perf_counter() - start}
    known = set(texts.train)
    others = [t for t in Texts.written(corpus, OTHERS, seed + 1).train if t not in known]
    measured = measure(out / "model", study.reference, texts, others, facts)
    write_json(out / "model" / "measured.json", measured.as_row())
    write_card(out / "model" / "README.md", measured)
    console.print(measured.in_words())
    console.print(f"The model and its card are in {out / 'model'}.")
    return measured


def check_recipe(out: Path, recipe: dict) -> None:
    """Write down what a model is made with; go on with nothing else. Raises LabError."""
    path = out / "recipe.json"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        return write_json(path, recipe)
    begun = json.loads(path.read_text(encoding="utf-8"))
    if other := [name for name in recipe if recipe[name] != begun.get(name)]:
        raise LabError(
            f"{out} was begun with another {' and '.join(other)}. Give another --out, or delete "
            "the folder."
        )


def fingerprint(folder: Path) -> str:
    """Sixteen hex digits that change whenever the corpus does."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.toml")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def begin(study: Experiment, texts: Texts, updates: int) -> Trainer:
    """A new run; the learning rate falls until its last update."""
    return study.trainer(
        "pretrain",
        corpus=texts,
        schedule=updates,
        warmup=min(60, max(1, updates // 10)),
        in_order=min(IN_ORDER, updates // 10),
    )


def read_by_tokenizer(texts: Texts, corpus: str | Path) -> list[str]:
    """Some of the texts, and the words that they are about so often that each becomes one token: a
    word in one piece can be taken up again in one step."""
    there = Corpus(corpus)
    names = [s.name for s in (*there.subjects, *there.words) if not held_out(s.name)]
    return texts.train[::FOR_TOKENIZER] + [f" {' '.join(names)}"] * WORD_READ


def train(trainer: Trainer, updates: int, bars: Progress, console: Console) -> None:
    """Step until `updates`, with the loss in the bar and samples now and then."""
    task = bars.add_task("updates", total=updates, completed=trainer.update)
    heldout = ""
    while trainer.update < updates:
        row = trainer.step()
        heldout = f", held out {row['eval_loss']:.2f}" if "eval_loss" in row else heldout
        words = f"updates: loss {row['loss']:.2f}{heldout}"
        bars.update(task, completed=trainer.update, description=words)
        if trainer.update % SAMPLES_EVERY == 0:
            for sample in trainer.last_samples:
                line = f"{sample['prompt'] or '(nothing)'} → {sample['completion']}"
                console.print(Text(line.replace("\n", " / ")))
    trainer.save()


def keep(trainer: Trainer, folder: Path) -> None:
    """The trained policy as an ordinary folder of transformers, 16 bits a weight."""
    policy = trainer.policy
    pocket.save(pocket.whole(policy), policy.trunk.tokenizer, folder)
