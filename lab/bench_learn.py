"""Reward gained, ours against TRL's: the same score, prompts and number of episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean

from rich.console import Console
from rich.table import Table

from .bench_trl import trl
from .bench_worker import Work, Worker, ours
from .errors import LabError

SEEDS = 3
WORDS = ("you", "your", "You", "Your", " you", " your", " You", " Your")
KL = 10.0  # nats, where scores are compared: far from the reference any score is cheap
# Rates at which both move away from the reference equally fast, about 35 nats in 12 updates. (Of
# 1e-5, 3e-5 and 1e-4, the last alone moved TRL at all in so few.)
LEARNING_RATES = {"lab": 8e-4, "trl": 1e-4}


def learn_both(work: Work, updates: int, console: Console) -> dict:
    """Score and KL of each update of both trainers, over seeds.

    The score counts the tokens of a completion that address the reader, which both compute from
    the same ids. The KL's price is the same and fixed.
    """
    work = replace(work, wanted=wanted_ids(work))
    found: dict[str, list[list[dict]]] = {"lab": [], "trl": []}
    for seed in range(work.seed, work.seed + SEEDS):
        own, theirs = (
            replace(work, seed=seed, learning_rate=LEARNING_RATES[name]) for name in found
        )
        with Worker(ours, own) as lab:
            found["lab"].append(steps("lab", seed, lab, updates, console))
        with Worker(trl, theirs, lab.ready["prompt_ids"], False) as other:
            found["trl"].append(steps("trl", seed, other, updates, console))
    return {name: summary(runs, work.batch) for name, runs in found.items()}


def wanted_ids(work: Work) -> tuple[int, ...]:
    """The tokens that the score counts. Raises LabError where a vocabulary has none."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work.folder)
    ids = [tokenizer.encode(word, add_special_tokens=False) for word in WORDS]
    single = {i[0] for i in ids if len(i) == 1} - {tokenizer.unk_token_id}
    if not single:
        raise LabError("--learn counts words like “you”; this model's vocabulary has none of them.")
    return tuple(sorted(single))


def steps(name: str, seed: int, worker: Worker, updates: int, console: Console) -> list[dict]:
    """So many updates of one trainer."""
    rows = []
    for update in range(1, updates + 1):
        rows.append(worker.ask("step"))
        score = rows[-1]["objective/scores"]
        console.print(f"{name} seed {seed} update {update} of {updates}: score {score:.3f}")
    return rows


def summary(runs: Sequence[Sequence[dict]], batch: int) -> dict:
    """Means over seeds. `gain`: the mean score of the last quarter of the updates less that of the
    first update, before which nothing was learned; `gain_per_episode` divides it by the episodes
    in between."""
    updates = len(runs[0])
    last = max(1, updates // 4)
    between = batch * (updates - 1 - (last - 1) / 2)
    gains = [
        mean(r["objective/scores"] for r in run[-last:]) - run[0]["objective/scores"]
        for run in runs
    ]
    scores = [mean(run[i]["objective/scores"] for run in runs) for i in range(updates)]
    kl = [mean(run[i]["objective/kl"] for run in runs) for i in range(updates)]
    return {
        "scores": scores,
        "kl": kl,
        "seconds": mean(sum(row["seconds"] for row in run) for run in runs),
        "gain": mean(gains),
        "gain_each": gains,
        "gain_per_episode": mean(gains) / between if between else 0.0,
        "score_at_kl": score_at(KL, scores, kl),
    }


def score_at(target: float, scores: Sequence[float], kl: Sequence[float]) -> float | None:
    """The mean score where the mean KL first passes `target`, on a straight line between two
    updates; None where it never does."""
    for i in range(1, len(kl)):
        if kl[i - 1] < target <= kl[i]:
            part = (target - kl[i - 1]) / (kl[i] - kl[i - 1])
            return scores[i - 1] + part * (scores[i] - scores[i - 1])
    return None


def show_learning(console: Console, learn: dict) -> None:
    """A row a trainer."""
    names = ("first score", "gain", "in 1,000 episodes", f"score at KL {KL:.0f}", "last KL")
    table = Table("trainer", *names, "seconds")
    for name, r in learn.items():
        near = "" if r["score_at_kl"] is None else f"{r['score_at_kl']:.2f}"
        rate, first = f"{1000 * r['gain_per_episode']:+.1f}", f"{r['scores'][0]:.2f}"
        row = (first, f"{r['gain']:+.2f}", rate, near, f"{r['kl'][-1]:.1f}")
        table.add_row(name, *row, f"{r['seconds']:.0f}")
    console.print(table)
