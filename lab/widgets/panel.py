"""What the instruments made of Jupyter widgets stand on: one style, and keys that stay inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anywidget
import ipywidgets as widgets

STATIC = Path(__file__).parent / "static"


class Ground(anywidget.AnyWidget):
    """Nothing to see: it brings the style sheets `static/panel*.css`, and keeps keys that are
    pressed inside its panel from JupyterLab, where `b` inserts a cell."""

    _esm = STATIC / "panel.js"
    _css = "\n".join(path.read_text("utf-8") for path in sorted(STATIC.glob("panel*.css")))


class Panel(widgets.VBox):
    """A column of widgets in the theme of the page, with a name for screen readers."""

    def __init__(self, children: Sequence[widgets.Widget], name: str) -> None:
        super().__init__([Ground(), *children])
        self.add_class("lab-panel")
        self.add_class(f"lab-{name.replace(' ', '-')}")
