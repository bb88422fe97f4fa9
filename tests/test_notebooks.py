"""Every notebook runs from top to bottom without a person, and what it claims is seen.

In the tests those of the first three stages go a short way on the real models, the others all the
way on pocket. `make notebooks` takes SmolLM2 and no short cut, and keeps what came out in
runs/notebooks.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
LONG = os.environ.get("LAB_NOTEBOOKS") == "smollm2"
CHOICE = 'MODEL = "smollm2"'
RUNS = {  # of those that go a short way, the runs that they take: updates by study and run
    "00_start_here": {"first/ppo-1": 2},
    "01_pretraining": {"pretraining/pretrain-1": 2},
    "02_supervised_fine_tuning": {
        "fine-tuning/sft-1": 2,
        "refusals/sft-3": 1,
        "sft-against-rlhf/ppo-3": 2,
    },
}


@pytest.mark.model
@pytest.mark.parametrize("name", SHIPPED)
def test_a_notebook_runs_without_a_person(name: str, tmp_path: Path, monkeypatch) -> None:
    short = name in RUNS and not LONG
    settings = {"LAB_RATER": "cheerful", "LAB_RUNS": str(tmp_path / "runs")}
    settings |= {"LAB_UPDATES": "2", "LAB_SHORT": "1"} if short else {"LAB_CLAIMS": "strict"}
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    if not LONG:
        take_pocket(notebook, must=name not in RUNS)
    try:
        NotebookClient(notebook, timeout=3600 if LONG else 300).execute(cwd=str(tmp_path))
    finally:
        if LONG:
            keep(notebook, name)
    assert "Traceback" not in json.dumps(notebook)
    if not short:
        return
    for run, updates in RUNS[name].items():
        lines = (tmp_path / "runs" / run / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == updates
    if name == "00_start_here":
        study = tmp_path / "runs" / "first"
        assert json.loads((study / "experiment.json").read_text())["model"] == "smollm2"
        assert len((study / "reward.jsonl").read_text().splitlines()) == 8


def take_pocket(notebook, must: bool) -> None:
    """Choose the small model where the reader chooses."""
    found = [cell for cell in notebook.cells if cell.source.count(CHOICE)]
    assert len(found) == must
    for cell in found:
        cell.source = cell.source.replace(CHOICE, 'MODEL = "pocket-sft"')


def keep(notebook, name: str) -> None:
    """What came out, to look at."""
    folder = ROOT / "runs" / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")
