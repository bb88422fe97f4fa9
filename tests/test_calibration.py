"""Probabilities against what was said: the temperature that is found, the bins, the error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lab.calibration import BOUNDS, FEWEST, Predictions, strict_margins
from lab.preferences import Ranking


def predictions(count: int, times: float, k: int = 2, seed: int = 0) -> Predictions:
    """Rankings whose true preferences are sigmoid(utility difference), predicted as the
    utilities `times` what they are."""
    rng = np.random.default_rng(seed)
    found = Predictions()
    for n in range(count):
        ids, utility = tuple(range(k)), 1.5 * rng.normal(size=k)
        liked = utility + rng.gumbel(size=k)  # differences of Gumbel noise are logistic
        tiers = tuple((int(i),) for i in np.argsort(-liked))
        found.add(Ranking(f"p{n}", tiers, ids, predicted=tuple(times * utility)))
    return found


def test_margins_are_of_strict_pairs_that_were_predicted():
    seen = Ranking("p", ((1,), (2, 3)), (3, 1, 2), predicted=(5.0, 6.0, 7.0))
    assert strict_margins(seen) == [-1.0, 1.0]  # 1 above 2, and 1 above 3; the tie does not count
    assert strict_margins(replace(seen, predicted=None)) == []
    assert strict_margins(replace(seen, tiers=None)) == []
    assert Predictions([seen, replace(seen, prompt="q")]).accuracy().value == 0.5
    assert Predictions([replace(seen, predicted=(6.0, 6.0, 7.0))]).accuracy().value == 0.25
    assert Predictions([replace(seen, predicted=None)]).accuracy() is None


@pytest.mark.parametrize(("times", "low", "high"), [(3.0, 2.6, 3.4), (1.0, 0.87, 1.13)])
@pytest.mark.parametrize("k", [2, 4])
def test_the_temperature_undoes_overconfidence(times, low, high, k):
    found = predictions(1500, times, k)
    temperature = found.temperature()
    assert low < temperature < high
    for other in (1.0, 0.9 * temperature, 1.1 * temperature):
        assert found.log_loss(temperature) <= found.log_loss(other)


def test_the_calibrated_error_is_small_and_the_overconfident_one_is_not():
    found = predictions(3000, 3.0)
    assert found.calibration_error() > 0.1
    assert found.calibration_error(found.temperature()) < 0.03


def test_bins_hold_what_was_predicted_and_what_was_said():
    margins = [0.0, 0.1, -0.1, 2.0, -2.0]
    found = Predictions(
        Ranking(f"p{i}", ((1,), (2,)), (1, 2), predicted=(m, 0.0)) for i, m in enumerate(margins)
    )
    least, most = found.reliability()
    assert least.predicted == pytest.approx((0.5 + 2 / (1 + np.exp(-0.1))) / 3)
    assert least.observed.value == pytest.approx((0.5 + 1 + 0) / 3)
    assert most.predicted == pytest.approx(1 / (1 + np.exp(-2)))
    assert most.observed.value == 0.5
    assert most.observed.low < 0.5 < most.observed.high
    gaps = [abs(b.predicted - b.observed.value) for b in (least, most)]
    assert found.calibration_error() == pytest.approx((3 * gaps[0] + 2 * gaps[1]) / 5)
    assert len(found.reliability(bins=1)) == 1


def test_intervals_of_calibrated_bins_hold_the_prediction():
    inside = [
        b.observed.low <= b.predicted <= b.observed.high
        for seed in range(10)
        for b in predictions(400, 1.0, seed=seed).reliability()
    ]
    assert np.mean(inside) > 0.85


def test_too_little_gives_no_temperature():
    assert predictions(FEWEST - 1, 1.0).temperature() is None
    assert predictions(FEWEST, 1.0).temperature() is not None
    assert predictions(FEWEST, 0.0).temperature() is None  # all predicted equal
    nothing = Predictions()
    assert nothing.temperature() is None and nothing.log_loss() is None
    assert nothing.reliability() == [] and nothing.calibration_error() is None


def test_a_copy_is_unmoved_by_what_is_added_later():
    found = predictions(5, 1.0)
    copy, loss = found.copy(), found.log_loss()
    found.add(Ranking("new", ((1,), (2,)), (1, 2), predicted=(0.0, 9.0)))
    assert copy.log_loss() == loss != found.log_loss()
    assert copy.accuracy().count == 5 and found.accuracy().count == 6


def test_always_right_and_never_right_stay_within_bounds():
    right = [Ranking("p", ((1,), (2,)), (1, 2), predicted=(1000.0, 0.0))] * FEWEST
    assert Predictions(right).temperature() == BOUNDS[0]
    wrong = [replace(r, predicted=(0.0, 1.0)) for r in right]
    assert Predictions(wrong).temperature() == BOUNDS[1]


def test_a_ranking_of_many_does_not_outvote_two_of_two():
    nine = Ranking("a", tuple((i,) for i in range(9)), tuple(range(9)), predicted=(1.0,) * 9)
    nine = replace(nine, predicted=tuple(np.arange(9.0)))  # all 36 pairs wrong
    two = Ranking("b", ((1,), (2,)), (1, 2), predicted=(10 / 3, 0.0))  # right, as surely
    assert Predictions([nine]).temperature() == BOUNDS[1]
    assert Predictions([nine, two, two]).temperature() < BOUNDS[1]
    assert sum(Predictions([nine, two]).weights) == pytest.approx(2)
    losses = [Predictions([r]).log_loss() for r in (nine, two)]
    assert Predictions([nine, two]).log_loss() == pytest.approx(np.mean(losses))
