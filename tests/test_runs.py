"""A run on disk goes on where it was, whatever interrupted it."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import build_policy, same_metrics

from lab.errors import DamagedStudy
from lab.files import append_json_line, read_json_lines, write_atomic
from lab.ppo import CHECKPOINT_EVERY, PPO
from lab.runs import Run
from lab.settings import PPOSettings

SETTINGS = PPOSettings(batch_size=6, max_new_tokens=5, learning_rate=3e-3, num_mini_batches=2)
PROMPTS = ["w20 w21", "w30", "w31 w32 w33"]


def score(prompts, samples) -> list[float]:
    return [float(sum(row) % 5) for row in samples.token_lists()]


def open_ppo(folder, config: dict | None = None) -> PPO:
    return PPO(build_policy(eos=range(3, 7)), score, PROMPTS, SETTINGS, Run(folder, config))


@pytest.fixture
def folder(tmp_path):
    """A run of 2 updates with its checkpoint."""
    open_ppo(tmp_path / "ppo-1", {"kind": "ppo"}).train(2)
    return tmp_path / "ppo-1"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The metrics of 8 updates in one go."""
    torch.set_num_threads(1)
    return open_ppo(tmp_path_factory.mktemp("whole") / "ppo-1", {}).train(8)


def all_same(rows, expected) -> bool:
    return len(rows) == len(expected) and all(map(same_metrics, rows, expected))


def test_history_is_on_disk_after_each_step(tmp_path):
    ppo = open_ppo(tmp_path / "ppo-1", {"kind": "ppo"})
    for n in (1, 2):
        row = ppo.step()
        rows = read_json_lines(ppo.run.folder / "metrics.jsonl")
        assert len(rows) == n == len(ppo.history)
        assert same_metrics(rows[-1], row)
        samples = read_json_lines(ppo.run.folder / "samples.jsonl")
        assert samples[-4:] == [{"update": n, **s} for s in ppo.last_samples[:4]]


def test_a_reopened_run_continues_bit_for_bit(folder, uninterrupted):
    ppo = open_ppo(folder)
    assert ppo.run.config == {"kind": "ppo"}
    assert ppo.update == 2
    ppo.train(2)
    assert all_same(open_ppo(folder).history, uninterrupted[:4])


def test_a_checkpoint_comes_by_itself_every_few_updates(tmp_path, uninterrupted):
    ppo = open_ppo(tmp_path / "ppo-1", {})
    for _ in range(CHECKPOINT_EVERY + 1):
        ppo.step()
    again = open_ppo(tmp_path / "ppo-1")  # after a crash: nobody saved
    assert again.update == CHECKPOINT_EVERY
    assert all_same(again.history, uninterrupted[:CHECKPOINT_EVERY])
    again.train(2)
    assert all_same(again.history, uninterrupted[: CHECKPOINT_EVERY + 2])


@pytest.mark.parametrize("saved", [False, True])
def test_history_past_the_checkpoint_is_cut_back_and_computed_again(tmp_path, saved, uninterrupted):
    ppo = open_ppo(tmp_path / "ppo-1", {})
    if saved:
        ppo.train(1)
    ppo.step()
    again = open_ppo(tmp_path / "ppo-1")
    assert again.update == len(again.history) == int(saved)
    assert {s["update"] for s in again.run.samples} == ({1} if saved else set())
    again.train(2)
    assert all_same(open_ppo(tmp_path / "ppo-1").history, uninterrupted[: 2 + saved])


@pytest.mark.parametrize("part", ['{"upd', '{"update": 3, "objective/kl": 0.1}', "\n", '{"é'])
@pytest.mark.parametrize("file", ["metrics.jsonl", "samples.jsonl"])
def test_a_half_written_line_costs_nothing_before_or_after_it(folder, file, part, uninterrupted):
    data = part.encode()[:-1] if part == '{"é' else part.encode()  # ends inside a character
    with (folder / file).open("ab") as out:
        out.write(data)
    ppo = open_ppo(folder)
    assert all_same(ppo.history, uninterrupted[:2])
    ppo.train(1)
    again = open_ppo(folder)
    assert all_same(again.history, uninterrupted[:3])
    assert [s["update"] for s in again.run.samples] == [1] * 4 + [2] * 4 + [3] * 4


@pytest.mark.parametrize(
    "text", ["a\u2028b", "a\u2029b", "a\x85b", "a\x0bb\x1cc\r\nd", "\ud800", "naïve 😀", "\0"]
)
def test_completions_of_any_characters_are_read_back(tmp_path, text):
    run = Run(tmp_path / "ppo-1", {})
    for n in (1, 2):
        run.append({"update": n}, [{"completion": text}])
    run.save({"x": torch.zeros(1)}, {"update": 2})
    samples = Run(tmp_path / "ppo-1").samples
    assert [s["update"] for s in samples] == [1, 2]
    if text != "\ud800":
        assert samples[0]["completion"] == text


def test_checkpoints_replace_each_other(folder):
    open_ppo(folder).train(1)
    assert [p.name for p in folder.glob("checkpoint-*")] == ["checkpoint-000003.safetensors"]
    assert Run(folder).checkpoint_update == 3
    assert not list(folder.glob(".*"))


def test_a_crash_between_tensors_and_json_leaves_the_older_checkpoint(folder, monkeypatch):
    def crash(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("lab.runs.write_json", crash)
    ppo = open_ppo(folder)
    with pytest.raises(KeyboardInterrupt):
        ppo.train(1)
    monkeypatch.undo()
    assert open_ppo(folder).update == 2


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("config.json", b"{"),
        ("checkpoint.json", b"\xff"),
        ("checkpoint.json", b"{}"),
        ("checkpoint.json", b"[]"),
        ("checkpoint-000002.safetensors", b"12345678"),
        ("checkpoint-000002.safetensors", None),
    ],
)
def test_damage_is_named_and_nothing_is_overwritten(folder, file, data):
    (folder / file).unlink()
    if data is not None:
        (folder / file).write_bytes(data)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(DamagedStudy, match=file.split("-")[0]):
        open_ppo(folder)
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_checkpoint_cannot_point_outside_its_run(folder):
    state = json.loads((folder / "checkpoint.json").read_text())
    state["file"] = "../../" + state["file"]
    (folder / "checkpoint.json").write_text(json.dumps(state))
    assert open_ppo(folder).update == 2


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_atomic(path, b"old")

    def crash(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", crash)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"


def test_lines_are_read_in_the_order_they_were_added(tmp_path):
    path = tmp_path / "x.jsonl"
    assert read_json_lines(path) == []
    for i in range(3):
        append_json_line(path, {"i": i})
    assert read_json_lines(path) == [{"i": 0}, {"i": 1}, {"i": 2}]
