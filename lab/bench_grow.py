"""How costs grow: an update with its size, the reward model and the store with the rankings."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from .bench_worker import Work, Worker, ours
from .experiment import Experiment
from .preferences import Completion, Ranking
from .reward import RewardModel

if TYPE_CHECKING:
    import plotly.graph_objects as go

FEATURES = 1152  # as wide as SmolLM2's
EXTRACTOR = "synthetic"
PER_PROMPT = 4
REPEATS = 5


def sizes(quick: bool) -> dict[str, tuple]:
    """What each part is measured at."""
    if quick:
        return {
            "batch": (2, 4),
            "tokens": (4, 8),
            "trainable": (1, 2),
            "rankings": (10, 50),
            "stored": (100,),
            "memory": (10, 30),
        }
    return {
        "batch": (8, 16, 32, 64),
        "tokens": (16, 32, 64, 128),
        "trainable": (2, 4, 8, 15, "all"),
        "rankings": (10, 100, 1000, 5000),
        "stored": (10_000,),
        "memory": (50, 300),
    }


def grow_all(
    work: Work, model: str, layers: int, quick: bool, console: Console
) -> dict[str, list[dict]]:
    """Every part, a row a size. `layers`: how many the model has."""
    from .bench import with_batch

    at = sizes(quick)
    results: dict[str, list[dict]] = {}
    changed = {
        "batch": [with_batch(work, n) for n in at["batch"]],
        "tokens": [replace(work, tokens=n) for n in at["tokens"]],
        "trainable": [
            replace(work, trainable=n) for n in at["trainable"] if n == "all" or n < layers
        ],
    }
    for name, works in changed.items():
        results[name] = []
        for one in works:
            row = {name: getattr(one, name), **update_cost(one, 1 if quick else 3)}
            console.print(f"{name} {row[name]}: {row['update_seconds']:.2f} s an update")
            results[name].append(row)
    results["memory"] = memory_over_updates(work, at["memory"], console)
    with synthetic_study(model, max(at["rankings"] + at["stored"])) as study:
        results["refit"] = refits(study, at["rankings"], console)
        results["next_prompt"] = next_prompts(study, at["stored"], console)
    return results


def update_cost(work: Work, updates: int) -> dict:
    """Median seconds and peak memory of updates in a fresh process, after one not counted."""
    with Worker(ours, work) as lab:
        rows = [lab.ask("step") for _ in range(updates + 1)]
    return {
        "update_seconds": median(row["seconds"] for row in rows[1:]),
        "peak_memory_mb": rows[-1]["peak_memory_mb"],
    }


def memory_over_updates(work: Work, at: Sequence[int], console: Console) -> list[dict]:
    """Memory held after so many small updates of 2 rollouts x 4 tokens: it should not grow."""
    from .bench import with_batch

    small, rows = replace(with_batch(work, 2), tokens=4), []
    with Worker(ours, small) as lab:
        for update in range(1, max(at) + 1):
            memory = lab.ask("step")["memory_mb"]
            if update in at:
                rows.append({"updates": update, "memory_mb": memory})
                console.print(f"after {update} updates: {memory:,.0f} MB held")
    return rows


@contextmanager
def synthetic_study(model: str, rankings: int) -> Iterator[Experiment]:
    """An empty study in a temporary folder, with prompts for so many rankings and some more."""
    prompts = [f"Prompt number {i}" for i in range((rankings + 10 * REPEATS) * 4 // 3)]
    with tempfile.TemporaryDirectory() as root:
        study = Experiment("bench", model, prompts=prompts, root=root, progress=False)
        try:
            yield study
        finally:
            study.store.close()


def refits(study: Experiment, at: Sequence[int], console: Console) -> list[dict]:
    """Seconds of a refit after one more ranking, the median of several; of a first fit, which
    reads all features and chooses the L2 strength, as is done whenever rankings grew by a tenth;
    and of how sure the model is of a prompt's order, the median over prompts."""
    judge, rows = Judge(study), []
    for count in at:
        judge.rank_up_to(count)
        model = RewardModel(study.store, EXTRACTOR)
        first = seconds_of(model.refit)
        usual = []
        for _ in range(REPEATS):
            judge.rank_up_to(judge.count + 1)
            usual.append(seconds_of(model.refit))
        asked = [judge.completed[prompt] for prompt in judge.order[:REPEATS]]
        sure = median(seconds_of(partial(model.uncertainty, ids)) for ids in asked)
        rows.append({"rankings": count, "seconds": median(usual), "first_seconds": first})
        rows[-1]["uncertainty_seconds"] = sure
        console.print(
            f"refit at {count:,} rankings: {1000 * rows[-1]['seconds']:.0f} ms, "
            f"{1000 * first:.0f} ms where it chooses the L2 strength, "
            f"{1000 * sure:.1f} ms to tell how sure it is of a prompt"
        )
    return rows


def next_prompts(study: Experiment, at: Sequence[int], console: Console) -> list[dict]:
    """Seconds until the next question is there, its completions sampled before."""
    judge, rows = Judge(study), []
    for count in at:
        judge.rank_up_to(count)
        judge.complete(REPEATS + 1)
        session = study.session()
        session.next()
        times = []
        for _ in range(REPEATS):
            judge.rank_up_to(judge.count + 1)
            times.append(seconds_of(session.next))
        rows.append({"rankings": count, "seconds": median(times)})
        console.print(f"next prompt at {count:,} rankings: {1000 * rows[-1]['seconds']:.0f} ms")
    return rows


def seconds_of(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class Judge:
    """Ranks a study's prompts in their order, by a hidden direction in synthetic features whose
    spectrum falls as that of a language model's states does."""

    def __init__(self, study: Experiment) -> None:
        self.store, self.order = study.store, study.completions.order()
        self.rng = np.random.default_rng(len(self.store.rankings()))
        self.scale = np.arange(1, FEATURES + 1) ** -0.5
        self.taste = np.random.default_rng(0).normal(size=FEATURES)
        self.count = len(self.store.rankings())
        self.completed = self.store.ids_by_prompt("reference")

    def complete(self, prompts: int) -> None:
        """Completions and features for so many of the prompts to come."""
        missing = [
            p for p in self.order[self.count : self.count + prompts] if p not in self.completed
        ]
        if not missing:
            return
        texts = [(p, f"Completion {i}") for p in missing for i in range(PER_PROMPT)]
        features = self.rng.normal(size=(len(texts), FEATURES)) * self.scale
        rows = [Completion(p, text, (1, 2, 3), True) for p, text in texts]
        ids = self.store.add_completions(rows, EXTRACTOR, features)
        for i, prompt in enumerate(missing):
            self.completed[prompt] = ids[i * PER_PROMPT : (i + 1) * PER_PROMPT]

    def rank_up_to(self, count: int) -> None:
        """Rank until there are so many rankings."""
        self.complete(count - self.count)
        features = None
        while self.count < count:
            prompt = self.order[self.count]
            ids = self.completed[prompt]
            if features is None:
                features = self.store.features(EXTRACTOR, after=ids[0] - 1)
            liked = {i: features[i] @ self.taste + self.rng.normal() for i in ids}
            tiers = tuple((i,) for i in sorted(ids, key=liked.get, reverse=True))
            predicted = tuple(self.rng.normal(size=PER_PROMPT))
            ranking = Ranking(prompt, tiers, tuple(ids), simulated=True, predicted=predicted)
            self.store.add_ranking(ranking)
            self.count += 1


def show_growth(console: Console, grow: dict) -> None:
    """A table for each part."""
    for name, rows in grow.items():
        table = Table(*rows[0], title=name.replace("_", " "))
        for row in rows:
            table.add_row(*map(as_text, row.values()))
        console.print(table)


def as_text(value: float | str | None) -> str:
    """Three figures of what was measured; counts and names as they are."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)


def figure(results: dict) -> go.Figure:
    """How costs grow, from what `--json` wrote: seconds over batch, tokens, layers, rankings."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    parts = {
        "batch": ("batch", "update_seconds", "rollouts an update"),
        "tokens": ("tokens", "update_seconds", "tokens a completion"),
        "trainable": ("trainable", "update_seconds", "layers trained"),
        "refit": ("rankings", "seconds", "rankings, refit of the reward model"),
    }
    drawing = make_subplots(2, 2, horizontal_spacing=0.12, vertical_spacing=0.2)
    for i, (part, (x, y, title)) in enumerate(parts.items()):
        place = {"row": i // 2 + 1, "col": i % 2 + 1}
        rows = results["grow"][part]
        xs = [str(row[x]) if part == "trainable" else row[x] for row in rows]
        line = go.Scatter(x=xs, y=[row[y] for row in rows], mode="lines+markers", name=part)
        drawing.add_trace(line, **place)
        kind = "category" if part == "trainable" else "log"
        ticks = {"tickvals": xs, "ticktext": [f"{x:,}" for x in xs]} if kind == "log" else {}
        drawing.update_xaxes(title_text=title, type=kind, **ticks, **place)
        drawing.update_yaxes(title_text="seconds", rangemode="tozero", **place)
    margin = {"t": 20, "r": 20, "b": 50, "l": 60}
    look = {"showlegend": False, "template": "plotly_white"}
    return drawing.update_layout(height=480, margin=margin, **look)
