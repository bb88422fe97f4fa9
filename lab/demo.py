"""The whole loop in a terminal: rank, fit, align, compare; `summary.json` has the figures."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .compare import EVALUATION, Answers, Comparison, answer, compare, gold
from .completions import PER_PROMPT, POOL
from .errors import LabError
from .experiment import Experiment
from .files import write_json
from .preferences import Pair
from .raters import Rater, get_rater
from .reward import pair_accuracy
from .statistics import Estimate

HELDOUT_COMPLETIONS = 5  # of the reference, for each held-out prompt


def demo(
    model: str = "smollm2",
    rater: str | Rater = "cheerful",
    rankings: int = 40,
    updates: int = 25,
    seed: int = 0,
    out: str | Path = "runs/demo",
    **settings: float,
) -> dict:
    """Align a model to a simulated rater, and measure it on held-out prompts. Returns, and writes
    to `out/summary.json`, the figures.

    Raises:
        LabError: `out` holds a study already.
    """
    start, out, rater = time.perf_counter(), Path(out), get_rater(rater)
    if (out / "experiment.json").exists():
        raise LabError(f"{out} holds a study already. Give another --out, or delete the folder.")
    console = Console()
    study = Experiment(out.name, model, seed=seed, root=out.parent)
    console.print(f"[bold]{study.model.name}[/] from {study.model.source}, rater {rater.name}")
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:

        def bar(text: str, total: int) -> Callable[[int], None]:
            task = bars.add_task(text, total=total)
            return lambda done: bars.update(task, completed=done)

        prompts = study.session().upcoming()[:rankings]
        study.completions.ensure(
            prompts, on_chunk=bar("completions to rank", PER_PROMPT * len(prompts))
        )
        study.session().simulate(
            rater, rankings, bar("rankings, the reward model refitted", rankings)
        )

        lacking = PER_PROMPT * max(0, POOL - rankings)
        study.completions.pool(bar("completions for comparison", lacking))
        heldout = study.heldout
        asked = [p for p in heldout for _ in range(HELDOUT_COMPLETIONS)]
        reference = answer_with(
            study, study.reference, asked, bar("reference, held-out", len(asked))
        )
        accuracy = gold_accuracy(study, reference, rater)

        trainer = study.trainer(new=True, **settings)
        tick = bar("PPO updates", updates)

        def show(metrics: dict) -> None:
            tick(metrics["update"])
            kl, score = metrics["objective/kl"], metrics["objective/scores"]
            bars.tasks[-1].description = f"PPO updates: score {score:+.2f}, KL {kl:.1f}"

        history = trainer.train(updates, show)
        aligned = answer_with(study, trainer.policy, asked, bar("aligned, held-out", len(asked)))
    result = compare(reference, aligned, gold(rater.utility))
    summary = summarise(study, rater, accuracy, result, history)
    summary |= {"seconds_total": time.perf_counter() - start, "peak_memory_mb": peak_memory_mb()}
    write_json(out / "summary.json", summary)
    show_samples(console, result)
    show_summary(console, summary, out)
    return summary


def answer_with(study: Experiment, policy, prompts: list[str], on_chunk) -> Answers:
    """Answers to evaluation prompts: their own seed, at the study's sampling settings."""
    return answer(
        policy,
        prompts,
        reference=study.reference,
        max_new_tokens=study.max_new_tokens,
        temperature=study.temperature,
        seed=study.seed + EVALUATION,
        on_chunk=on_chunk,
    )


def gold_accuracy(study: Experiment, answers: Answers, rater: Rater) -> Estimate | None:
    """Accuracy of the reward model on strict pairs of held-out completions, by the rater's
    utility without its noise."""
    utility = [rater.utility(p, t) for p, t in zip(answers.prompts, answers.texts, strict=True)]
    raw = study.reward_model.require_head().raw(answers.features)
    by_prompt: dict[str, list[int]] = {}
    for i, prompt in enumerate(answers.prompts):
        by_prompt.setdefault(prompt, []).append(i)
    pairs, margins = [], []
    for prompt, rows in by_prompt.items():
        for a, b in combinations(rows, 2):
            if utility[a] != utility[b]:
                better, worse = (a, b) if utility[a] > utility[b] else (b, a)
                pairs.append(Pair(prompt, better, worse, 1.0, 1.0, 0))
                margins.append(raw[better] - raw[worse])
    return pair_accuracy(pairs, np.array(margins))


def summarise(
    study: Experiment, rater: Rater, accuracy: Estimate | None, result: Comparison, history: list
) -> dict:
    """The figures of `summary.json`; null where there was nothing to measure."""
    fitted = study.reward_model.accuracies
    return {
        "model": study.model.name,
        "source": study.model.source,
        "rater": rater.name,
        "seed": study.seed,
        "rankings": fitted.rankings,
        "updates": len(history),
        "cv_accuracy": fitted.cv.value if fitted.cv else None,
        "heldout_accuracy": accuracy.value if accuracy else None,
        "heldout_interval": accuracy.interval if accuracy else None,
        "heldout_pairs": accuracy.count if accuracy else 0,
        "prequential_accuracy": fitted.prequential.value if fitted.prequential else None,
        **result.summary(),
        "seconds_per_update": float(np.median([row["seconds"] for row in history])),
    }


def peak_memory_mb() -> float | None:
    """The most memory this process has held; None where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def show_samples(console: Console, result: Comparison, count: int = 4) -> None:
    """A few held-out prompts, before and after."""
    table = Table("prompt", "reference", "aligned", show_lines=True)
    for i in range(0, len(result.reference.prompts), HELDOUT_COMPLETIONS):
        if i < count * HELDOUT_COMPLETIONS:
            from rich.text import Text  # model text is text, never markup

            row = (result.reference.prompts[i], result.reference.texts[i], result.aligned.texts[i])
            table.add_row(*map(Text, row))
    console.print(table)


def show_summary(console: Console, s: dict, out: Path) -> None:
    """The figures in words."""
    low, high = s["gold_gain_interval"]
    console.print(
        f"Reward model: accuracy on held-out prompts {s['heldout_accuracy'] or 0:.2f} "
        f"({s['heldout_pairs']} pairs).\n"
        f"Utility on held-out prompts: {s['gold_reference']:.2f} -> {s['gold_aligned']:.2f}, "
        f"gain {s['gold_gain']:.2f} [{low:.2f}, {high:.2f}], "
        f"win rate {s['win_rate']:.2f}, KL {s['kl']:.1f}, distinct-2 "
        f"{s['distinct2_reference']:.2f} -> {s['distinct2_aligned']:.2f}.\n"
        f"{s['seconds_total']:.0f} s, {s['seconds_per_update']:.1f} s an update, "
        f"{s['peak_memory_mb'] or 0:,.0f} MB. Everything is in {out}."
    )
