"""One thread, the most urgent job first, and no exception that ends it."""

from __future__ import annotations

import threading
import time

import pytest

from lab.runner import AHEAD, NOW, TRAINING, Runner

SOON = 10  # seconds: a limit that only a hang reaches


@pytest.fixture
def runner():
    return Runner()


@pytest.fixture
def gate(runner):
    """Holds the runner busy until it is set, so that jobs queue up behind it."""
    gate, running = threading.Event(), threading.Event()
    runner.submit(lambda: (running.set(), gate.wait(SOON)))
    assert running.wait(SOON)
    yield gate
    gate.set()


def test_the_most_urgent_runs_first_and_equals_in_order(runner, gate):
    done = []
    jobs = [("a", AHEAD), ("b", TRAINING), ("c", NOW), ("d", AHEAD), ("e", TRAINING), ("f", NOW)]
    for name, priority in jobs:
        runner.submit(lambda name=name: done.append(name), priority)
    gate.set()
    assert runner.wait(SOON)
    assert done == list("cfbead")


def test_what_is_urgent_waits_for_one_short_job_at_most(runner, gate):
    done = []

    def update():
        done.append("update")
        if done.count("update") < 5:
            runner.submit(update, TRAINING)
        if done.count("update") == 2:
            runner.submit(lambda: done.append("click"), NOW)

    runner.submit(update, TRAINING)
    gate.set()
    assert runner.wait(SOON)
    assert done == ["update", "update", "click", "update", "update", "update"]


def test_submit_returns_at_once_and_jobs_share_one_thread(runner, gate):
    threads = set()
    start = time.perf_counter()
    for _ in range(20):
        runner.submit(lambda: threads.add(threading.get_ident()))
    assert time.perf_counter() - start < 0.5
    assert threads == set()
    gate.set()
    assert runner.wait(SOON)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt()])
def test_an_error_reaches_its_handler_and_the_thread_lives_on(runner, error):
    caught, done = [], []

    def fail():
        raise error

    runner.submit(fail, on_error=caught.append)
    runner.submit(lambda: done.append(1), AHEAD)
    assert runner.wait(SOON)
    assert caught == [error]
    assert done == [1]
    assert runner.error is None


def test_an_error_without_a_handler_is_kept(runner):
    runner.submit(lambda: 1 / 0)
    assert runner.wait(SOON)
    assert isinstance(runner.error, ZeroDivisionError)
    done = []
    runner.submit(lambda: done.append(1))
    assert runner.wait(SOON)
    assert done == [1]


def test_a_handler_that_fails_itself_does_not_end_the_thread(runner, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    done, failure = [], RuntimeError("the widget is gone")

    def fail(error):
        raise failure

    runner.submit(lambda: 1 / 0, on_error=fail)
    runner.submit(lambda: done.append(1), AHEAD)
    assert runner.wait(2)
    assert done == [1]
    assert runner.error is failure


def test_waiting_ends_when_its_time_is_over(runner, gate):
    assert not runner.wait(0.05)
    gate.set()
    assert runner.wait(SOON)


def test_a_job_that_waits_for_its_own_queue_goes_on(runner):
    said = []
    runner.submit(lambda: said.append(runner.wait()))
    assert runner.wait(SOON)
    assert said == [False]


def test_waiting_for_nothing_takes_no_time(runner):
    assert runner.wait(0)


def test_many_threads_may_submit(runner):
    done = []
    threads = [
        threading.Thread(target=lambda: [runner.submit(lambda: done.append(1)) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runner.wait(SOON)
    assert len(done) == 200
