"""A browser for the tests, and a folder for their screenshots."""

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def chromium() -> str:
    """Path of a Chromium; without one the test is skipped, unless LAB_FORBID_SKIPS is set."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        reason = "no Chromium: apt-get install chromium (or your system's package)"
        if os.environ.get("LAB_FORBID_SKIPS"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where screenshots go: LAB_SHOTS, to look at them, or a temporary folder."""
    folder = Path(os.environ.get("LAB_SHOTS") or tmp_path / "shots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
