"""One HTML page of a run, or of a comparison, to send to somebody."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .charts import bars
from .errors import BadSetting, NotReady
from .page import Html, plots, plotted, said, section, table, write_page
from .report_parts import figures, findings, learned_from, run_plots, sample_table, settings
from .training import trainer_class

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .bulk import Bulk
    from .experiment import Experiment
    from .raters import Rater, Utility
    from .runs import Run

IN_FULL = 6  # prompts of a comparison whose answers are shown


def run_report(study: Experiment, run: str, path: Path | None = None) -> Path:
    """Write a page of a run: its figures, plots, health, settings, what it learned from, and
    samples. It opens no trainer.

    Args:
        path: the file; `report.html` in the run's folder unless given.

    Raises:
        LabError: there is no such run, or the file can't be written.
    """
    record = study.run_record(run)
    drawn = trainer_class(record.config["kind"]).plots
    history, samples = study.history_of(run)
    parts = [
        section("The run", about_run(study, record)),
        section("Newest update", figures(record, drawn)),
        section("Plots", plots(run_plots(study, run, drawn, history))),
        section("Health", findings(record, history)),
        section("Settings", settings(study, run, record)),
        section("What it learned from", learned_from(study, record)),
        section("Samples", sample_table(study, samples)),
    ]
    path = Path(path) if path else study.folder / run / "report.html"
    return write_page(path, f"{study.name}: {run}", parts)


def comparison_report(
    study: Experiment,
    variants: Sequence[str],
    path: Path | None = None,
    rater: str | Rater | Utility | None = None,
    count: int = 1,
    prompts: int = 12,
) -> Path:
    """Let variants answer held-out prompts, and write a page of how they compare.

    Args:
        variants: see `lab.variants`; the reference is always among them.
        path: the file; `comparison.html` in the study's folder unless given.
        rater: whose utility judges; None for the reward model of the newest run.
        count: answers to each prompt.
        prompts: the first so many of the held-out ones.

    Raises:
        NotReady: the reward model is to judge, and there is none; or no prompt is held out.
        BadSetting: `count` or `prompts` is out of its range.
        LabError: there is nothing of one of the names, or the file can't be written.
    """
    from .bulk import Bulk
    from .widgets.bulk_panel import bulk_html

    if prompts < 1:
        raise BadSetting(f"prompts={prompts}: give at least 1.")
    if not study.heldout:
        raise NotReady("A comparison asks held-out prompts, and this study has none.")
    bulk = Bulk(study, list(variants), rater, study.heldout[:prompts], count)
    bulk.run()
    about = [*about_study(study), ("variants", ", ".join(bulk.found))]
    parts = [
        section("The comparison", table((), [*about, ("judge", bulk.judge_name)])),
        section("Plots", plots(comparison_plots(bulk))),
        section("Figures", Html(bulk_html(bulk))),
        section("Answers", *answer_tables(bulk)),
    ]
    path = Path(path) if path else study.folder / "comparison.html"
    return write_page(path, f"{study.name}: comparison", parts)


def about_study(study: Experiment) -> list[tuple[str, object]]:
    model = f"{study.model.name}, from {study.model.source}"
    return [("study", study.name), ("model", model), ("page written", date(time.time()))]


def about_run(study: Experiment, record: Run) -> Html:
    config, parent = record.config, record.config.get("parent")
    off = [("branched off", f"{parent['run']} after update {parent['update']}")] if parent else []
    rows = [("run", record.name), ("kind", config["kind"]), *off, ("updates", record.last)]
    rows.append(("starts from", config.get("start", "reference")))
    if "created" in config:
        rows.append(("begun", date(config["created"])))
    return table((), about_study(study) + rows)


def date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def comparison_plots(bulk: Bulk) -> list[go.Figure]:
    """Gain and win rate of all but the reference, with their intervals."""
    rows = [row for row in bulk.rows() if row.gain is not None]
    if not rows:
        return []
    gain = {"gain": {plotted(row.name): row.gain for row in rows}}
    wins = {"win rate": {plotted(row.name): row.win_rate for row in rows}}
    made = [
        bars(gain, "Gain over the reference, with 95 % intervals", "mean gain in score"),
        bars(wins, "Win rate against the reference, with 95 % intervals", "share of answers"),
    ]
    for figure in made:
        figure.update_xaxes(type="category")  # plotly reads some names as numbers or dates
    made[1].update_yaxes(range=[0, 1])
    made[1].add_hline(0.5, line={"color": "#7a7f87", "width": 1, "dash": "dot"})
    return made


def answer_tables(bulk: Bulk) -> list[Html]:
    """All answers to the first prompts, a table each: a column a variant, and in a row the same
    random numbers."""
    made = []
    for place, prompt in enumerate(bulk.prompts[:IN_FULL]):
        rows = [
            (i + 1, *(said(found.texts[place * bulk.count + i]) for found in bulk.found.values()))
            for i in range(bulk.count)
        ]
        made.append(table(("answer", *bulk.found), rows, said(prompt)))
    return made
