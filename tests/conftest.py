"""What the tests share. Models are tiny and random; the seed is the same for each test."""

from __future__ import annotations

import os
import random

# Before numpy is imported: on tiny problems the threads of OpenBLAS wait for each other, and an
# L-BFGS fit beside anything else that computes takes 60 times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seeded():
    """No test depends on which ran before it."""
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # on tiny models a second thread costs 80 times what it gains


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> str:
    """The folder of a tiny random model."""
    from helpers import save_tiny_model

    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def tiny_policy():
    """Builds a reference policy around a tiny random model; see helpers.build_policy."""
    from helpers import build_policy

    return build_policy


@pytest.fixture
def study(tmp_path, model, monkeypatch):
    """A small study of a tiny random model; see studies.small_study."""
    from studies import small_study

    monkeypatch.delenv("LAB_RATER", raising=False)
    return small_study(tmp_path, model)


@pytest.fixture
def store(tmp_path):
    """An empty preference store."""
    from lab.store import PreferenceStore

    store = PreferenceStore(tmp_path / "preferences.sqlite")
    yield store
    store.close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With LAB_FORBID_SKIPS, a test that was skipped has failed: it should have run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("LAB_FORBID_SKIPS") and reporter and reporter.stats.get("skipped"):
        reporter.write_line("Skipped tests are failures under LAB_FORBID_SKIPS.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
