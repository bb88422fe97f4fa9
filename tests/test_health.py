"""What is said about a run's health, and that nothing is said where all is well."""

from __future__ import annotations

import numpy as np
import pytest

from lab.health import WINDOW, health


def rows(**metrics: list[float]) -> list[dict]:
    """A history; `_` stands for `/`, and all metrics have as many values."""
    names = {name: name.replace("__", "/") for name in metrics}
    count = len(next(iter(metrics.values())))
    return [
        {"update": i + 1, **{names[n]: values[i] for n, values in metrics.items()}}
        for i in range(count)
    ]


def ramp(start: float, end: float, count: int = 12) -> list[float]:
    return [start + (end - start) * i / (count - 1) for i in range(count)]


WELL = {
    "objective__kl": ramp(0.5, 4),
    "objective__scores": ramp(0, 1),
    "objective__entropy": ramp(60, 50),
    "policy__approxkl_avg": [0.01] * 12,
    "policy__clipfrac_avg": [0.1] * 12,
    "val__var_explained": [0.6] * 12,
    "completions__distinct_2": [0.8] * 12,
    "frac_reward_zero_std": [0.1] * 12,
    "accuracy": ramp(0.6, 0.9),
    "eval_accuracy": ramp(0.6, 0.75),
    "loss": ramp(2, 1),
    "eval_loss": ramp(2, 1.4),
}
ILL = {
    "KL has doubled in five updates, on average from 2.0 to 5.0": {
        "objective__kl": [2.0] * 7 + [5.0] * 5
    },
    "The score goes up": {"objective__kl": ramp(9, 13), "objective__scores": ramp(0, 2)},
    "approxkl is large (0.20)": {"policy__approxkl_avg": [0.2] * 12},
    "The clip binds on 45% of tokens": {"policy__clipfrac_avg": [0.45] * 12},
    "Completions are becoming the same (distinct-2 0.31, 0.80 at first)": {
        "completions__distinct_2": [0.8] * 7 + [0.31] * 5
    },
    "Entropy has halved, from 60 to 28": {"objective__entropy": [60.0] * 6 + [28.0] * 6},
    "The value head explains 3% of the variance": {"val__var_explained": [0.03] * 12},
    "The value head explains none of the variance": {"val__var_explained": [-2.0] * 12},
    "In 60% of the groups all scores are equal": {"frac_reward_zero_std": [0.6] * 12},
    "The chosen completions have become less likely, by 8 nats": {
        "rewards__chosen": [-0.8] * 12,
        "beta": [0.1] * 12,
    },
    "Held-out accuracy is 0.62, down from 0.80": {"eval_accuracy": [0.7, 0.8] + [0.62] * 10},
    "Held-out loss is 1.90, up from 1.50": {"eval_loss": [1.8, 1.5] + [1.9] * 10},
}


def test_nothing_is_said_where_all_is_well() -> None:
    assert health(rows(**WELL), kl_target=10.0) == []
    assert health([]) == []
    assert health([{"update": 1, "seconds": 1.0}]) == []


@pytest.mark.parametrize("words", ILL)
def test_what_goes_wrong_is_said_with_what_to_do(words) -> None:
    found = health(rows(**WELL | ILL[words]), kl_target=10.0)
    assert [f.words for f in found if f.words.startswith(words)], [f.words for f in found]
    assert len(found) == 1 and found[0].advice.endswith(".")


def test_kl_that_doubles_from_nearly_nothing_is_no_news() -> None:
    assert health(rows(objective__kl=[0.01 * 2**i for i in range(8)])) == []


def test_kl_that_varies_and_does_not_grow_is_seldom_called_growing() -> None:
    draws = np.random.default_rng(0).normal(3.0, 1.0, (100, 100)).tolist()
    ends = range(2 * WINDOW, 101)
    said = [[bool(health(rows(objective__kl=values[:n]))) for n in ends] for values in draws]
    assert np.mean(said) < 0.003, "of all judgements"
    assert np.mean([any(run) for run in said]) < 0.12, "of runs of a hundred updates"


def test_kl_that_grows_is_noticed_through_its_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 0.5, (50, 12))
    grown = (0.8 * 1.25 ** np.arange(12) + noise).tolist()
    assert np.mean([bool(health(rows(objective__kl=values))) for values in grown]) > 0.9


def test_alike_is_judged_by_how_the_run_began() -> None:
    assert health(rows(completions__distinct_2=[0.3] * 12)) == [], "large batches, or groups"
    assert health(rows(completions__distinct_2=[0.96] * 7 + [0.6] * 5)), "small ones"


def test_the_update_to_rewind_to_is_named_where_some_were_not_measured() -> None:
    before = [{"update": n} for n in (1, 2, 3)]
    measured = rows(**WELL | {"eval_accuracy": [0.7, 0.8] + [0.62] * 10})
    measured = [row | {"update": row["update"] + 3} for row in measured]
    assert "rewind to update 5" in health(before + measured)[0].advice
    measured = rows(**WELL | {"eval_loss": [1.8, 1.5] + [1.9] * 10})
    measured = [row | {"update": row["update"] + 3} for row in measured]
    assert "rewind to update 5" in health(before + measured)[0].advice


def test_a_score_that_rises_at_a_price_without_a_target_is_no_news() -> None:
    history = rows(objective__kl=ramp(9, 13), objective__scores=ramp(0, 2))
    assert health(history) == [] and len(health(history, kl_target=10.0)) == 1


def test_a_single_bad_update_or_too_few_are_no_news() -> None:
    one_bad = [0.1] * 11 + [0.9]
    assert health(rows(policy__clipfrac_avg=one_bad)) == []
    assert health(rows(policy__clipfrac_avg=[0.9] * (WINDOW - 1))) == []
    assert health(rows(val__var_explained=[0.0] * 9)) == [], "the head is given time"


def test_completions_of_one_word_are_not_called_the_same() -> None:
    assert health(rows(completions__distinct_2=[0.0] * 8)) == []


def test_heldout_that_gets_worse_with_training_is_not_learning_by_heart() -> None:
    both = rows(loss=ramp(1, 2), eval_loss=ramp(1, 2))
    assert health(both) == []
    assert (
        "rewind to update 2"
        in health(rows(**WELL | {"eval_loss": [1.8, 1.5] + [1.9] * 10}))[0].advice
    )
