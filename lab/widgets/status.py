"""A line that says what is happening, for eyes and for screen readers."""

from __future__ import annotations

import html

import ipywidgets as widgets

from ..errors import LabError


class StatusLine(widgets.HTML):
    """Text, never markup; an alert is announced at once."""

    def say(self, text: str, alert: bool = False) -> None:
        """Show a text."""
        role = "alert" if alert else "status"
        self.value = f'<div role="{role}" class="lab-status-{role}">{html.escape(text)}</div>'


def words_of(error: BaseException) -> str:
    """An error in words: the lab's own speak for themselves, others need their type."""
    return str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
