"""Scripts of a widget that come in parts: joined, they are the one ES module its page loads."""

from __future__ import annotations

from .panel import STATIC


def joined(*names: str) -> str:
    """The text of files in `static/`; each may use what those before it declare."""
    return "\n".join((STATIC / name).read_text("utf-8") for name in names)
