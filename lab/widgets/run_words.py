"""What a training panel says of a run: where it stands, how it is, samples of its last update."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..health import Finding

if TYPE_CHECKING:
    from ..plots import Plot
    from ..trainer import Trainer
    from .run_driver import RunDriver


def standing(
    driver: RunDriver, trainer: Trainer, plots: Sequence[Plot], metrics: dict | None
) -> str:
    """Where the run stands, and what comes next. `metrics`: of an update that has just ended."""
    run = trainer.run
    rows = [row for row in run.history if row["update"] == trainer.update]
    text = summary(rows[0], plots) if rows else f"{run.name} stands at update {trainer.update}."
    if driver.back_to is not None:
        return f"{text} · rewinding to update {driver.back_to}, {driver.to_go} to go"
    if driver.to_go and driver.goal:
        return f"{text} · on until {driver.goal}"
    if driver.to_go:
        return f"{text} · about {driver.to_go * (metrics or {}).get('seconds', 0):.0f} s to go"
    if driver.at_work:
        return f"{text} · saving…"
    if trainer.update < run.last:
        return (
            f"{text} · of {run.last}: Step takes the next one again, as recorded. To try others, "
            "move the sliders and press Branch from here."
        )
    if rows:
        return text
    if (parent := run.config.get("parent")) is not None:
        return (
            f"{run.name} branched off {parent['run']} after update {parent['update']}. "
            "Press Step or Run to take it on."
        )
    return "Press Step for one update, Run for several."


def summary(metrics: dict, plots: Sequence[Plot]) -> str:
    """An update in a line: the first metric of each plot."""
    firsts = [(plot, next(iter(plot.metrics))) for plot in plots]
    words = [f"{p.word} {metrics[m]:{p.form}}" for p, m in firsts if m in metrics]
    return f"Update {metrics['update']}: {', '.join(words)}, {metrics['seconds']:.1f} s"


def health_html(findings: Sequence[Finding]) -> str:
    """What is noticed and what to do; nothing where all is well."""
    if not findings:
        return ""
    items = "".join(
        f"<li><strong>{html.escape(f.words)}</strong> {html.escape(f.advice)}</li>"
        for f in findings
    )
    return f'<div role="status"><ul class="lab-health" aria-label="health">{items}</ul></div>'


def samples_html(samples: list[dict], count: int = 4) -> str:
    """A table of an update's samples, prompts first; all text is escaped."""
    if not samples:
        return ""
    names = [name for name in samples[0] if name not in ("update", "tokens")]
    rows = "".join(
        "<tr>" + "".join(cell_html(s[name]) for name in names) + "</tr>" for s in samples[:count]
    )
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    title = f"Samples of update {samples[0]['update']}"
    return f'<table class="lab-table"><caption>{title}</caption><tr>{head}</tr>{rows}</table>'


def cell_html(value: str | float) -> str:
    """A cell: text escaped, numbers in their column."""
    if isinstance(value, str):
        return f"<td>{html.escape(value)}</td>"
    return f'<td class="lab-number">{value:+.2f}</td>'
