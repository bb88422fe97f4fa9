"""What every trainer has: steps, a history, travel in time, and runs that repeat themselves."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from helpers import same_metrics
from trainers import KINDS, make

from lab.errors import BadSetting, LabError, RunInUse, TrainingStopped
from lab.runs import CHECKPOINT_EVERY, CHECKPOINTS_KEPT, Run, run_folders
from lab.trainer import CLOCK

LONG = CHECKPOINT_EVERY + 3


def on_disk(tmp_path, kind: str, **settings):
    name = f"{kind.partition('-')[0]}-1"
    return make(kind, Run(tmp_path / name, {"kind": kind}), **settings)


def weights(trainer) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in trainer._trained().items()}


def same_weights(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def all_same(a: list[dict], b: list[dict]) -> bool:
    return len(a) == len(b) and all(map(same_metrics, a, b))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_moves_every_trained_weight_and_records_finite_metrics(kind):
    trainer = make(kind)
    before = weights(trainer)
    first, samples = trainer.step(), trainer.last_samples
    rows = [first, trainer.step()]
    assert [row["update"] for row in rows] == [1, 2]
    assert trainer.history == rows
    assert all(math.isfinite(v) for row in rows for v in row.values())
    still = {k for k, v in weights(trainer).items() if torch.equal(v, before[k])}
    assert still == set()
    assert samples and "prompt" in samples[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_policy_gets_better_at_what_it_is_trained_for(kind):
    goal = {"ppo": "objective/scores", "grpo": "objective/scores", "dpo": "rewards/margins"}
    goal |= {"sft": "mean_token_logprob", "pretrain": "mean_token_logprob"}
    goal |= {"reward": "margin", "reward-top": "margin"}
    more = {"batch_size": 32} if kind in ("ppo", "grpo") else {}
    rows = make(kind, learning_rate=1e-2, **more).train(12)
    first, last = (sum(r[goal[kind]] for r in part) / 3 for part in (rows[:3], rows[-3:]))
    assert last > first


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_run_and_another_seed_another(kind):
    torch.manual_seed(1)
    first = make(kind).train(3)
    torch.manual_seed(2)  # global random numbers have no part in a run
    assert all_same(first, make(kind).train(3))
    assert not all_same(first, make(kind, seed=1).train(3))


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_micro_batches_changes_nothing_but_rounding(kind):
    whole, parts = (make(kind, micro_batch_size=n) for n in (64, 2))
    a, b = whole.step(), parts.step()
    for name in a:
        if name not in CLOCK:
            assert a[name] == pytest.approx(b[name], abs=1e-5), name
    for name, weight in weights(whole).items():
        # Adam's first step is the sign of the gradient, whatever its size; look past rounding.
        difference = (weight - weights(parts)[name]).abs()
        assert difference.mean() < 1e-5, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("back_to", [0, 2, CHECKPOINT_EVERY, LONG - 1])
def test_rewound_and_forward_again_is_bit_identical(tmp_path, kind, back_to):
    trainer = on_disk(tmp_path, kind)
    trainer.train(LONG)
    history, end = list(trainer.history), weights(trainer)
    texts = list(trainer.last_samples)
    trainer.rewind(back_to)
    assert trainer.update == back_to
    assert not same_weights(end, weights(trainer))
    again = [trainer.step() for _ in range(LONG - back_to)]
    assert all_same(again, history[back_to:])
    assert same_weights(end, weights(trainer))
    assert trainer.last_samples == texts
    assert all_same(trainer.history, history)
    twin = make(kind)
    twin.train(LONG + 1)
    assert same_metrics(trainer.step(), twin.history[-1])
    assert same_weights(weights(trainer), weights(twin))


@pytest.mark.parametrize("kind", KINDS)
def test_rewinding_after_a_restart_is_bit_identical(tmp_path, kind):
    first, twin = on_disk(tmp_path, kind), make(kind)
    first.train(LONG)
    again = make(kind, Run(first.run.folder))
    assert again.update == LONG
    assert same_weights(weights(first), weights(again))
    again.rewind(CHECKPOINT_EVERY + 1)
    twin.train(CHECKPOINT_EVERY + 1)
    assert same_weights(weights(twin), weights(again))
    again.train(3)
    twin.train(3)
    assert all_same(twin.history, again.history)
    assert same_weights(weights(twin), weights(again))


@pytest.mark.parametrize("kind", ["ppo", "dpo"])
def test_a_run_in_memory_rewinds_too(kind):
    trainer, twin = make(kind), make(kind)
    trainer.train(3)
    twin.train(1)
    trainer.rewind(1)
    assert same_weights(weights(trainer), weights(twin))
    trainer.train(2)
    twin.train(2)
    assert same_weights(weights(trainer), weights(twin))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("disk", [True, False])
def test_a_branch_starts_where_it_left_and_leaves_its_parent_alone(tmp_path, kind, disk):
    trainer = on_disk(tmp_path, kind) if disk else make(kind)
    rows = trainer.train(4)
    before = weights(trainer)
    same, other = trainer.branch(2), trainer.branch(2, learning_rate=0.02)
    assert trainer.update == 4 and same_weights(before, weights(trainer))
    assert same.update == other.update == 2 and same.history == []
    assert same_metrics(same.step(), rows[2]) and same_metrics(same.step(), rows[3])
    assert same_weights(before, weights(same))
    other.train(2)
    assert other.history[-1]["learning_rate"] == pytest.approx(0.02)
    assert not same_weights(before, weights(other))
    assert other.run.config["parent"] == {"run": trainer.run.name, "update": 2}
    other.rewind(3)
    assert same_metrics(other.step(), other.history[-1])
    with pytest.raises(LabError, match=r"rewind\(1\).*2 to 4"):
        other.rewind(1)


def test_branches_form_a_tree_that_survives_a_restart(tmp_path):
    trainer = on_disk(tmp_path, "ppo")
    trainer.train(3)
    child = trainer.branch(2, kl_coef=0.5)
    child.train(2)
    grandchild = child.branch(3, seed=7)
    grandchild.train(1)
    parents = {}
    for folder in tmp_path.iterdir():
        run = Run(folder)
        parents[run.name] = run.config.get("parent")
    assert parents == {
        "ppo-1": None,
        "ppo-2": {"run": "ppo-1", "update": 2},
        "ppo-3": {"run": "ppo-2", "update": 3},
    }
    again = make("ppo", Run(tmp_path / "ppo-3"))
    assert again.update == 4 and again.settings.kl_coef == 0.5 and again.settings.seed == 7
    assert same_weights(weights(again), weights(grandchild))
    again.rewind(3)
    assert same_metrics(again.step(), grandchild.history[0])


def test_a_branch_takes_what_pins_the_goal_along(tmp_path):
    trainer = on_disk(tmp_path, "ppo")
    for name in ("reward.json", "pairs.json", "demonstrations.jsonl"):
        (trainer.run.folder / name).write_text("{}")
    trainer.train(1)
    branch = trainer.branch(1)
    names = {p.name for p in branch.run.folder.iterdir()}
    assert {"reward.json", "pairs.json", "demonstrations.jsonl", "config.json"} <= names
    assert "metrics.jsonl" not in names


def test_a_branch_refuses_bad_settings_and_updates(tmp_path):
    trainer = on_disk(tmp_path, "ppo")
    trainer.train(2)
    with pytest.raises(BadSetting, match="kl_coef=-1"):
        trainer.branch(1, kl_coef=-1)
    with pytest.raises(BadSetting, match="'kl_coeff'"):
        trainer.branch(1, kl_coeff=1)
    for update in (-1, 3):
        with pytest.raises(LabError, match="0 to 2"):
            trainer.branch(update)
    assert [p.name for p in tmp_path.iterdir()] == ["ppo-1"]


def test_settings_that_were_changed_on_the_way_come_back_with_their_updates(tmp_path):
    trainer = on_disk(tmp_path, "ppo")
    for rate in (1e-3, 1e-3, 5e-3, 1e-4):
        trainer.change(learning_rate=rate)
        trainer.step()
    rows, end = list(trainer.history), weights(trainer)
    trainer.rewind(1)
    assert trainer.settings.learning_rate == 1e-3
    trainer.rewind(2)
    assert trainer.settings.learning_rate == 5e-3  # what comes next was taken with it
    assert all_same([trainer.step(), trainer.step()], rows[2:])
    assert same_weights(end, weights(trainer))


def test_after_a_rewind_settings_change_in_a_branch_alone(tmp_path):
    trainer = on_disk(tmp_path, "ppo")
    trainer.train(2)
    trainer.rewind(1)
    with pytest.raises(BadSetting, match=r"branch\(1"):
        trainer.change(kl_coef=0.5)
    trainer.step()
    trainer.change(kl_coef=0.5)
    assert trainer.step()["objective/kl_coef"] == 0.5


def test_an_update_that_comes_out_otherwise_is_said_not_hidden(tmp_path):
    trainer = on_disk(tmp_path, "ppo")
    trainer.train(2)
    path = trainer.run.folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["objective/kl"] += 1e-9
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = make("ppo", Run(trainer.run.folder))
    again.rewind(1)
    with pytest.raises(LabError, match=r"Update 2 of ppo-1 .* branch\(1\)"):
        again.step()


@pytest.mark.parametrize("kind", ["ppo", "grpo", "dpo"])
@pytest.mark.parametrize("disk", [True, False])
def test_an_update_that_fails_halfway_leaves_everything_as_it_was(
    tmp_path, monkeypatch, kind, disk
):
    settings = {"batch_size": 8}
    trainer = on_disk(tmp_path, kind, **settings) if disk else make(kind, **settings)
    twin = make(kind, **settings)
    for _ in range(2):
        trainer.step()
        twin.step()
    before, step, calls = weights(trainer), trainer.optimizer.step, []

    def interrupted(*args, **kwargs):
        step(*args, **kwargs)
        if not calls:
            calls.append(1)
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer.optimizer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.step()
    assert calls and trainer.update == 2 and len(trainer.history) == 2
    assert same_weights(before, weights(trainer))
    assert same_metrics(trainer.step(), twin.step())


def test_a_gradient_that_is_not_finite_stops_before_any_weight_moves(tmp_path, monkeypatch):
    trainer = on_disk(tmp_path, "dpo")
    trainer.step()
    before = weights(trainer)
    monkeypatch.setattr("lab.dpo.dpo_loss", lambda ratios, *_: ratios * float("nan"))
    with pytest.raises(TrainingStopped, match=r"Update 2 stopped.*loss"):
        trainer.step()
    assert same_weights(before, weights(trainer)) and trainer.update == 1
    monkeypatch.undo()
    assert trainer.step()["update"] == 2


def test_a_full_disk_leaves_the_run_before_the_update(tmp_path, monkeypatch):
    trainer, twin = on_disk(tmp_path, "ppo"), make("ppo")
    trainer.step()
    before = weights(trainer)

    def full(path, row):
        with path.open("ab") as file:
            file.write(b'{"half a li')
        raise OSError("no space left on device")

    monkeypatch.setattr("lab.runs.append_json_line", full)
    with pytest.raises(LabError, match="no space left"):
        trainer.step()
    assert trainer.update == len(trainer.history) == 1
    assert {s["update"] for s in trainer.run.samples} == {1}
    assert same_weights(before, weights(trainer))
    monkeypatch.undo()
    twin.train(2)
    assert same_metrics(trainer.step(), twin.history[1])


def test_a_run_belongs_to_one_notebook(tmp_path):
    trainer = on_disk(tmp_path, "dpo")
    trainer.train(2)
    del trainer
    with FileLock(tmp_path / "dpo-1" / ".lock"):  # as another process holds it
        other = make("dpo", Run(tmp_path / "dpo-1"))
        before = weights(other)
        with pytest.raises(RunInUse, match=r"dpo-1 .* another notebook"):
            other.step()
        assert other.update == 2 and same_weights(before, weights(other))
        other.rewind(1)  # to look is free
        other.rewind(2)
    assert other.step()["update"] == 3


def test_of_two_trainers_the_one_that_knows_the_newest_update_goes_on(tmp_path):
    """Cells are run again and again, and widgets keep their trainers alive."""
    first = on_disk(tmp_path, "dpo")
    first.train(2)
    second = make("dpo", Run(tmp_path / "dpo-1"))
    second.train(1)
    with pytest.raises(RunInUse, match="taken further"):
        first.step()
    assert [row["update"] for row in Run(tmp_path / "dpo-1").history] == [1, 2, 3]
    assert second.step()["update"] == 4


def test_a_branch_that_was_never_begun_is_no_run(tmp_path, monkeypatch):
    trainer = on_disk(tmp_path, "ppo")
    trainer.train(2)

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        trainer.branch(1)
    monkeypatch.undo()
    assert [f.name for f in run_folders(tmp_path)] == ["ppo-1"]
    assert trainer.branch(1).run.name == "ppo-3", "the folder that is there is left alone"


def test_a_branch_of_this_moment_keeps_what_was_just_set():
    trainer = make("ppo")
    trainer.train(2)
    trainer.change(learning_rate=1e-5)
    samples = trainer.last_samples
    branch = trainer.branch(2, kl_coef=0.7)
    assert branch.settings.learning_rate == trainer.settings.learning_rate == 1e-5
    assert branch.settings.kl_coef == 0.7
    assert trainer.branch(1).settings.learning_rate == 3e-3, "what came next there"
    assert trainer.last_samples is samples


def test_settings_that_a_crash_left_behind_are_not_believed(tmp_path):
    trainer = on_disk(tmp_path, "ppo")
    trainer.train(2)
    settings = dict(trainer.run.settings[-1]["settings"], learning_rate=0.5)
    with (trainer.run.folder / "settings.jsonl").open("a") as file:
        file.write(json.dumps({"update": 3, "settings": settings}) + "\n")
    del trainer
    make("ppo", Run(tmp_path / "ppo-1")).step()
    again = make("ppo", Run(tmp_path / "ppo-1"))
    again.rewind(2)
    again.step()
    assert again.history[2]["learning_rate"] == 3e-3


def test_the_disk_that_a_run_takes_is_bounded(tmp_path):
    trainer = on_disk(tmp_path, "dpo", batch_size=1)
    trainer.train(1)
    one = trainer.run.megabytes
    trainer.train(80)
    assert len(trainer.run.checkpoints) <= CHECKPOINTS_KEPT + 2
    assert trainer.run.megabytes < (CHECKPOINTS_KEPT + 2) * one + 1
    trainer.rewind(43)
    trainer.step()


SCRIPT = """
import json, sys, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from trainers import make
print(json.dumps(make(sys.argv[2]).train(2)))
"""


@pytest.mark.parametrize("kind", ["ppo", "grpo", "reward-top"])
def test_two_processes_with_the_same_seed_have_the_same_metrics(kind):
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), kind]
    runs = [
        json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        for _ in range(2)
    ]
    assert all_same(*runs)
    assert all_same(runs[0], make(kind).train(2))


def test_training_ends_where_the_goal_is_reached(tmp_path):
    trainer, twin = on_disk(tmp_path, "ppo"), make("ppo")
    kl = [row["objective/kl"] for row in twin.train(8)]
    limit = sorted(kl)[4]
    expected = next(i for i, value in enumerate(kl) if value >= limit) + 1
    rows = trainer.train(8, until=f"objective/kl >= {limit!r}")
    assert len(rows) == expected and rows[-1]["objective/kl"] >= limit
    assert trainer.run.checkpoints[-1] == expected
    assert len(trainer.train(5, until=f"update >= {expected + 2}")) == 2
    assert len(trainer.train(3, until="objective/kl <= -100")) == 3


def test_a_goal_that_cannot_be_read_or_reached_is_said(tmp_path):
    trainer = on_disk(tmp_path, "ppo")
    for goal in (
        "objective/kl >= nan",
        "objective/kl <= -inf",
        "objective/kl",
        "objective/kl > 3",
        "objective/kl >= much",
        ">= 3",
    ):
        with pytest.raises(BadSetting, match="objective/kl >= 8"):
            trainer.train(3, until=goal)
    assert trainer.update == 0
    with pytest.raises(BadSetting, match=r"no metric 'kl'.*objective/kl"):
        trainer.train(3, until="kl >= 3")
    assert trainer.update == 1 and len(trainer.train(1, until="objective/kl >= -100")) == 1


def test_rewinding_tells_each_update_that_is_computed_again(tmp_path):
    trainer = on_disk(tmp_path, "dpo")
    trainer.train(LONG)
    told = []
    trainer.rewind(CHECKPOINT_EVERY + 1, told.append)
    assert [row["update"] for row in told] == [CHECKPOINT_EVERY + 1]
    trainer.rewind(CHECKPOINT_EVERY + 2, told.append)  # from where it stands
    assert [row["update"] for row in told] == [CHECKPOINT_EVERY + 1, CHECKPOINT_EVERY + 2]
    assert all_same(told, trainer.history[CHECKPOINT_EVERY : CHECKPOINT_EVERY + 2])


@pytest.mark.parametrize("kind", ["ppo", "sft"])
def test_a_rewind_can_be_taken_in_steps(tmp_path, kind):
    trainer, twin = on_disk(tmp_path, kind), make(kind)
    trainer.train(LONG)
    twin.train(CHECKPOINT_EVERY + 2)
    trainer.approach(CHECKPOINT_EVERY + 2)
    assert trainer.update == CHECKPOINT_EVERY
    trainer.step()
    before = weights(trainer)
    trainer.approach(CHECKPOINT_EVERY + 2)  # it is on its way already: nothing to go back for
    assert trainer.update == CHECKPOINT_EVERY + 1 and same_weights(before, weights(trainer))
    trainer.step()
    assert same_weights(weights(trainer), weights(twin))


def test_steps_after_a_rewind_bring_the_settings_that_came_with_them(tmp_path):
    trainer = on_disk(tmp_path, "dpo")
    for rate in (1e-3, 2e-3, 3e-3):
        trainer.change(learning_rate=rate)
        trainer.step()
    trainer.rewind(0)
    for _ in range(3):
        trainer.step()
    assert trainer.settings.learning_rate == 3e-3
    assert trainer.step()["learning_rate"] == 3e-3


def test_a_look_back_keeps_what_was_set_for_the_next_update(tmp_path):
    trainer = on_disk(tmp_path, "ppo")
    trainer.train(3)
    trainer.change(kl_coef=0.9)
    trainer.rewind(1)
    assert trainer.settings.kl_coef == 0.1
    trainer.rewind(2)
    trainer.step()
    assert trainer.settings.kl_coef == 0.9
    trainer.change(kl_coef=0.8)
    trainer.rewind(0)
    trainer.rewind(3)
    assert trainer.step()["objective/kl_coef"] == 0.8
    trainer.rewind(3)
    trainer.rewind(4)
    assert trainer.settings.kl_coef == 0.8


def test_a_metric_that_is_no_number_comes_again_as_none(tmp_path, monkeypatch):
    trainer = on_disk(tmp_path, "dpo")
    take = trainer.take

    def without():
        metrics, samples = take()
        return metrics | {"margin/left": float("nan")}, samples

    monkeypatch.setattr(trainer, "take", without)
    trainer.train(2)
    trainer.rewind(1)  # which no checkpoint has
    assert trainer.update == 1


def test_a_run_of_another_number_of_threads_leaves_this_one_as_it_was(tmp_path, monkeypatch):
    set_to = []
    now = {"threads": 7}
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: now["threads"])
    monkeypatch.setattr(
        torch, "set_num_threads", lambda n: (set_to.append(n), now.update(threads=n))
    )
    trainer = make("dpo", Run(tmp_path / "dpo-1", {"kind": "dpo", "threads": 2}))
    trainer.step()
    assert set_to == [2, 7]
    trainer.take = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trainer.step()
    assert now["threads"] == 7
