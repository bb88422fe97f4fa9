"""What the report of a run is made of: tables, plots and words, each a piece of a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import frontier
from .files import read_json_lines
from .health import health
from .page import Html, bullets, paragraph, safe, said, table
from .statistics import Estimate
from .study_runs import run_row

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .experiment import Experiment
    from .plots import Plot
    from .preferences import Ranking
    from .runs import Row, Run

SAMPLES = 6  # of a run, newest first
BESIDE = 2  # completions of the reference beside each of them
NOTES = 20  # of raters, newest first
HEIGHT = 300  # pixels of a plot
ACCURACIES = {
    "prequential": "each ranking predicted before it was learned from",
    "cv": "cross-validated, no prompt in both parts",
    "heldout": "on rankings of held-out prompts",
}


def number(value: object, form: str = "") -> Html:
    return Html(f'<span class="lab-number">{safe(format(value, form))}</span>')


def figures(record: Run, drawn: Sequence[Plot]) -> Html:
    """The newest value of all that is drawn."""
    if not record.history:
        return paragraph("The run has taken no update of its own yet.")
    last = record.history[-1]
    rows = [
        (plot.axis, name, number(last[metric], plot.form.replace(".", "z.")))  # no -0.0
        for plot in drawn
        for metric, name in plot.metrics.items()
        if metric in last and not plot.over_kl
    ]
    return table(("figure", "what it is", "value"), rows, f"After update {last['update']}")


def run_plots(
    study: Experiment, run: str, drawn: Sequence[Plot], history: Sequence[Row]
) -> list[go.Figure]:
    """What a trainer of this kind has worth watching, a figure each."""
    import plotly.graph_objects as go

    from .widgets.figures import style
    from .widgets.run_figure import COLORS, trace_of, yardstick

    made = []
    for plot in drawn:
        figure = go.Figure()
        for i, (metric, name) in enumerate(plot.metrics.items()):
            if any(metric in row for row in history):
                trace = trace_of(plot, metric, history, name=name, line={"color": COLORS[i]})
                figure.add_scatter(**{k: v for k, v in trace.items() if k != "updates"})
        if not figure.data:
            continue
        if plot.over_kl and (best := frontier.measured(study, run) or frontier.stored(study, run)):
            trace = yardstick("best of n, nothing trained", best)
            figure.add_scatter(**{k: v for k, v in trace.items() if k != "updates"})
        style(figure, HEIGHT)
        figure.update_layout(showlegend=True)
        x = "√KL to the reference (√nats)" if plot.over_kl else "update"
        figure.update_xaxes(title_text=x)
        figure.update_yaxes(title_text=plot.axis, rangemode="tozero" if plot.from_zero else None)
        made.append(figure)
    return made


def findings(record: Run, history: Sequence[Row]) -> Html:
    taken = record.settings[-1]["settings"] if record.settings else record.config["settings"]
    found = health(history, taken.get("kl_target"))
    if not found:
        return paragraph("Nothing stands out in the last updates." if history else "No updates.")
    return bullets(Html(f"<strong>{safe(f.words)}</strong> {safe(f.advice)}") for f in found)


def settings(study: Experiment, run: str, record: Run) -> Html:
    """What the run was begun with, and what was changed on its way."""
    row = run_row(study, run)
    rows = [
        (name, number("none" if value is None else value), mark(name in row["changed"]))
        for name, value in row["settings"].items()
    ]
    made = table(("setting", "value", "default?"), rows)
    before, later = row["settings"], []
    for step in record.settings:
        now = step["settings"]
        changes = [f"{k} = {v}" for k, v in now.items() if before.get(k) != v]
        if changes:
            later.append(f"From update {step['update']} on: {', '.join(changes)}.")
        before = now
    return Html(made + (bullets(later) if later else ""))


def mark(changed: bool) -> Html:
    return Html("<strong>changed</strong>" if changed else "default")


def learned_from(study: Experiment, record: Run) -> Html:
    """Demonstrations or a corpus; or rankings, who gave them, and how well they are predicted."""
    if record.config["kind"] == "pretrain":
        return paragraph("The text of a corpus. No ranking went into it.")
    if record.config["kind"] == "sft":
        count = len(read_json_lines(record.folder / "demonstrations.jsonl"))
        return paragraph(f"Demonstrations: {count}. No ranking went into it.")
    count = record.config.get("rankings", 0)
    rankings = study.store.rankings()[:count]
    found = Counter((r.rater, r.simulated) for r in rankings)
    rows = [
        (name, "simulated" if simulated else "a person", number(n))
        for (name, simulated), n in found.most_common()
    ]
    heldout = sum(r.prompt in set(study.heldout) for r in rankings)
    words = f"Rankings when the run began: {count}."
    if heldout:
        words += f" Of held-out prompts, which measure and do not train: {heldout}."
    made = paragraph(words) + table(("rater", "who", "rankings"), rows)
    if study.store.guidelines:
        made += paragraph("What the raters were asked for:") + said(study.store.guidelines)
    return Html(made + accuracies(study, count) + notes(rankings))


def accuracies(study: Experiment, count: int) -> Html:
    """Of the reward model as it was after so many rankings."""
    known = [row for row in study.reward_history() if row["rankings"] <= count]
    last = known[-1] if known else {}
    rows = [
        (words, number(Estimate(*last[name]))) for name, words in ACCURACIES.items() if name in last
    ]
    if not rows:
        return paragraph("No accuracy of the reward model was measured.")
    title = f"Accuracy of the reward model after {last['rankings']} rankings, 95 % intervals"
    return table(("measured", "pairs in the right order"), rows, title)


def notes(rankings: Sequence[Ranking]) -> Html:
    """What raters flagged their rankings with."""
    rows = [(r.rater, said(r.prompt), said(r.note)) for r in reversed(rankings) if r.note]
    return table(("rater", "prompt", "note"), rows[:NOTES], "Notes") if rows else Html()


def sample_table(study: Experiment, samples: Sequence[Row]) -> Html:
    """The newest samples of a run, and completions of the reference beside them."""
    newest = list(reversed(samples))[:SAMPLES]
    if not newest:
        return paragraph("The run has kept no samples.")
    names = [n for n in newest[0] if n not in ("update", "tokens")]
    beside = [reference_completions(study, row) for row in newest]
    rows = []
    for row, others in zip(newest, beside, strict=True):
        cells = [row["update"], *(cell(row.get(name, "")) for name in names)]
        rows.append([*cells, Html("<hr>".join(map(said, others)))] if any(beside) else cells)
    more = ["of the reference, with other random numbers"] if any(beside) else []
    return table(["update", *names, *more], rows)


def reference_completions(study: Experiment, row: Row) -> list[str]:
    """Stored completions of a sample's prompt by the reference."""
    if not (prompt := row.get("prompt")):
        return []
    return [c.text for c in study.store.completions(prompt, "reference")[:BESIDE]]


def cell(value: object) -> Html:
    return number(value, "+.2f") if isinstance(value, float) else said(value)
