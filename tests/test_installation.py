"""What a fresh installation promises: one list of dependencies, a quick import, a command line."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from lab.__main__ import main

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"torch": "pytorch"}


def name_and_range(requirement: str) -> tuple[str, str]:
    name, bounds = re.fullmatch(r"([\w-]+)(.*)", requirement.replace(" ", "")).groups()
    return CONDA_NAMES.get(name, name), bounds


def test_environment_yml_and_pyproject_list_the_same_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    listed = {name_and_range(d) for d in conda if isinstance(d, str)} - {("pip", "")}
    expected = {name_and_range(d) for d in project["dependencies"]}
    assert listed == expected | {("python", project["requires-python"])}
    assert {"pip": ["-e ."]} in conda


def test_every_dependency_is_pinned_in_the_constraints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    pinned = {name.lower().replace("_", "-") for name in pins}
    needed = project["dependencies"] + project["optional-dependencies"]["test"]
    names = {re.match(r"[\w-]+", d)[0].lower().replace("_", "-") for d in needed}
    assert names <= pinned
    assert pins["torch"] == "2.13.0"


def test_importing_the_lab_imports_no_torch() -> None:
    code = "import sys, lab; print('torch' in sys.modules or 'transformers' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "False", result.stderr


def test_notebooks_are_committed_without_outputs() -> None:
    import json

    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            assert not cell.get("outputs") and not cell.get("execution_count"), path.name


def test_an_error_on_the_command_line_is_a_message_not_a_traceback(capsys) -> None:
    assert main(["fetch", "smollm3"]) == 1
    message = capsys.readouterr().err
    assert "UnknownModel" in message and "smollm2" in message


def test_doctor_names_every_dependency(capsys) -> None:
    main(["doctor"])
    printed = capsys.readouterr().out
    for name in ("torch", "transformers", "anywidget", "smollm2"):
        assert name in printed


@pytest.mark.parametrize("command", ["start", "fetch", "demo", "doctor"])
def test_every_command_explains_itself(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert command in capsys.readouterr().out
