"""Every notebook runs from top to bottom without a person, on the real models, a short way."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SHIPPED = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
RUNS = {  # of each notebook, the runs that it takes: updates by study and run
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
    settings = {"LAB_RATER": "cheerful", "LAB_UPDATES": "2", "LAB_SHORT": "1"}
    for variable, value in {**settings, "LAB_RUNS": str(tmp_path / "runs")}.items():
        monkeypatch.setenv(variable, value)
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    client = NotebookClient(notebook, timeout=300)
    client.execute(cwd=str(tmp_path))
    assert "Traceback" not in json.dumps(notebook)
    for run, updates in RUNS[name].items():
        lines = (tmp_path / "runs" / run / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == updates
    if name == "00_start_here":
        study = tmp_path / "runs" / "first"
        assert json.loads((study / "experiment.json").read_text())["model"] == "smollm2"
        assert len((study / "reward.jsonl").read_text().splitlines()) == 8
