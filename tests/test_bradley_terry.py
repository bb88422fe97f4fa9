"""The fits are the minimum, however pairs arrive; the posterior is the inverse of the Hessian."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from lab.bradley_terry import FOLDS, L2_GRID, BradleyTerry, sigmoid, softplus


def pairs(count: int, width: int, seed: int = 0):
    """Feature differences of noisy preferences with some ties, and what goes with them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, width)) * np.arange(1, width + 1) ** -0.5
    x *= np.sign(x @ np.random.default_rng(7).normal(size=width) + rng.normal(size=count))[:, None]
    y = rng.choice([0.5, 1.0, 1.0], count)
    return x, y, rng.choice([1 / 6, 1.0], count), rng.integers(FOLDS, size=count)


def fits_to(x, y, weight, fold, l2: float = 1.0) -> BradleyTerry:
    fits = BradleyTerry(x.shape[1])
    fits.add(x, y, weight, fold)
    fits.solve(l2)
    return fits


def lbfgs(x, y, weight, l2: float) -> np.ndarray:
    """The minimum, found by other means and to the last digits."""

    def loss(w):
        m = x @ w
        value = weight @ (np.logaddexp(0, m) - y * m) + 0.5 * l2 * w @ w
        return value, x.T @ (weight * (1 / (1 + np.exp(-m)) - y)) + l2 * w

    options = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9}
    return minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options=options).x


def far(found, expected) -> float:
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("l2", [0.01, 1.0, 30.0])
@pytest.mark.parametrize(("count", "width"), [(1, 40), (20, 40), (60, 40), (300, 40)])
def test_the_fit_is_the_minimum_that_l_bfgs_finds(count, width, l2):
    x, y, weight, fold = pairs(count, width)
    y[0] = 1.0
    fits = fits_to(x, y, weight, fold, l2)
    assert far(x @ fits.weight, x @ lbfgs(x, y, weight, l2)) < 1e-3


@pytest.mark.parametrize(("count", "width"), [(30, 40), (200, 40)])
def test_cross_validated_margins_are_those_of_fits_without_the_fold(count, width):
    x, y, weight, fold = pairs(count, width)
    expected = np.zeros(count)
    for k in range(FOLDS):
        out = fold == k
        expected[out] = x[out] @ lbfgs(x[~out], y[~out], weight[~out], 0.1)
    assert far(fits_to(x, y, weight, fold, 0.1).cv_margins, expected) < 1e-3


@pytest.mark.parametrize("size", [1, 3, 25])
def test_pairs_that_arrive_in_parts_end_at_the_same_minimum(size):
    """From fewer pairs than features to more, with a repeated pair and a penalty that changes."""
    x, y, weight, fold = pairs(100, 40)
    x[30:34], x[50] = x[20:24], 0
    fits = BradleyTerry(40)
    for first in range(0, 100, size):
        part = slice(first, first + size)
        fits.add(x[part], y[part], weight[part], fold[part])
        fits.solve(0.3 if first < 60 else 0.1)
    assert fits.count == 100
    assert far(x @ fits.weight, x @ lbfgs(x, y, weight, 0.1)) < 1e-3


def test_rows_that_span_the_others_are_enough_for_the_basis():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 4, 40))
    i, j = np.triu_indices(4, 1)
    x = (features[:, i] - features[:, j]).reshape(-1, 40)
    rest = np.ones(len(x)), np.full(len(x), 1 / 6), np.repeat([0, 1, 2], 6)
    fits = BradleyTerry(40)
    fits.add(x, *rest, spanning=np.tile(i == 0, 3))
    fits.solve(0.1)
    assert far(x @ fits.weight, x @ lbfgs(x, *rest[:2], 0.1)) < 1e-3


def test_a_fit_without_news_stays_as_it_was():
    fits = fits_to(*pairs(30, 10))
    before = fits.weight
    fits.renew_curvature()
    fits.solve(1.0)
    assert np.array_equal(fits.weight, before)


def test_a_rater_who_changes_their_mind_is_followed():
    """Where the search begins the loss is almost straight: a whole Newton step goes far too far."""
    x, fold = np.array([[5.0], [-5.0], [-5.0]]), np.arange(3)
    fits = BradleyTerry(1)
    fits.add(x[:1], np.ones(1), np.full(1, 9.0), fold[:1])
    fits.solve(0.001)
    fits.add(x[1:], np.ones(2), np.full(2, 9.0), fold[1:])
    fits.solve(0.001)
    assert fits.weight == pytest.approx(lbfgs(x, np.ones(3), np.full(3, 9.0), 0.001), rel=1e-3)


def test_a_tie_pulls_two_scores_together():
    x, y = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1.0, 0.5])
    w = fits_to(x, y, np.array([1.0, 1e3]), np.array([0, 1]), 0.01).weight
    assert w[0] > 0.1
    assert abs(w[0] + w[1]) < 0.01


def test_fits_see_nothing_of_their_fold():
    x = np.zeros((30, 10))
    x[np.arange(30), np.arange(30) // 3] = 1.0  # a feature that only its own prompt has
    fits = fits_to(x, np.ones(30), np.ones(30), np.arange(30) // 3 % FOLDS, 0.1)
    assert not fits.cv_margins.any()
    assert fits.weight.min() > 0.5


@pytest.mark.parametrize("count", [1, 3, 50])
@pytest.mark.parametrize("fold", [0, None])
def test_pairs_that_teach_nothing_leave_finite_weights(count, fold):
    """Of two completions with the same features, and ties alone; in one fold, and in several."""
    _, _, weight, folds = pairs(count, 20)
    folds = np.zeros(count) if fold == 0 else folds
    same = fits_to(np.zeros((count, 20)), np.ones(count), weight, folds)
    assert not same.weight.any() and not same.cv_margins.any()
    assert same.posterior().variance(np.ones((1, 20))) == pytest.approx([20])
    ties = fits_to(pairs(count, 20)[0], np.full(count, 0.5), weight, folds)
    assert np.abs(ties.weight).max() < 1e-6
    assert same.choose_l2() in (1.0, *L2_GRID)


def test_the_chosen_l2_strength_is_the_best_of_the_grid():
    for noise in (False, True):
        x, y, weight, fold = pairs(120, 20)
        if noise:
            x *= np.random.default_rng(1).choice([-1, 1], 120)[:, None]
        loss = {l2: fits_to(x, y, weight, fold, l2).cv_loss() for l2 in L2_GRID}
        fits = BradleyTerry(20)
        fits.add(x, y, weight, fold)
        assert fits.choose_l2() == min(loss, key=loss.get)


def test_one_fold_alone_cannot_choose():
    x, y, weight, _ = pairs(10, 5)
    assert fits_to(x, y, weight, np.full(10, 3)).choose_l2() == 1.0


def hessian(x, weight, w, l2: float) -> np.ndarray:
    p = sigmoid(x @ w)
    return (x * (weight * p * (1 - p))[:, None]).T @ x + l2 * np.eye(x.shape[1])


@pytest.mark.parametrize(("count", "width"), [(10, 30), (100, 30)])
def test_the_variance_of_a_margin_is_that_of_the_dense_inverse(count, width):
    x, y, weight, fold = pairs(count, width)
    fits = fits_to(x, y, weight, fold, 0.3)
    fits.renew_curvature()
    asked = np.random.default_rng(5).normal(size=(7, width))
    covariance = np.linalg.inv(hessian(x, weight, fits.weight, 0.3))
    expected = np.einsum("ih,hk,ik->i", asked, covariance, asked)
    assert fits.posterior().variance(asked) == pytest.approx(expected, rel=1e-4)


def test_variance_is_largest_where_no_pair_was_seen_and_shrinks_with_pairs():
    rng = np.random.default_rng(0)
    x = np.zeros((40, 10))
    x[:, :4] = rng.normal(size=(40, 4))
    rest = np.ones(40), np.ones(40), np.arange(40) % FOLDS
    asked = np.concatenate([np.eye(10), rng.normal(size=(5, 10))])
    asked /= np.linalg.norm(asked, axis=1)[:, None]
    fits, before = BradleyTerry(10), np.full(len(asked), np.inf)
    for first in range(0, 40, 10):
        part = slice(first, first + 10)
        fits.add(x[part], *(r[part] for r in rest))
        fits.solve(0.5)
        fits.renew_curvature()
        variance = fits.posterior().variance(asked)
        assert (variance[:4] < before[:4]).all()
        assert variance[4:10] == pytest.approx([1 / 0.5] * 6)
        assert variance.max() == pytest.approx(1 / 0.5)
        before = variance


def test_large_numbers_do_not_overflow():
    x = np.array([-1e4, 0.0, 1e4])
    assert sigmoid(x).tolist() == [0.0, 0.5, 1.0]
    assert softplus(x).tolist() == [0.0, np.log(2), 1e4]
    z = np.linspace(-5, 5, 11)
    assert np.allclose(sigmoid(z), 1 / (1 + np.exp(-z))) and np.allclose(
        softplus(z), np.log(1 + np.exp(z))
    )
