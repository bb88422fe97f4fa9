"""The reward model: a linear head on the trunk, refitted after every ranking.

Bradley-Terry (Christiano et al. 2017, eq. 1): P(a preferred to b) = sigmoid(r(a) - r(b)), with
r(x) = w·φ(x) and φ(x) the mean over the completion of each token's embedding and of its state
halfway up the trunk.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from .errors import DamagedStudy, NotReady
from .files import write_atomic, write_json
from .preferences import Pair, Ranking
from .statistics import Estimate, proportion
from .store import PreferenceStore

L2_GRID = tuple(10.0 ** np.arange(-2, 1.75, 0.5))  # on features of unit mean square difference
FOLDS = 5


@dataclass(frozen=True)
class RewardHead:
    """One fitted version of the reward model. A run is pinned to one: later rankings don't move
    the goal of a run under way.

    A score is w·φ less the prompt's own mean over reference completions, in units of the
    standard deviation within a prompt: rankings never compare across prompts, so the offset
    between prompts means nothing, and `kl_coef` keeps its meaning from one version to the next.
    """

    weight: np.ndarray
    spread: float
    offsets: dict[str, float]
    version: int
    extractor: str

    def raw(self, features) -> np.ndarray:
        """w·φ [n] of features [n, H]: comparable within one prompt only."""
        return np.asarray(features, dtype=np.float64) @ self.weight

    def score(self, prompts: Sequence[str], features) -> np.ndarray:
        """Scores [n] of completions with features [n, H]. 0 is the reference's average completion
        of that prompt, 1 is one standard deviation better."""
        typical = float(np.mean(list(self.offsets.values()))) if self.offsets else 0.0
        offsets = np.array([self.offsets.get(p, typical) for p in prompts])
        return (self.raw(features) - offsets) / self.spread

    def save(self, folder: Path) -> None:
        """Write `reward.safetensors` and `reward.json` into a folder."""
        write_atomic(folder / "reward.safetensors", save({"weight": self.weight}))
        write_json(
            folder / "reward.json",
            {"spread": self.spread, "offsets": self.offsets, "version": self.version}
            | {"extractor": self.extractor},
        )

    @classmethod
    def load(cls, folder: Path) -> RewardHead:
        """Read what `save` wrote. Raises DamagedStudy where it can't be read."""
        try:
            weight = load_file(folder / "reward.safetensors")["weight"]
            return cls(weight=weight, **json.loads((folder / "reward.json").read_text("utf-8")))
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise DamagedStudy(
                f"The reward model in {folder} can't be read ({error}). The folder is untouched; "
                "start a new run with study.ppo(new=True)."
            ) from error


@dataclass
class Accuracies:
    """Accuracy of the reward model, in kinds that are never mixed; None where there is none yet.

    Attributes:
        prequential: each ranking predicted before the model saw it, from the second on.
        cv: cross-validated, no prompt in both parts. The L2 strength was chosen on the same
            folds, which flatters it a little.
        heldout: on rankings of prompts from the held-out split, which never train.
    """

    rankings: int
    prequential: Estimate | None = None
    cv: Estimate | None = None
    heldout: Estimate | None = None
    l2: float = float("nan")


@dataclass
class RewardModel:
    """Keeps the head fitted to the rankings in a store.

    Args:
        store: where rankings and features are.
        extractor: the name under which features are cached.
        heldout: prompts whose rankings measure and never train.
    """

    store: PreferenceStore
    extractor: str
    heldout: frozenset[str] = frozenset()
    head: RewardHead | None = None
    accuracies: Accuracies = field(default_factory=lambda: Accuracies(0))
    _features: dict[int, np.ndarray] = field(default_factory=dict)
    _l2: float | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _l2_chosen_at: int = 0

    def features(self, ids: Sequence[int]) -> np.ndarray:
        """Cached features [n, H] of stored completions."""
        if any(i not in self._features for i in ids):
            newest = max(self._features, default=0)
            self._features |= self.store.features(self.extractor, after=newest)
        if missing := [i for i in ids if i not in self._features]:  # older ones, added later
            self._features |= self.store.features(self.extractor)
            if missing := [i for i in missing if i not in self._features]:
                raise NotReady(f"Completions {missing[:5]} have no features yet: read them first.")
        return np.stack([self._features[i] for i in ids]).astype(np.float64)

    def refit(self) -> RewardHead | None:
        """Fit to all rankings that stand; None while there are none to fit to.

        The L2 strength is chosen by cross-validation grouped by prompt, again whenever the
        rankings have grown by a tenth.
        """
        with self._lock:
            return self._refit()

    def _refit(self) -> RewardHead | None:
        rankings = self.store.rankings()
        training = [p for p in self.store.pairs() if p.prompt not in self.heldout]
        if not training:
            self.head, self.accuracies = None, Accuracies(len(rankings))
            return None
        x, y, weight = self.design(training)
        scale = block_scales(x)
        x = x / scale
        prompts = [p.prompt for p in training]
        fold = assign_folds(prompts)
        if self._l2 is None or abs(len(rankings) - self._l2_chosen_at) * 10 >= len(rankings):
            self._l2 = choose_l2(x, y, weight, fold)
            self._l2_chosen_at = len(rankings)
        w = fit(x, y, weight, self._l2) / scale
        self.head = self.calibrate(w)
        self.accuracies = Accuracies(
            rankings=len(rankings),
            prequential=prequential_accuracy(rankings),
            cv=self._cv(training, x, y, weight, fold),
            heldout=self.heldout_accuracy(
                [p for p in self.store.pairs() if p.prompt in self.heldout]
            ),
            l2=self._l2,
        )
        return self.head

    def _cv(self, pairs: Sequence[Pair], x, y, weight, fold) -> Estimate | None:
        if len(np.unique(fold)) < 2:  # one prompt alone leaves nothing to learn from
            return None
        return pair_accuracy(pairs, cross_validate(x, y, weight, fold, self._l2))

    def design(self, pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Feature differences [n, H], targets [n] and weights [n] of pairs."""
        x = self.features([p.chosen for p in pairs]) - self.features([p.rejected for p in pairs])
        return x, np.array([p.target for p in pairs]), np.array([p.weight for p in pairs])

    def calibrate(self, w: np.ndarray) -> RewardHead:
        """The head with each prompt's offset and the spread within prompts, both over what the
        reference said."""
        said = self.store.ids_by_prompt("reference")
        raw = {prompt: self.features(ids) @ w for prompt, ids in said.items()}
        offsets = {prompt: float(r.mean()) for prompt, r in raw.items()}
        squares = sum(((r - r.mean()) ** 2).sum() for r in raw.values())
        spread = float(np.sqrt(squares / max(1, sum(len(r) - 1 for r in raw.values()))))
        version = (self.head.version if self.head else 0) + 1
        return RewardHead(w, spread or 1.0, offsets, version, self.extractor)

    def require_head(self) -> RewardHead:
        """The current head. Raises NotReady while there is no strict preference to learn from."""
        if self.head is None:
            self.refit()
        if self.head is None or not any(p.target == 1 for p in self.store.pairs()):
            raise NotReady(
                "The reward model needs at least 1 more ranking: it has no preference pairs to "
                "learn from yet. Rank a prompt's completions first (study.rank())."
            )
        return self.head

    def predict(self, ids: Sequence[int]) -> tuple[float, ...] | None:
        """Scores of stored completions of one prompt under the current head, or None."""
        if self.head is None:
            return None
        return tuple(float(s) for s in self.head.raw(self.features(ids)) / self.head.spread)

    def heldout_accuracy(self, pairs: Sequence[Pair]) -> Estimate | None:
        """Accuracy on strict pairs of prompts that were never ranked for training."""
        if self.head is None or not pairs:
            return None
        x, _, _ = self.design(pairs)
        return pair_accuracy(pairs, x @ self.head.weight)


def block_scales(x: np.ndarray) -> np.ndarray:
    """Scales [H] that give both halves of the features, embeddings and states, the same mean
    square difference: L2 then treats them alike."""
    halves = np.array_split(x, 2, axis=1)
    scales = [np.sqrt((half**2).sum(1).mean()) or 1.0 for half in halves]
    return np.repeat(scales, [half.shape[1] for half in halves])


def fit(x: np.ndarray, y: np.ndarray, weight: np.ndarray, l2: float) -> np.ndarray:
    """Minimise the Bradley-Terry loss -Σ weight·log-likelihood + l2/2·|w|² by L-BFGS.

    Args:
        x: feature differences [n, H], preferred less other.
        y: targets [n]: 1 for a preference, ½ for a tie.
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    def loss_and_gradient(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = x @ w
        loss = weight @ (np.logaddexp(0, margin) - y * margin) + 0.5 * l2 * w @ w
        residual = weight * (0.5 * (1 + np.tanh(0.5 * margin)) - y)
        return loss, x.T @ residual + l2 * w

    options = {"maxiter": 200, "ftol": 1e-7, "gtol": 1e-5}
    start = np.zeros(x.shape[1])
    with threadpool_limits(1, "blas"):  # threads that wait for a busy core cost more than they give
        result = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    return result.x


def assign_folds(prompts: Sequence[str]) -> np.ndarray:
    """A fold for each pair; all pairs of a prompt share one."""
    order = {p: i for i, p in enumerate(dict.fromkeys(prompts))}
    return np.array([order[p] % FOLDS for p in prompts])


def cross_validate(x, y, weight, fold, l2: float) -> np.ndarray:
    """Margins [n] of each pair, from a fit that saw nothing of its prompt."""
    margins = np.zeros(len(x))
    for k in np.unique(fold):
        out = fold == k
        if not out.all():
            margins[out] = x[out] @ fit(x[~out], y[~out], weight[~out], l2)
    return margins


def choose_l2(x, y, weight, fold) -> float:
    """The L2 strength with the smallest cross-validated loss."""

    def loss(l2: float) -> float:
        margin = cross_validate(x, y, weight, fold, l2)
        return float(weight @ (np.logaddexp(0, margin) - y * margin))

    if len(np.unique(fold)) < 2:
        return 1.0
    return float(min(L2_GRID, key=loss))


def pair_accuracy(pairs: Sequence[Pair], margins: np.ndarray) -> Estimate | None:
    """Share of strict pairs ordered as the rater did, equal scores counting half; the interval is
    clustered by prompt."""
    strict = [i for i, p in enumerate(pairs) if p.target == 1]
    right = [float(np.sign(margins[i]) / 2 + 0.5) for i in strict]
    return proportion(right, [pairs[i].prompt for i in strict])


def ranking_hits(ranking: Ranking) -> list[float]:
    """For each strict pair of a ranking: was it predicted? (½ for equal scores)"""
    if ranking.tiers is None or ranking.predicted is None:
        return []
    score = dict(zip(ranking.shown, ranking.predicted, strict=True))
    hits, above = [], []
    for tier in ranking.tiers:
        hits += [float(np.sign(score[a] - score[b]) / 2 + 0.5) for a in above for b in tier]
        above += tier
    return hits


def prequential_accuracy(rankings: Sequence[Ranking]) -> Estimate | None:
    """Accuracy of the predictions made before each ranking was given."""
    hits = [(h, r.prompt) for r in rankings for h in ranking_hits(r)]
    return proportion([h for h, _ in hits], [p for _, p in hits])
