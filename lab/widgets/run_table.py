"""The runs of a study: which one is driven, which are drawn beside it, and what each came to."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import ipywidgets as widgets

BESIDE = 4  # runs that are drawn beside the one driven, unless others are chosen


class RunTable(widgets.VBox):
    """A table of runs, and a checkbox for each that may be drawn beside the one driven.

    Args:
        on_choice: called when a hand has chosen which runs are drawn.
    """

    def __init__(self, on_choice: Callable[[], None]) -> None:
        self._on_choice, self._by_hand = on_choice, {}
        self._table = widgets.HTML()
        self._label = widgets.HTML("Drawn beside it:")
        self._boxes = widgets.HBox(layout={"flex_flow": "row wrap"})
        super().__init__([self._table, self._boxes])

    @property
    def beside(self) -> list[str]:
        """Names of the runs that are drawn beside the one driven."""
        return [b.description for b in self._boxes.children[1:] if b.value]

    def show(self, rows: Sequence[dict], driven: str | None, kind: str) -> None:
        """Show rows of `Experiment.run_table`."""
        self._table.value = table_html(rows, driven)
        names = [r["run"] for r in rows if r["kind"] == kind and r["run"] != driven]
        if names == [box.description for box in self._boxes.children[1:]]:
            return
        boxes = [self._box(name, name in names[-BESIDE:]) for name in names]
        self._boxes.children = [self._label, *boxes] if boxes else []

    def _box(self, name: str, at_first: bool) -> widgets.Checkbox:
        value = self._by_hand.get(name, at_first)
        box = widgets.Checkbox(value, description=name, indent=False, layout={"width": "auto"})

        def chosen(change: dict) -> None:
            self._by_hand[name] = change["new"]
            self._on_choice()

        box.observe(chosen, "value")
        return box


def table_html(rows: Sequence[dict], driven: str | None) -> str:
    """Runs as a table; the one that is driven is marked in words."""
    if not rows:
        return ""
    head = ("run", "kind", "branched off", "settings that were changed", "updates", "score", "KL")
    cells = "".join(f'<th scope="col">{name}</th>' for name in (*head, "MB"))
    body = "".join(row_html(row, row["run"] == driven) for row in rows)
    return (
        f'<table class="lab-table lab-runs"><caption>Runs of this study</caption>'
        f"<tr>{cells}</tr>{body}</table>"
    )


def row_html(row: dict, driven: bool) -> str:
    """A run; what was never measured is left empty."""
    parent = row["parent"]
    off = f"{parent['run']}@{parent['update']}" if parent else ""
    changed = ", ".join(f"{k} = {in_short(v)}" for k, v in row["changed"].items())
    name = html.escape(row["run"]) + (" (this one)" if driven else "")
    words = [row["kind"], off, changed]
    numbers = [
        str(row["updates"]),
        "" if row["score"] is None else f"{row['score']:+.2f}",
        "" if row["kl"] is None else f"{row['kl']:z.1f}",  # z: no minus before a zero
        f"{row['megabytes']:.0f}" if row["megabytes"] >= 10 else f"{row['megabytes']:.1f}",
    ]
    cells = "".join(f"<td>{html.escape(w)}</td>" for w in words)
    cells += "".join(f'<td class="lab-number">{n}</td>' for n in numbers)
    mark = ' aria-current="true"' if driven else ""
    return f'<tr{mark}><th scope="row">{name}</th>{cells}</tr>'


def in_short(value: object) -> str:
    """A setting's value; numbers without digits that mean nothing."""
    return f"{value:g}" if isinstance(value, float) else str(value)
