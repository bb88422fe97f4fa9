"""Start JupyterLab on the first notebook, with the default model at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from . import catalog
from .files import project_root

FIRST = "notebooks/00_start_here.ipynb"


def start(browser: bool = True, port: int | None = None) -> int:
    """Fetch the default model if it is not here, then run JupyterLab. Returns its exit status."""
    print(f"Model: {catalog.fetch(catalog.DEFAULT).source}", flush=True)
    command = jupyterlab_command(project_root(), port)
    command.append(f"--LabApp.default_url=/lab/tree/{FIRST}")
    if not browser:
        command.append("--no-browser")
    try:
        return subprocess.call(command)
    except KeyboardInterrupt:
        return 0


def jupyterlab_command(root: Path, port: int | None = None) -> list[str]:
    """JupyterLab for the folder `root`: on loopback, with its token, asking nobody for news."""
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.root_dir={root}", "--LabApp.news_url=None"]
    command.append(
        "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate"
    )
    if port is not None:
        command.append(f"--ServerApp.port={port}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # as in a container
        command.append("--allow-root")
    return command
