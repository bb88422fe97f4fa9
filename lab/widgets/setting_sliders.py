"""Sliders for the settings that may change between updates."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from ..settings import Settings

SLIDERS: dict[str, dict] = {  # of the live settings that a hand may move
    "kl_coef": {"min": 0, "max": 1, "step": 0.01},
    "beta": {"min": 0, "max": 1, "step": 0.01},
    "cliprange": {"min": 0.05, "max": 1, "step": 0.05},
    "epsilon": {"min": 0.05, "max": 1, "step": 0.05},
    "temperature": {"min": 0.1, "max": 2, "step": 0.1},
}


class SettingSliders(widgets.HBox):
    """A slider a setting, by name in `sliders`.

    Args:
        settings: decides which there are, and what they show.
        on_change: gets name and value when a hand moves one.
    """

    def __init__(self, settings: Settings, on_change: Callable[[str, float], None]) -> None:
        self._on_change, self._showing, self._lock = on_change, False, threading.RLock()
        self.sliders: dict[str, widgets.Widget] = {
            name: widgets.FloatSlider(**SLIDERS[name])
            for name in settings.live()
            if name in SLIDERS
        }
        self.sliders["learning_rate"] = widgets.FloatLogSlider(min=-6, max=0, readout_format=".1e")
        for name, slider in self.sliders.items():
            slider.description, slider.continuous_update = name, False
            slider.style.description_width = "95px"
            slider.observe(lambda change, name=name: self._moved(name, change["new"]), "value")
        super().__init__(list(self.sliders.values()), layout={"flex_flow": "row wrap"})
        self.show(settings)

    def show(self, settings: Settings) -> None:
        """Show a run's own settings, also those past the ends that the sliders had."""
        with self._lock:
            self._showing = True
            try:
                for name, slider in self.sliders.items():
                    value = getattr(settings, name)
                    if isinstance(slider, widgets.FloatLogSlider):
                        value = max(value, 10**slider.min)
                    else:
                        slider.min, slider.max = min(slider.min, value), max(slider.max, value)
                    slider.value = value
            finally:
                self._showing = False

    def changes(self, settings: Settings) -> dict[str, Any]:
        """What the sliders show that is not what `settings` has."""
        floor = {n: 10**s.min for n, s in self.sliders.items() if hasattr(s, "base")}
        return {
            name: slider.value
            for name, slider in self.sliders.items()
            if abs(slider.value - max(getattr(settings, name), floor.get(name, float("-inf"))))
            > 1e-9 * abs(slider.value)
        }

    def _moved(self, name: str, value: float) -> None:
        with self._lock:  # a hand moves one while another thread shows what a run has
            showing = self._showing
        if not showing:
            self._on_change(name, value)
