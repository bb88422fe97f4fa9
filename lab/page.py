"""An HTML page that is one file: it loads nothing, and what models and people wrote in it is text.

Everything but `Html` is escaped, and a Content-Security-Policy keeps the page from loading anything
if escaping ever failed.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import LabError
from .files import write_atomic

if TYPE_CHECKING:
    import plotly.graph_objects as go

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
)
# Characters that a browser drops or that a terminal would act on.
CONTROL = {code: "\ufffd" for code in [*range(32), 127] if chr(code) not in "\t\n\r"}
CSS = """
:root { color-scheme: light dark; --ink: #1f2328; --page: #ffffff; --line: #8886; --soft: #8881; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --page: #16181c; } }
body { color: var(--ink); background: var(--page); font: 16px/1.5 system-ui, sans-serif;
  max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; }
caption { text-align: left; font-weight: 600; padding: 0.3rem 0; }
th, td { border: 1px solid var(--line); padding: 0.3rem 0.6rem; text-align: left;
  vertical-align: top; overflow-wrap: break-word; }
th { background: var(--soft); }
.wide, .lab-wide { overflow-x: auto; }
.lab-number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td:has(> .lab-number) { text-align: right; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; min-width: 8rem; }
.plots { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
figure { margin: 0; min-width: 0; break-inside: avoid; }
@media print {
  :root { --ink: #000; --page: #fff; }
  body { max-width: none; padding: 0; font-size: 11pt; }
  h2, h3 { break-after: avoid; }
  tr { break-inside: avoid; }
  .wide, .lab-wide { overflow: visible; }
  .modebar { display: none; }
}
"""


class Html(str):
    """Markup of the lab's own. Any other text is escaped where it enters a page."""


def clean(text: object) -> str:
    """Text that can be written as UTF-8, control characters replaced."""
    return str(text).encode("utf-8", "replace").decode().translate(CONTROL)


def safe(value: object) -> Html:
    """A value as markup: escaped, unless it is `Html`."""
    return value if isinstance(value, Html) else Html(html.escape(clean(value), quote=True))


def said(text: object) -> Html:
    """What a model or a person wrote: as it is, line ends kept."""
    return Html(f'<div class="said" dir="auto">{safe(text)}</div>')


def plotted(text: object) -> str:
    """Text for plotly's names, labels and titles, where it reads pseudo-HTML. It knows no
    entities of quotes, and they end nothing there: the text lies in JSON."""
    return html.escape(clean(text), quote=False)


def paragraph(text: object) -> Html:
    return Html(f"<p>{safe(text)}</p>")


def bullets(items: Iterable[object]) -> Html:
    return Html("<ul>" + "".join(f"<li>{safe(item)}</li>" for item in items) + "</ul>")


def table(
    headings: Sequence[object], rows: Iterable[Sequence[object]], caption: object = ""
) -> Html:
    """A table whose first column names its rows. Without headings, of names and values."""
    head = "".join(f'<th scope="col">{safe(name)}</th>' for name in headings)
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    body = "".join(
        f'<tr><th scope="row">{safe(first)}</th>'
        + "".join(f"<td>{safe(cell)}</td>" for cell in cells)
        + "</tr>"
        for first, *cells in rows
    )
    title = f"<caption>{safe(caption)}</caption>" if caption else ""
    return Html(f'<div class="wide"><table>{title}{head}<tbody>{body}</tbody></table></div>')


def section(title: object, *parts: object) -> Html:
    """A heading and what is under it; nothing where there is nothing under it."""
    body = "".join(map(safe, parts))
    return Html(f"<section><h2>{safe(title)}</h2>{body}</section>") if body else Html()


def plots(figures: Sequence[go.Figure]) -> Html:
    """Figures, with plotly itself in front of the first of them: call it once a page."""
    parts = [
        figure.to_html(
            full_html=False,
            include_plotlyjs=not number,
            div_id=f"plot-{number}",
            default_height=f"{figure.layout.height or 400}px",
            config={"displaylogo": False, "responsive": True},
        )
        for number, figure in enumerate(figures)
    ]
    return Html(
        '<div class="plots">' + "".join(f"<figure>{part}</figure>" for part in parts) + "</div>"
        if parts
        else ""
    )


def write_page(path: Path, title: object, parts: Iterable[object]) -> Path:
    """Write a page, whole or not at all. Returns its path.

    Raises:
        LabError: the file can't be written.
    """
    text = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{safe(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{safe(title)}</h1>\n" + "\n".join(map(safe, parts)) + "\n</main>\n</body>\n</html>\n"
    )
    try:
        write_atomic(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise LabError(
            f"The page {path} can't be written ({error}). Give another path, or free the disk."
        ) from error
    return path
