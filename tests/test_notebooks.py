"""Every notebook runs from top to bottom without a person, on the real model."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.model
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_without_a_person(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LAB_RATER", "cheerful")
    monkeypatch.setenv("LAB_UPDATES", "2")
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=300, store_widget_state=False)
    client.execute(cwd=str(tmp_path))
    study = tmp_path / "runs" / "first"
    assert json.loads((study / "experiment.json").read_text())["model"] == "smollm2"
    assert len((study / "reward.jsonl").read_text().splitlines()) == 8
    assert len((study / "ppo-1" / "metrics.jsonl").read_text().splitlines()) == 2
    shown = json.dumps(notebook)
    assert "Traceback" not in shown
