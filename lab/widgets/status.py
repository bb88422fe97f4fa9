"""A line that says what is happening, for eyes and for screen readers."""

from __future__ import annotations

import html
import threading

import ipywidgets as widgets

from ..errors import LabError

SAYING = threading.Lock()  # or a page could keep the older of two texts that were said at once


class StatusLine(widgets.HTML):
    """Text, never markup; an alert is announced at once."""

    def say(self, text: str, alert: bool = False) -> None:
        """Show a text."""
        role = "alert" if alert else "status"
        with SAYING:
            self.value = f'<div role="{role}" class="lab-status-{role}">{html.escape(text)}</div>'


def words_of(error: BaseException) -> str:
    """An error in words: the lab's own speak for themselves, others need their type."""
    return str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
