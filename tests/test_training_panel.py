"""The panel that drives a trainer, without a browser."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from types import SimpleNamespace

import pytest
from filelock import FileLock
from studies import HOSTILE, idle, rank_some, small_study

from lab.plots import Plot
from lab.training import open_trainer
from lab.widgets.run_driver import RunDriver
from lab.widgets.run_figure import Curves, RunFigure, hover_text


def trace(panel, name: str):
    """A trace of the figure by its name."""
    return next(t for t in panel.figure.data if t.name == name)


def test_the_training_panel_steps_runs_and_plots(study) -> None:
    rank_some(study)
    panel = study.ppo(batch_size=4)
    panel.start(1)
    idle(study)
    panel.start(2)
    idle(study)
    names = ("score of the reward model", "score less the KL penalty", "KL to the reference")
    assert [list(trace(panel, name).x) for name in names] == [[1, 2, 3]] * 3
    kl = [row["objective/kl"] for row in panel.trainer.history]
    assert list(trace(panel, "KL to the reference").y) == kl
    assert panel.trainer.run.checkpoints[-1] == 3


@pytest.mark.parametrize(
    ("kind", "options", "lines", "sliders"),
    [
        ("grpo", {"batch_size": 4, "num_generations": 2}, 3, {"beta", "epsilon", "temperature"}),
        ("dpo", {"batch_size": 4}, 3, {"beta"}),
        ("sft", {"demonstrations": [("w3", "w4"), ("w5", "w6")]}, 3, set()),
        ("reward", {"batch_size": 4}, 4, set()),
    ],
)
def test_every_trainer_is_driven_by_the_same_panel(study, kind, options, lines, sliders) -> None:
    rank_some(study, 6)
    panel = study.train(kind, **options)
    panel.start(2)
    idle(study)
    assert 'role="alert"' not in panel.status.value and "Update 2" in panel.status.value
    assert set(panel.sliders) == sliders | {"learning_rate"}
    solid = [t for t in panel.figure.data if t.opacity is None]
    assert len(solid) == lines
    assert list(solid[0].x) == [1, 2]
    assert "prompt" in panel.samples.value
    panel.sliders["learning_rate"].value = 1e-3
    panel.start(1)
    idle(study)
    assert panel.trainer.history[-1]["learning_rate"] == pytest.approx(1e-3)


def test_sliders_show_settings_past_their_ends_and_change_none(study) -> None:
    rank_some(study)
    study.trainer(batch_size=4, kl_coef=5.0, temperature=3.0, learning_rate=1e-8).train(1)
    panel = study.ppo()
    idle(study)
    settings = panel.trainer.settings
    assert (settings.kl_coef, settings.temperature, settings.learning_rate) == (5.0, 3.0, 1e-8)
    assert panel.sliders["kl_coef"].value == 5.0 and panel.sliders["temperature"].value == 3.0


def test_a_panel_opened_on_a_run_that_was_rewound_says_where_settings_can_change(study) -> None:
    rank_some(study)
    study.trainer(batch_size=4).train(2)
    panel = study.ppo()
    idle(study)
    panel.trainer.rewind(1)
    panel.sliders["kl_coef"].value = 0.9
    assert "branch(1" in panel.status.value and 'role="alert"' not in panel.status.value


def test_pause_ends_a_run_after_the_update_under_way(study) -> None:
    rank_some(study)
    panel = study.ppo(batch_size=4)
    panel.start(10_000)
    for _ in range(6_000):
        if panel.trainer is not None and len(panel.trainer.history) >= 2:
            break
        time.sleep(0.01)
    start = time.perf_counter()
    panel.pause()
    assert time.perf_counter() - start < 0.3 and "Pausing" in panel.status.value
    idle(study)
    assert 2 <= len(panel.trainer.history) < 100


def test_run_pressed_while_a_checkpoint_is_written_is_not_lost(study, monkeypatch) -> None:
    rank_some(study)
    panel = study.ppo(batch_size=4)
    idle(study)
    save, pressed = panel.trainer.save, []

    def slow_save() -> None:
        save()
        if not pressed:
            pressed.append(panel.driver.to_go)
            panel.start(2)

    monkeypatch.setattr(panel.trainer, "save", slow_save)
    panel.start(1)
    idle(study)
    assert pressed == [0] and panel.trainer.update == 3 and not panel.driver.at_work


def test_two_threads_that_tell_at_once_leave_the_page_with_what_is_so(study) -> None:
    told = []

    def tell() -> None:
        paused = driver.paused
        time.sleep(0.05 if paused else 0)  # what was read first is told last
        told.append(paused)

    driver = RunDriver(study, None, lambda *a, **k: None, lambda metrics: None, tell)
    driver.at_work, driver.to_go, driver.paused = True, 2, True
    slow = threading.Thread(target=driver._tell)
    slow.start()
    time.sleep(0.02)
    driver.start(1)
    slow.join()
    assert told == [True, False]


def test_sliders_change_the_next_update(study) -> None:
    rank_some(study)
    panel = study.ppo(batch_size=4)
    idle(study)
    panel.sliders["learning_rate"].value = 1e-3
    panel.sliders["cliprange"].value = 0.5
    panel.start(1)
    idle(study)
    assert panel.trainer.history[-1]["learning_rate"] == pytest.approx(1e-3)
    assert panel.trainer.settings.cliprange == 0.5


def test_an_error_during_training_is_shown_and_the_panel_lives_on(study) -> None:
    rank_some(study)
    panel = study.ppo(batch_size=4)
    idle(study)
    good, panel.trainer.score = panel.trainer.score, lambda p, s: [float("nan")] * len(p)
    panel.start(3)
    idle(study)
    assert 'role="alert"' in panel.status.value and "not a finite number" in panel.status.value
    panel.trainer.score = good
    panel.start(1)
    idle(study)
    assert len(panel.trainer.history) == 1


@pytest.fixture
def panel(study):
    """A panel on a run of seven updates, with a checkpoint after the fifth."""
    rank_some(study)
    study.trainer(batch_size=4).train(7)
    panel = study.ppo()
    idle(study)
    return panel


def test_run_until_ends_with_the_update_that_reaches_it(study, panel) -> None:
    panel.controls.metric.value, panel.controls.value.value = "update", 9
    panel.controls.until.click()
    idle(study)
    assert panel.trainer.update == 9 and "Update 9" in panel.status.value
    panel.start(5, until="no sign")
    assert 'role="alert"' in panel.status.value and panel.trainer.update == 9


def test_the_goals_on_offer_are_metrics_of_the_run(study, panel) -> None:
    names = set(panel.controls.metric.options)
    assert {"objective/kl", "objective/scores", "update"} <= names <= set(panel.trainer.history[0])
    assert panel.controls.goal == "objective/kl >= 8.0"


def test_a_rewound_run_shows_where_it_stands_and_what_comes_after_it_faint(study, panel) -> None:
    panel.controls.update.value = 6
    panel.controls.rewind.click()
    idle(study)
    assert panel.trainer.update == 6 and "of 7" in panel.status.value
    whole, solid = (t for t in panel.figure.data if t.name == "KL to the reference")
    assert list(whole.x) == [1, 2, 3, 4, 5, 6, 7] and whole.opacity < 0.5
    assert list(solid.x) == [1, 2, 3, 4, 5, 6] and solid.opacity is None
    assert [mark.x0 for mark in panel.figure.layout.shapes] == [6, 6]
    assert "Samples of update 6" in panel.samples.value
    panel.start(1)
    idle(study)
    assert list(solid.x)[-1] == 7 == panel.trainer.update and len(panel.trainer.history) == 7


def test_a_click_on_a_point_rewinds_to_its_update(study, panel) -> None:
    whole = trace(panel, "KL to the reference")
    panel._figure._clicked(whole, SimpleNamespace(point_inds=[5]), None)
    idle(study)
    assert panel.trainer.update == 6 == panel.controls.update.value
    panel._figure._clicked(whole, SimpleNamespace(point_inds=[]), None)
    panel._figure._clicked(whole, SimpleNamespace(point_inds=[5]), None)
    assert not panel.driver.at_work


def test_sliders_of_a_rewound_run_prepare_a_branch_which_is_driven_on(study, panel) -> None:
    before = list(panel.trainer.history)
    panel.rewind(6)
    idle(study)
    panel.sliders["kl_coef"].value = 0.7
    assert "for a branch" in panel.status.value and panel.trainer.settings.kl_coef == 0.15
    panel.controls.branch.click()
    idle(study)
    assert panel.trainer.run.name == "ppo-2" == panel.chooser.value
    assert panel.trainer.settings.kl_coef == 0.7 and "branched off ppo-1" in panel.status.value
    panel.start(2)
    idle(study)
    assert list(trace(panel, "KL to the reference").x) == [1, 2, 3, 4, 5, 6, 7, 8], "joined on"
    assert (
        list(trace(panel, "ppo-1").x) == [1, 2, 3, 4, 5, 6, 7] and trace(panel, "ppo-1").line.dash
    )
    assert study.run_record("ppo-1").history == before
    assert "ppo-1@6" in panel.table._table.value and "kl_coef = 0.7" in panel.table._table.value


def test_the_panel_switches_to_another_run(study, panel) -> None:
    study.branch(5, kl_coef=0.4).train(1)
    panel.rewind(6)
    idle(study)
    assert list(panel.chooser.options) == ["ppo-1", "ppo-2"]
    panel.chooser.value = "ppo-2"
    idle(study)
    assert panel.trainer.run.name == "ppo-2" and panel.sliders["kl_coef"].value == 0.4
    assert list(trace(panel, "KL to the reference").x) == [1, 2, 3, 4, 5, 6]
    panel._figure._on_pick(3)
    idle(study)
    assert "is in ppo-1" in panel.status.value and panel.trainer.update == 6


def test_what_would_disturb_an_update_is_refused_in_words(study, panel) -> None:
    held = threading.Event()
    with study.compute:  # so that the update waits
        study.runner.submit(held.wait)
        panel.start(3)
        for ask in (lambda: panel.rewind(5), panel.branch):
            ask()
            assert "An update is under way" in panel.status.value
            assert 'role="alert"' in panel.status.value
        panel._switch("ppo-1")
        assert panel.trainer is not None and panel.driver.at_work
        held.set()
    idle(study)
    assert panel.trainer.update == 10 and study.all_runs == ["ppo-1"]


def test_a_rewind_can_be_paused_on_its_way(study, panel, monkeypatch) -> None:
    take, stood = panel.trainer.take, []

    def slowly():
        if not stood:
            panel.pause()
        stood.append(panel.trainer.update)
        return take()

    monkeypatch.setattr(panel.trainer, "take", slowly)
    panel.rewind(4)  # from the start: there is no checkpoint before
    idle(study)
    assert stood == [1] and panel.trainer.update == 1 and not panel.driver.at_work
    assert "Update 1" in panel.status.value
    panel.rewind(4)
    idle(study)
    assert stood == [1, 2, 3, 4] and panel.trainer.update == 4, "it goes on from where it stood"


def test_a_rewind_paused_before_it_began_computes_nothing(study, panel) -> None:
    with study.compute:
        panel.rewind(4)
        panel.pause()
    idle(study)
    assert panel.trainer.update == 0 and not panel.driver.at_work


def test_a_run_in_use_elsewhere_is_shown_and_not_touched(study, panel) -> None:
    folder = panel.trainer.run.folder
    panel.trainer.run._lock.release()
    with FileLock(folder / ".lock", thread_local=False):
        panel.start(1)
        idle(study)
        assert "another notebook" in panel.status.value and 'role="alert"' in panel.status.value
    assert len(panel.trainer.history) == 7 and not panel.driver.at_work


def test_after_a_restart_all_runs_are_drawn_before_any_is_opened(study, panel, model) -> None:
    study.branch(5, kl_coef=0.4).train(2)
    again = small_study(study.folder.parent, model)
    again.compute.acquire()  # so that no run can be opened
    try:
        second = again.ppo()
        assert second.trainer is None
        assert list(trace(second, "KL to the reference").x) == [1, 2, 3, 4, 5, 6, 7]
        assert list(trace(second, "ppo-1").x) == [1, 2, 3, 4, 5, 6, 7]
        assert "ppo-1@5" in second.table._table.value
    finally:
        again.compute.release()
    idle(again)
    assert second.trainer.update == 7 and "Update 7" in second.status.value


def test_which_plots_and_runs_are_drawn_is_a_choice_and_the_rest_costs_nothing(
    study, panel
) -> None:
    study.branch(5).train(1)
    panel.refresh()
    axes = {t.yaxis for t in panel.figure.data}
    assert axes == {"y", "y2"} and "ppo-2" in [t.name for t in panel.figure.data]
    words = {box.description: box for box in panel.on_show}
    words["entropy"].value = True
    words["score"].value = False
    names = {t.name for t in panel.figure.data}
    assert "entropy of a completion" in names and "score of the reward model" not in names
    panel.table._boxes.children[1].value = False
    assert "ppo-2" not in [t.name for t in panel.figure.data]
    for box in panel.on_show:
        box.value = False
    assert panel.figure.data == ()


def test_the_frontier_has_best_of_n_beside_it(study, panel) -> None:
    next(box for box in panel.on_show if box.description == "frontier").value = True
    stored = trace(panel, "best of n, stored answers")
    assert len(stored.x) == 3 and list(stored.y) == sorted(stored.y)
    panel.yardstick.button.click()
    idle(study)
    assert 'role="alert"' not in panel.status.value
    assert len(trace(panel, "best of n, held-out prompts").x) == 7, "n = 1 to 64"
    assert (study.folder / "best_of_n.json").exists()


def test_text_of_the_model_is_shown_as_text_in_labels_and_tables(study, panel) -> None:
    panel.trainer.run.samples[-1] |= {"prompt": HOSTILE, "completion": HOSTILE}
    panel.trainer.run.samples[-4] |= {"prompt": HOSTILE, "completion": HOSTILE * 30}
    panel.draw()
    label = trace(panel, "score of the reward model").text[-1]
    for shown in (label.replace("<br>", ""), panel.samples.value):
        assert "<script" not in shown and "<img" not in shown and "&lt;script" in shown
    assert "<" not in label.replace("<br>", "") and len(label) < 600
    label.encode("utf-8")


def test_a_label_holds_prompt_answer_and_score() -> None:
    assert hover_text("Why?", "Because.", 1.234) == "<br>Why?<br>→ Because.<br>score +1.23"
    assert hover_text("a <b>bold</b> claim", "") == "<br>a &lt;b&gt;bold&lt;/b&gt; claim<br>→"


def test_a_thousand_updates_are_drawn_in_a_moment_and_without_points() -> None:
    plots = (Plot("a", {"a": "first"}, "a"), Plot("b", {"b": "second"}, "b"))
    rows = [{"update": i, "a": i % 7, "b": i % 5} for i in range(1, 1001)]
    samples = [
        {"update": i, "prompt": f"Why {i}?" * 9, "completion": "so " * 99} for i in range(1000)
    ]
    figure = RunFigure(plots, print)
    curves = Curves(rows, samples, 1000, {f"run-{i}": rows for i in range(4)})
    figure.draw(curves, [0, 1])
    start = time.perf_counter()
    figure.draw(curves, [0, 1])
    assert time.perf_counter() - start < 0.3
    assert {t.mode for t in figure.widget.data} == {"lines"}
    assert len(figure.widget.data[0].x) == 1000


def test_a_run_that_is_left_gives_its_memory_back_to_the_next(study, panel, monkeypatch) -> None:
    study.branch(5).train(1)
    panel._fold.selected_index = 0  # the token lens shows the run
    left, kept = weakref.ref(panel.trainer), []

    def opening(*given):
        gc.collect()
        kept.append(left())
        return open_trainer(*given)

    monkeypatch.setattr("lab.study_runs.open_trainer", opening)
    study._newest = None
    gc.collect()
    panel.refresh()
    panel.chooser.value = "ppo-2"
    idle(study)
    assert panel.trainer.run.name == "ppo-2" and kept == [None]


def test_a_cell_that_runs_again_shows_the_panel_that_is_at_work(study, panel) -> None:
    panel.start(3)
    assert study.ppo() is panel
    idle(study)
    panel.trainer.step()
    assert study.ppo() is panel and list(trace(panel, "KL to the reference").x)[-1] == 11
    assert study.ppo(batch_size=4) is not panel
    idle(study)
    newest = study.ppo()
    assert newest is not panel and newest.trainer.run.name == "ppo-2"
    newest.close()
    assert study.ppo() is not newest
    idle(study)


def test_step_on_the_way_to_a_goal_keeps_the_goal_and_adds_nothing(study, panel) -> None:
    with study.compute:  # so that no update ends meanwhile
        panel.start(100, until="update >= 9")
        panel.start(1)
        assert panel.driver.to_go == 100 and "until update &gt;= 9" in panel.status.value
    idle(study)
    assert panel.trainer.update == 9
    with study.compute:
        panel.start(100, until="update >= 50")
        panel.pause()
        panel.start(1)  # after Pause it is a run of so many
    idle(study)
    assert panel.trainer.update == 11


def test_an_update_begins_whatever_becomes_of_the_words(study, panel) -> None:
    def fails(_):
        raise RuntimeError("the page is gone")

    panel.status.observe(fails, "value")
    with pytest.raises(RuntimeError):
        panel.start(1)
    panel.status.unobserve(fails, "value")
    idle(study)
    assert panel.trainer.update == 8 and not panel.driver.at_work


def test_a_run_that_cannot_be_opened_leaves_the_panel_on_the_one_it_had(study, panel) -> None:
    branch = study.branch(5, kl_coef=0.4)
    branch.train(1)
    panel.refresh()
    path = branch.run.folder / f"checkpoint-{branch.run.checkpoints[-1]:06d}.safetensors"
    del branch
    study._newest = None
    gc.collect()
    path.write_bytes(b"12345678")
    panel.chooser.value = "ppo-2"
    idle(study)
    assert "header too large" in panel.status.value and 'role="alert"' in panel.status.value
    assert panel.chooser.value == "ppo-1" == panel.trainer.run.name
    panel.start(1)
    idle(study)
    assert len(study.run_record("ppo-1").history) == 8


def test_a_choice_made_while_the_list_is_filled_is_taken(study, panel) -> None:
    study.branch(5).train(1)
    filling, chosen = threading.Event(), threading.Event()
    panel._drawing.acquire()  # another thread fills the list
    panel._showing = True
    thread = threading.Thread(target=lambda: (filling.set(), panel._switch("ppo-2"), chosen.set()))
    thread.start()
    assert filling.wait(5) and not chosen.wait(0.1), "it waits"
    panel._showing = False
    panel._drawing.release()
    thread.join(5)
    idle(study)
    assert panel.trainer.run.name == "ppo-2"


def test_a_run_that_best_of_n_does_not_fit_says_so_beside_the_button(study) -> None:
    rank_some(study)
    panel = study.ppo(batch_size=4, score_clip=1.0)
    idle(study)
    next(box for box in panel.on_show if box.description == "frontier").value = True
    assert "can&#x27;t be compared with best-of-n" in panel.yardstick.words.value
    assert not [t for t in panel.figure.data if "best of n" in t.name]
    panel.yardstick.button.click()
    assert "score_clip" in panel.status.value and 'role="alert"' in panel.status.value


def test_a_page_that_is_opened_again_gets_the_curves_of_now(study) -> None:
    rank_some(study)
    panel = study.ppo(batch_size=4)
    panel.start(2)
    idle(study)
    traces = {trace["name"]: trace for trace in panel.figure.get_state()["_widget_data"]}
    assert traces["KL to the reference"]["x"]["shape"] == (2,)  # as it goes to the page
