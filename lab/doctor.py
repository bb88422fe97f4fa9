"""What is installed, which models are here, what is missing and the command that mends it."""

from __future__ import annotations

import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import catalog
from .files import runs_root

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def doctor() -> int:
    """Print the state of this installation. Returns 0 if the lab can run, else 1."""
    console, mend = Console(), []
    table = Table("what", "state", box=None, pad_edge=False)
    table.add_row("Python", f"{platform.python_version()} on {platform.system()}")
    for name in dependencies():
        try:
            table.add_row(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            table.add_row(name, "[red]missing[/]")
            mend.append("pip install -e . -c constraints.txt")
    table.add_row("device", device())
    here = {folder.name: folder for folder in catalog.cached()}
    for name in catalog.known():
        state = f"{here[name].source}, in {here[name].path}" if name in here else "not here"
        table.add_row(f"model {name}", state)
    if catalog.DEFAULT not in here:
        mend.append(f"python -m lab fetch {catalog.DEFAULT}")
    table.add_row("studies", str(runs_root()))
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    table.add_row("browser for the tests", browser or "none: apt-get install chromium")
    free = shutil.disk_usage(Path.home()).free / 1e9
    table.add_row("disk", f"{free:.0f} GB free")
    console.print(table)
    for command in dict.fromkeys(mend):
        console.print(f"To mend: [bold]{command}[/]")
    console.print("All is well." if not mend else "", end="\n")
    return 1 if mend else 0


def dependencies() -> list[str]:
    """The packages that pyproject.toml names, from the installed package's own record."""
    required = metadata.requires("rlhf-lab") or []
    return [re.split(r"[<>=!~;\[ ]", line)[0] for line in required if "extra ==" not in line]


def device() -> str:
    """The device that "auto" stands for."""
    try:
        import torch
    except ImportError:
        return "unknown without torch"
    if torch.cuda.is_available():
        return f"CUDA: {torch.cuda.get_device_name()}"
    return f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
