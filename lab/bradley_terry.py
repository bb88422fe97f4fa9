"""Bradley-Terry fits that keep up with a rater: to all pairs, and to all pairs but each fold's.

Bradley & Terry 1952: P(a preferred to b) = sigmoid(w·x), with x the features of a less those of b.
The penalised loss Σ weight·(log(1 + exp(w·x)) - y·w·x) + l2/2·|w|² is strictly convex, so its
minimum does not depend on how it is found, nor on where the search began.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .features import Rows

L2_GRID = tuple(10.0 ** np.arange(-2, 1.75, 0.5))  # on features of unit mean square difference
FOLDS = 5
TOLERANCE = 1e-4  # a search ends when a step moves the margins by less than this share of them
ROUGH = 3e-3  # the same, while L2 strengths are compared
STEPS = 100
RENEW = 8  # steps after which the curvature is worth taking anew


class BradleyTerry:
    """Fits to pairs that keep arriving, each begun where the last one ended.

    Column 0 of the weights is the fit to all pairs, column 1 + k the one that saw nothing of fold
    k; all columns take a step in the same two passes over the pairs. Steps are Newton's, shortened
    where the loss would rise, with a curvature that is added to as pairs arrive and seldom taken
    anew: that changes how many steps it takes, not where they end.

    The minimum lies in the span of the pairs' features. While that has fewer dimensions than
    there are features, everything is computed in an orthonormal basis of it, which is exact.

    Args:
        width: H, how many features there are.
    """

    def __init__(self, width: int) -> None:
        self.l2 = 1.0
        self._width, self._dimensions = width, 0
        self._basis: np.ndarray | None = np.zeros((width, width))  # None: the features themselves
        self._rows = Rows(width)  # float32 rounds margins by 1e-6, in half the time and memory
        self._y, self._pair_weight = np.zeros(0), np.zeros(0)
        self._fold = np.zeros(0, dtype=int)
        self._w = np.zeros((width, 1 + FOLDS))
        self._margins = np.zeros((0, 1 + FOLDS))
        self._curvature = np.zeros((FOLDS, width, width), np.float32)  # of each fold's loss
        self._factors: list[tuple] = []
        self._reached: tuple | None = None

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return self._rows.count

    def add(self, x, y, weight, fold, spanning=slice(None)) -> None:
        """Add pairs.

        Args:
            x: feature differences [n, H], preferred less other.
            y: targets [n]: 1 for a preference, ½ for a tie.
            weight: what each pair counts [n].
            fold: whose fit sees nothing of it [n], 0 to FOLDS - 1.
            spanning: an index of rows of x that span all of them.
        """
        new = slice(self.count, None)
        with one_thread():
            self._extend_basis(x[spanning])
            self._rows.append(x if self._basis is None else x @ self._basis[:, : self._dimensions])
            self._y, self._pair_weight = np.append(self._y, y), np.append(self._pair_weight, weight)
            self._fold = np.append(self._fold, fold).astype(int)
            self._add_curvature(new, self._x[new] @ self._w[: self._dimensions, 0])

    @property
    def _x(self) -> np.ndarray:
        return self._rows.view[:, : self._dimensions]

    def _extend_basis(self, x: np.ndarray) -> None:
        from scipy.linalg import qr

        d = self._dimensions
        if d == self._width:
            return
        known = self._basis[:, :d]
        if d + len(x) < self._width:
            rest = x - (x @ known) @ known.T
            q, r, _ = qr(rest.T, mode="economic", pivoting=True)
            new = q[:, np.abs(np.diag(r)) > 1e-6 * np.linalg.norm(x, axis=1).max(initial=0)]
        elif d:
            new = qr(known)[0][:, d:]  # all that is left
        else:
            self._basis, self._dimensions = None, self._width
            return
        self._dimensions += new.shape[1]
        self._basis[:, d : self._dimensions] = new

    def _add_curvature(self, pairs: slice, margin: np.ndarray) -> None:
        p = sigmoid(margin)
        scale = np.sqrt(self._pair_weight[pairs] * p * (1 - p)).astype(np.float32)
        x, fold = self._x[pairs] * scale[:, None], self._fold[pairs]
        for k in np.unique(fold):
            part = x[fold == k]
            self._parts[k] += part.T @ part
        self._factors = []

    def renew_curvature(self) -> None:
        """Take the curvature of all pairs where the search is now, instead of where it was last
        taken; `posterior` reads it."""
        self._parts[:] = 0
        with one_thread():
            self._add_curvature(slice(None), self._margins[:, 0])

    @property
    def _parts(self) -> np.ndarray:
        return self._curvature[:, : self._dimensions, : self._dimensions]

    def _hessian(self, rounding: float) -> np.ndarray:
        """Of the penalised loss of column 0. The penalty is at least what rounding makes of the
        largest eigenvalues, which matters from some 5,000 rankings on."""
        hessian = self._parts.sum(0)
        penalty = max(self.l2, rounding * np.trace(hessian))
        hessian[np.diag_indices(self._dimensions)] += penalty
        return hessian

    def _factor(self) -> list[tuple]:
        """Cholesky factors of the Hessian of each column. In float32: they only give directions."""
        from scipy.linalg import cho_factor

        whole = self._hessian(1e-5)
        hessians = [whole, *(whole - part for part in self._parts)]
        return [cho_factor(h, overwrite_a=True, check_finite=False) for h in hessians]

    def solve(self, l2: float, tolerance: float = TOLERANCE) -> None:
        """Minimise the loss of every column."""
        goal = (self.count, l2, tolerance)
        if goal == self._reached:  # or a refit without news would move the weights a little
            return
        if l2 != self.l2:
            self.l2, self._factors = l2, []
        with one_thread():
            self._descend(tolerance)
        self._reached = goal

    def _descend(self, tolerance: float) -> None:
        from scipy.linalg import cho_solve

        x, w, y = self._x, self._w[: self._dimensions], self._y[:, None]
        seen = self._fold[:, None] != np.arange(-1, FOLDS)  # column 0 sees all
        weight = self._pair_weight[:, None] * seen
        self._margins = margins = (x @ w.astype(np.float32)).astype(np.float64)
        for n in range(STEPS if self._dimensions else 0):
            self._factors = self._factors or self._factor()
            residual = weight * (sigmoid(margins) - y)
            gradient = x.T @ residual.astype(np.float32) + self.l2 * w
            columns = zip(self._factors, gradient.T.astype(np.float32), strict=True)
            step = np.stack([cho_solve(f, g, check_finite=False) for f, g in columns], axis=1)
            change = (x @ step).astype(np.float64)
            length = self._step_length(margins, change, w, step, weight)
            w -= length * step
            margins -= length * change
            moved, size = np.abs(length * change).mean(0), np.abs(margins).mean(0)
            if (moved <= tolerance * size).all():
                break
            if n % RENEW == RENEW - 1:
                self.renew_curvature()

    def _step_length(self, margins, change, w, step, weight) -> np.ndarray:
        """The longest of 1, ½, ¼ ... in each column that does not raise the loss."""
        y = self._y[:, None]

        def loss(length: np.ndarray) -> np.ndarray:
            m, v = margins - length * change, w - length * step
            return (weight * (softplus(m) - y * m)).sum(0) + 0.5 * self.l2 * (v**2).sum(0)

        length = np.ones(1 + FOLDS)
        most = loss(0 * length) * (1 + 1e-9)  # rounding must not stop a step that changes nothing
        for _ in range(30):
            too_long = loss(length) > most
            if not too_long.any():
                break
            length[too_long] /= 2
        return length

    @property
    def weight(self) -> np.ndarray:
        """The fit to all pairs [H]."""
        w = self._w[: self._dimensions, 0]
        return w.copy() if self._basis is None else self._basis[:, : self._dimensions] @ w

    @property
    def cv_margins(self) -> np.ndarray:
        """Margins [n] of each pair, from the fit that saw nothing of its fold."""
        return self._margins[np.arange(self.count), 1 + self._fold]

    def cv_loss(self) -> float:
        """Loss of the cross-validated margins."""
        margin = self.cv_margins
        return float(self._pair_weight @ (softplus(margin) - self._y * margin))

    def choose_l2(self) -> float:
        """The L2 strength of L2_GRID with the smallest cross-validated loss; 1 where one fold has
        all pairs."""
        if len(np.unique(self._fold)) < 2:
            return 1.0
        best = (np.inf, 1.0, self._w)
        for l2 in reversed(L2_GRID):  # from the easiest fit; each begins at the last one's minimum
            self.solve(l2, ROUGH)
            best = min(best, (self.cv_loss(), l2, self._w.copy()), key=lambda found: found[0])
        self._w = best[2]
        return float(best[1])

    def posterior(self) -> Posterior:
        """What is known of the weights after the last `solve`."""
        from scipy.linalg import cholesky

        basis = None if self._basis is None else self._basis[:, : self._dimensions]
        with one_thread():
            hessian = self._hessian(1e-6).astype(np.float64)
            factor = cholesky(hessian, lower=True, overwrite_a=True, check_finite=False)
        return Posterior(basis, factor, self.l2)


@dataclass(frozen=True)
class Posterior:
    """Laplace's approximation (MacKay 1992, "A practical Bayesian framework for backpropagation
    networks"): the weights are normal around the minimum, and their covariance is the inverse of
    the penalised loss's Hessian there.

    Outside the basis the Hessian is l2·I: a direction that no pair has shown keeps the variance
    1/l2 that it had before any.
    """

    basis: np.ndarray | None
    factor: np.ndarray
    l2: float

    def variance(self, x: np.ndarray) -> np.ndarray:
        """Variance [n] of the margins w·x, for feature differences x [n, H]."""
        from scipy.linalg import solve_triangular

        z = x if self.basis is None else x @ self.basis
        seen = solve_triangular(self.factor, z.T, lower=True, check_finite=False)
        unseen = np.maximum(0, (x**2).sum(1) - (z**2).sum(1))
        return (seen**2).sum(0) + unseen / self.l2


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1/(1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x)), without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def block_scales(x: np.ndarray) -> np.ndarray:
    """Scales [H] that give both halves of the features, embeddings and states, the same mean
    square difference: L2 then treats them alike."""
    halves = np.array_split(x, 2, axis=1)
    scales = [np.sqrt((half**2).sum(1).mean(dtype=np.float64)) or 1.0 for half in halves]
    return np.repeat(scales, [half.shape[1] for half in halves])


def one_thread():
    """Threads that wait for a busy core cost more than they give."""
    return blas().limit(limits=1, user_api="blas")


@cache
def blas():
    """What sets the threads of every BLAS loaded: finding them takes longer than a small fit."""
    import scipy.linalg  # noqa: F401 - brings a BLAS of its own
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
