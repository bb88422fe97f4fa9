"""What one PPO update costs here, beside the machine's limit and beside TRL doing the same work."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from . import catalog
from .bench_trl import LEARNING_RATE, VERSION, require_trl, trl
from .bench_worker import Work, Worker, ours
from .errors import LabError
from .files import write_json
from .prompts import load_prompts

PHASES = {"sample": "sampling", "score": "scoring", "train": "training"}


def bench(
    model: str = catalog.DEFAULT,
    batch: int = 16,
    tokens: int = 24,
    epochs: int = 2,
    trainable: str | int = "auto",
    updates: int = 5,
    seed: int = 0,
    against: str | None = None,
    lora: bool = False,
    grow: bool = False,
    learn: int = 0,
    quick: bool = False,
    json: str | Path | None = None,
) -> dict:
    """Measure PPO updates of fixed work: medians over `updates`, after one that is not counted.

    Args:
        batch: rollouts an update, each of exactly `tokens` new tokens, in one minibatch.
        against: "trl" takes turns with TRL's PPOTrainer, update by update.
        lora: with TRL, once more with LoRA.
        grow: also how the costs grow; see `lab.bench_grow`.
        learn: with TRL, also the reward gained in so many updates; see `lab.bench_learn`.
        quick: two updates, and the small end of what grows.
        json: the file that gets the figures, which are also returned.

    Raises:
        LabError: TRL or peft is missing, or the work fits no memory.
    """
    if against not in (None, "trl"):
        raise LabError(f'--against {against}: the lab can be compared with "trl".')
    if (lora or learn) and against is None:
        raise LabError("--lora and --learn compare with TRL: add --against trl.")
    if updates < 1:
        raise LabError(f"--updates {updates}: give at least 1.")
    if json and not Path(json).absolute().parent.is_dir():
        raise LabError(f"--json {json}: there is no such folder.")  # now, not minutes later
    if against:
        require_trl(lora)
    console, updates = Console(), 2 if quick else updates
    work = plan(model, batch, tokens, epochs, trainable, seed)
    results = describe(model, work) | measure(work, updates, against, lora, console)
    show(console, results)
    if grow:
        from .bench_grow import grow_all, show_growth

        results["grow"] = grow_all(work, model, results["layers"], quick, console)
        show_growth(console, results["grow"])
    if learn:
        from .bench_learn import learn_both, show_learning

        results["learn"] = learn_both(work, learn, console)
        show_learning(console, results["learn"])
    if json:
        write_json(Path(json), results)
        console.print(f"The figures are in {json}.")
    return results


def plan(model: str, batch: int, tokens: int, epochs: int, trainable: str | int, seed: int) -> Work:
    """Fixed work: the first training prompts that the lab ships, one a rollout."""
    folder = catalog.fetch(model)
    texts = [p.text for p in load_prompts() if p.split == "train"]
    prompts = tuple(texts[i % len(texts)] for i in range(batch))
    trainable = int(trainable) if str(trainable).isdigit() else trainable
    where = (str(folder.path), folder.chat_template)
    return Work(*where, prompts, batch, tokens, epochs, trainable, seed)


def with_batch(work: Work, batch: int) -> Work:
    """The same work with another number of rollouts."""
    texts = work.prompts
    return replace(work, batch=batch, prompts=tuple(texts[i % len(texts)] for i in range(batch)))


def describe(model: str, work: Work) -> dict:
    """What was measured, where."""
    from importlib.metadata import version

    names = ("batch", "tokens", "epochs", "trainable", "seed")
    settings = {k: v for k, v in asdict(work).items() if k in names}
    return {
        "model": model,
        "work": settings,
        "torch": version("torch"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def measure(work: Work, updates: int, against: str | None, lora: bool, console: Console) -> dict:
    """The figures of our updates, their limit, and TRL's."""
    opponents = [(name, name == "trl_lora") for name in ("trl", "trl_lora")[: 1 + lora]]
    results, rows = {}, []
    with Worker(ours, work) as lab:
        if not against:
            rows = take_turns({"lab": lab}, updates, console)["lab"]
        for name, with_lora in opponents if against else []:
            theirs = replace(work, learning_rate=LEARNING_RATE)
            with Worker(trl, theirs, lab.ready["prompt_ids"], with_lora) as other:
                turns = take_turns({"lab": lab, name: other}, updates, console)
            rows += turns["lab"]
            results |= compared(name, turns["lab"], turns[name])
        console.print("the machine's limit ...")
        limit = lab.ask("limit")
    return {"layers": lab.ready["layers"], **figures(work, rows, limit), **results}


def take_turns(workers: dict[str, Worker], updates: int, console: Console) -> dict[str, list[dict]]:
    """An update of each in turn, so that a slow minute of the machine meets them all; the first
    of each is not counted."""
    rows: dict[str, list[dict]] = {name: [] for name in workers}
    for update in range(updates + 1):
        for name, worker in workers.items():
            row = worker.ask("step")
            note = f"update {update} of {updates}" if update else "warm-up"
            console.print(f"{name:<9} {note:<16} {row['seconds']:7.2f} s")
            if update:
                rows[name].append(row)
    return rows


def middle(rows: Sequence[dict], name: str) -> float:
    """The median of one metric."""
    return median(row[name] for row in rows)


def figures(work: Work, rows: Sequence[dict], limit: dict) -> dict:
    """Medians of our updates, and their ratio to the limit."""
    update = middle(rows, "seconds")
    phases = {f"{k}_seconds": middle(rows, f"seconds_{v}") for k, v in PHASES.items()}
    return {
        "update_seconds": update,
        **phases,
        "tokens_per_second": work.batch * work.tokens / update,
        "peak_memory_mb": rows[-1]["peak_memory_mb"],
        "ratio_to_limit": update / limit["seconds"],
        "limit": limit,
        "seconds_each": [row["seconds"] for row in rows],
    }


def compared(name: str, lab: Sequence[dict], other: Sequence[dict]) -> dict:
    """TRL's figures and ours against them, of updates that took turns.

    `speedup` is theirs / ours, `memory_ratio` ours / theirs.
    """
    suffix, seconds = name.removeprefix("trl"), middle(other, "seconds")
    memory, own = other[-1]["peak_memory_mb"], lab[-1]["peak_memory_mb"]
    return {
        f"{name}_update_seconds": seconds,
        f"{name}_peak_memory_mb": memory,
        f"{name}_seconds_each": [row["seconds"] for row in other],
        f"speedup{suffix}": seconds / middle(lab, "seconds"),
        f"memory_ratio{suffix}": own / memory if own and memory else None,
    }


def show(console: Console, r: dict) -> None:
    """The figures as a table."""
    work, limit, machine = r["work"], r["limit"], r["limit"]["machine"]
    title = (
        f"{r['model']}: {work['batch']} rollouts x {work['tokens']} tokens, "
        f"{work['epochs']} epochs, trainable {work['trainable']}"
    )
    table = Table("an update", "seconds", "limit", "times the limit", title=title)
    for name, phase in PHASES.items():
        needed = limit.get(f"{phase}_seconds")
        ratio = f"{r[f'{name}_seconds'] / needed:.2f}" if needed else ""
        least = f"{needed:.2f}" if needed else ""
        table.add_row(phase, f"{r[f'{name}_seconds']:.2f}", least, ratio)
    total = (f"{r['update_seconds']:.2f}", f"{limit['seconds']:.2f}", f"{r['ratio_to_limit']:.2f}")
    table.add_row("whole update", *total, style="bold")
    console.print(table)
    low, high = min(r["seconds_each"]), max(r["seconds_each"])
    console.print(
        f"{low:.2f} to {high:.2f} s over {len(r['seconds_each'])} updates; "
        f"{r['tokens_per_second']:.0f} tokens/s; peak memory {r['peak_memory_mb'] or 0:,.0f} MB.\n"
        f"The work: {limit['flops'] / 1e9:,.0f} GFLOP, {limit['weight_bytes'] / 1e9:,.1f} GB of "
        f"weights. The machine: {machine['gflops']:.0f} GFLOP/s, reads "
        f"{machine['read_gb_per_second']:.0f} GB/s, {machine['threads']} threads."
    )
    for name in ("trl", "trl_lora"):
        if f"{name}_update_seconds" in r:
            suffix = name.removeprefix("trl")
            console.print(
                f"TRL {VERSION}{' with LoRA' if suffix else ''}: "
                f"{r[f'{name}_update_seconds']:.2f} s an update, "
                f"{r[f'{name}_peak_memory_mb'] or 0:,.0f} MB. "
                f"The lab is {r[f'speedup{suffix}']:.1f} times as fast, with "
                f"{100 * (r[f'memory_ratio{suffix}'] or 0):.0f} % of the memory."
            )
