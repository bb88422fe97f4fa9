"""Start JupyterLab on the first notebook, with the default model at hand."""

from __future__ import annotations

import subprocess
import sys

from . import catalog
from .experiment import project_root

FIRST = "notebooks/00_start_here.ipynb"


def start(browser: bool = True, port: int | None = None) -> int:
    """Fetch the default model if it is not here, then run JupyterLab, with its token, on loopback.
    Returns its exit status."""
    print(f"Model: {catalog.fetch(catalog.DEFAULT).source}", flush=True)
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.root_dir={project_root()}", f"--LabApp.default_url=/lab/tree/{FIRST}"]
    if port is not None:
        command.append(f"--ServerApp.port={port}")
    if not browser:
        command.append("--no-browser")
    if is_root():
        command.append("--allow-root")
    try:
        return subprocess.call(command)
    except KeyboardInterrupt:
        return 0


def is_root() -> bool:
    """JupyterLab asks root, as in a container, to say so."""
    import os

    return hasattr(os, "geteuid") and os.geteuid() == 0
