"""A run on disk goes on where it was, whatever interrupted it; checkpoints stay few."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch
from helpers import build_policy, same_metrics
from safetensors.torch import load_file, save_file

from lab.errors import DamagedStudy
from lab.files import append_json_line, read_json_lines, write_atomic
from lab.history import History
from lab.ppo import PPO
from lab.runs import CHECKPOINT_EVERY, CHECKPOINTS_KEPT, Run, next_folder, run_folders
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
    assert [s["update"] for s in ppo.last_samples] == [2] * 4
    ppo.train(2)
    assert all_same(open_ppo(folder).history, uninterrupted[:4])


@pytest.mark.parametrize("saved", [False, True])
def test_after_a_crash_what_is_past_the_checkpoint_is_computed_again(
    tmp_path, saved, uninterrupted
):
    ppo = open_ppo(tmp_path / "ppo-1", {})
    before = CHECKPOINT_EVERY if saved else 0
    for _ in range(before + 2):  # nobody saves, but every few updates the run does
        ppo.step()
    again = open_ppo(tmp_path / "ppo-1")
    assert again.update == before
    assert all_same(again.history, uninterrupted[: before + 2])
    again.train(3)
    assert all_same(open_ppo(tmp_path / "ppo-1").history, uninterrupted[: before + 3])


@pytest.mark.parametrize("part", ['{"upd', '{"update": 3, "objective/kl": 0.1', "\n", '{"é'])
@pytest.mark.parametrize("file", ["metrics.jsonl", "samples.jsonl", "settings.jsonl"])
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


def test_samples_of_an_update_that_never_reached_the_history_are_left_out(folder):
    append_json_line(folder / "samples.jsonl", {"update": 3, "completion": "lost"})
    before = (folder / "samples.jsonl").read_bytes()
    ppo = open_ppo(folder)
    assert {s["update"] for s in ppo.run.samples} == {1, 2}
    assert (folder / "samples.jsonl").read_bytes() == before, "a trainer may be writing them now"
    ppo.step()
    assert "lost" not in (folder / "samples.jsonl").read_text()


@pytest.mark.parametrize(
    "text", ["a\u2028b", "a\u2029b", "a\x85b", "a\x0bb\x1cc\r\nd", "\ud800", "naïve 😀", "\0"]
)
def test_completions_of_any_characters_are_read_back(tmp_path, text):
    run = Run(tmp_path / "ppo-1", {})
    for n in (1, 2):
        run.append({"update": n}, [{"completion": text}], {"kl_coef": 0.1})
    samples = Run(tmp_path / "ppo-1").samples
    assert [s["update"] for s in samples] == [1, 2]
    if text != "\ud800":
        assert samples[0]["completion"] == text


def test_settings_are_kept_where_they_change(tmp_path):
    run = Run(tmp_path / "ppo-1", {})
    for n, price in ((1, 0.1), (2, 0.1), (3, 0.2)):
        run.append({"update": n}, [], {"kl_coef": price})
    assert len(read_json_lines(run.folder / "settings.jsonl")) == 2
    again = Run(tmp_path / "ppo-1")
    assert [again.settings_of(n) for n in (1, 2, 3)] == [
        {"kl_coef": price} for price in (0.1, 0.1, 0.2)
    ]
    assert again.settings_of(4) is None


@pytest.mark.parametrize("updates", [1, 7, 20, 23, 97])
def test_the_best_the_last_and_a_few_even_checkpoints_are_kept(tmp_path, updates):
    run, best = Run(tmp_path / "ppo-1", {}), 10
    for n in range(1, updates + 1):
        run.append({"update": n, "reward": -abs(n - best)}, [], {})
        if n % CHECKPOINT_EVERY == 0 or n == updates:
            run.save({"x": torch.zeros(1)}, {"update": n}, "reward")
    kept = run.checkpoints
    assert kept[-1] == updates
    assert updates < best or best in kept
    assert len(kept) <= CHECKPOINTS_KEPT + 2
    strides = {b - a for a, b in pairwise(kept)}
    assert max(strides, default=0) <= max(CHECKPOINT_EVERY, updates // 2)
    assert run.megabytes > 0
    assert not list(run.folder.glob(".*"))


def test_the_checkpoint_that_a_branch_starts_from_is_kept(tmp_path):
    config = {"parent": {"run": "ppo-1", "update": 3}}
    run = Run(tmp_path / "ppo-2", config)
    run.start({"x": torch.zeros(1)}, {"update": 3})
    assert (run.first, run.last, run.resume_at) == (3, 3, 3)
    for n in range(4, 60):
        run.append({"update": n, "reward": n}, [], {})
        if n % CHECKPOINT_EVERY == 0:
            run.save({"x": torch.zeros(1)}, {"update": n}, "reward")
    assert run.checkpoints[0] == 3


def test_runs_are_numbered_across_kinds_in_the_order_they_were_made(tmp_path):
    assert next_folder(tmp_path, "sft").name == "sft-1"
    for number, kind in ((1, "sft"), (2, "ppo"), (10, "dpo")):
        Run(tmp_path / f"{kind}-{number}", {})
    (tmp_path / "ppo-notes").mkdir()
    assert [f.name for f in run_folders(tmp_path)] == ["sft-1", "ppo-2", "dpo-10"]
    assert next_folder(tmp_path, "ppo").name == "ppo-11"


def test_a_crash_while_a_checkpoint_is_written_leaves_the_older_one(folder, monkeypatch):
    def crash(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", crash)
    ppo = open_ppo(folder)
    with pytest.raises(KeyboardInterrupt):
        ppo.train(1)
    monkeypatch.undo()
    assert open_ppo(folder).update == 2


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("config.json", b"{"),
        ("checkpoint-000002.safetensors", b"12345678"),
        ("checkpoint-000002.safetensors", b""),
    ],
)
def test_damage_is_named_and_nothing_is_overwritten(folder, file, data):
    (folder / file).write_bytes(data)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(DamagedStudy, match=file.split("-")[0]):
        open_ppo(folder)
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_checkpoint_without_its_state_is_damage(folder):
    path = folder / "checkpoint-000002.safetensors"
    save_file(load_file(path), path)
    with pytest.raises(DamagedStudy, match="checkpoint-000002"):
        open_ppo(folder)


def test_a_checkpoint_that_was_taken_away_is_computed_again(folder, uninterrupted):
    (folder / "checkpoint-000002.safetensors").unlink()
    ppo = open_ppo(folder)
    assert (ppo.update, len(ppo.history)) == (0, 2)
    ppo.train(3)
    assert all_same(ppo.history, uninterrupted[:3])


def test_a_row_that_was_lost_from_the_history_is_named(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text(lines[1] + "\n")
    (folder / "checkpoint-000002.safetensors").unlink()
    with pytest.raises(DamagedStudy, match="update 1"):
        open_ppo(folder).step()


def test_a_run_of_the_first_version_goes_on(folder, uninterrupted):
    """It had one checkpoint, with its state in a file of its own, and fewer settings."""
    path = folder / "checkpoint-000002.safetensors"
    save_file(load_file(path), path)
    state = {"update": 2, "settings": {"batch_size": 6, "max_new_tokens": 5, "learning_rate": 3e-3}}
    (folder / "checkpoint.json").write_text(json.dumps({**state, "file": path.name}))
    (folder / "settings.jsonl").unlink()
    ppo = open_ppo(folder)
    assert ppo.update == 2
    assert same_metrics(ppo.step(), uninterrupted[2])


@pytest.mark.parametrize("file", ["settings.jsonl", "samples.jsonl", "metrics.jsonl"])
@pytest.mark.parametrize("written", [False, True])
def test_an_interrupt_while_the_record_is_written_takes_the_update_back(
    folder, file, written, monkeypatch, uninterrupted
):
    ppo = open_ppo(folder)
    ppo.run.settings.clear()  # so that settings are written too
    before = ppo.history

    def interrupted(path, row):
        if written or path.name != file:
            append_json_line(path, row)
        if path.name == file:
            raise KeyboardInterrupt

    monkeypatch.setattr("lab.runs.append_json_line", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ppo.step()
    monkeypatch.undo()
    assert ppo.update == 2 and ppo.history == before
    ppo.train(2)
    for rows in (ppo.history, open_ppo(folder).history):
        assert all_same(rows, uninterrupted[:4])
    assert [row["update"] for row in read_json_lines(folder / "metrics.jsonl")] == [1, 2, 3, 4]
    samples = [row["update"] for row in read_json_lines(folder / "samples.jsonl")]
    assert samples == [n for n in (1, 2, 3, 4) for _ in range(4)]


def test_a_record_in_memory_takes_an_interrupted_update_back():
    history = History()
    history.append({"update": 1}, [{"text": "a"}], {"kl_coef": 0.1})

    class Interrupted(list):
        def append(self, row):
            super().append(row)
            raise KeyboardInterrupt

    history.history = Interrupted(history.history)
    with pytest.raises(KeyboardInterrupt):
        history.append({"update": 2}, [{"text": "b"}], {"kl_coef": 0.2})
    assert (history.last, len(history.samples), len(history.settings)) == (1, 1, 1)


def test_what_a_run_takes_is_measured_while_its_files_come_and_go(folder, monkeypatch):
    run = Run(folder)
    whole, files = run.megabytes, list(folder.iterdir())
    gone = folder / ".checkpoint-000009.safetensors.part"
    monkeypatch.setattr("pathlib.Path.iterdir", lambda _: iter([*files, gone]))
    monkeypatch.setattr("pathlib.Path.is_file", lambda _: True)  # it was there a moment ago
    assert run.megabytes == whole


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
