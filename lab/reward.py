"""The reward model: a linear head on the trunk, refitted after every ranking.

Bradley-Terry (Christiano et al. 2017, eq. 1): P(a preferred to b) = sigmoid(r(a) - r(b)), with
r(x) = w·φ(x) and φ(x) the mean over the completion of each token's embedding and of its state
halfway up the trunk.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from .bradley_terry import BradleyTerry, Posterior, block_scales, sigmoid
from .calibration import Predictions
from .errors import DamagedStudy, NotReady
from .features import FeatureTable
from .files import write_atomic, write_json
from .judgements import Judgements
from .preferences import Pair
from .statistics import Estimate, proportion
from .store import PreferenceStore

L2_FROM = 1000  # rankings: the L2 strength chosen from more, as an inverse variance, is the same
SMALL = 2000  # pairs whose curvature, taken anew, costs less than a tenth of a second


@dataclass(frozen=True)
class RewardHead:
    """One fitted version of the reward model. A run is pinned to one: later rankings don't move
    the goal of a run under way.

    A score is w·φ less the prompt's own mean over reference completions, in units of the
    standard deviation within a prompt: rankings never compare across prompts, so the offset
    between prompts means nothing, and `kl_coef` keeps its meaning from one version to the next.

    `temperature` makes probabilities of scores (see `Predictions.temperature`); None while too
    little was predicted to fit it.
    """

    weight: np.ndarray
    spread: float
    offsets: dict[str, float]
    version: int
    extractor: str
    temperature: float | None = None

    def raw(self, features) -> np.ndarray:
        """w·φ [n] of features [n, H]: comparable within one prompt only."""
        return np.asarray(features, dtype=np.float64) @ self.weight

    def score(self, prompts: Sequence[str], features) -> np.ndarray:
        """Scores [n] of completions with features [n, H]. 0 is the reference's average completion
        of that prompt, 1 is one standard deviation better."""
        typical = float(np.mean(list(self.offsets.values()))) if self.offsets else 0.0
        offsets = np.array([self.offsets.get(p, typical) for p in prompts])
        return (self.raw(features) - offsets) / self.spread

    def probability(self, margin) -> np.ndarray:
        """P(a preferred to b) from the score of a less that of b, two completions of one prompt:
        sigmoid(margin / temperature). Without a temperature, the fit's own sigmoid(w·φ(a) -
        w·φ(b)), which is as a rule too sure."""
        return sigmoid(np.asarray(margin) / (self.temperature or 1 / self.spread))

    def save(self, folder: Path) -> None:
        """Write `reward.safetensors` and `reward.json` into a folder."""
        write_atomic(folder / "reward.safetensors", save({"weight": self.weight}))
        write_json(
            folder / "reward.json",
            {"spread": self.spread, "offsets": self.offsets, "version": self.version}
            | {"extractor": self.extractor, "temperature": self.temperature},
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


class RewardModel:
    """Keeps the head fitted to the rankings in a store.

    Args:
        store: where rankings and features are.
        extractor: the name under which features are cached.
        heldout: prompts whose rankings measure and never train.
    """

    def __init__(
        self, store: PreferenceStore, extractor: str, heldout: frozenset[str] = frozenset()
    ) -> None:
        self.store, self.extractor, self.heldout = store, extractor, heldout
        self.head: RewardHead | None = None
        self.accuracies = Accuracies(0)
        self.predictions = Predictions()  # of each ranking before it was given, as of the last fit
        self._table = FeatureTable(store, extractor)
        self._judgements = Judgements(store, heldout)
        self._fits: BradleyTerry | None = None
        self._penalty: tuple[float, np.ndarray] | None = None  # L2 strength, the features' scales
        self._fitted: tuple[RewardHead, Posterior, np.ndarray] | None = None  # of one fit
        self._lock = threading.RLock()

    def features(self, ids: Sequence[int]) -> np.ndarray:
        """Cached features [n, H] of stored completions. Raises NotReady where one has none."""
        return self._table.vectors(ids).astype(np.float64)

    def refit(self) -> RewardHead | None:
        """Fit to all rankings that stand; None while there are none to fit to.

        The L2 strength is chosen by cross-validation grouped by prompt, again whenever a tenth of
        the rankings are new or were undone; so are the scales of both halves of the features,
        which belong to the same penalty. Of more than L2_FROM rankings, so many at random are
        used for it.
        """
        with self._lock:
            return self._refit()

    def _refit(self) -> RewardHead | None:
        judged = self._judgements
        undone = judged.read()
        self.predictions = judged.predictions.copy()
        if not judged.training:
            self.head = self._fitted = self._fits = self._penalty = None
            self.accuracies = Accuracies(judged.count)
            return None
        renew = self._penalty is None or judged.changed * 10 >= judged.count
        if renew:
            self._choose_penalty()
        elif undone:
            self._fits = self._fits_to(judged.training)
        else:
            self._add(self._fits, judged.training[self._fits.count :])
        l2, scale = self._penalty
        self._fits.solve(l2)
        if renew or undone or self._fits.count <= SMALL:
            self._fits.renew_curvature()
        head = self._calibrate(self._fits.weight / scale)
        self._fitted = head, self._fits.posterior(), scale
        self.head = head
        cross_validated = judged.folds > 1  # one prompt alone leaves nothing to learn from
        cv = pair_accuracy(judged.training, self._fits.cv_margins) if cross_validated else None
        heldout = self.heldout_accuracy(judged.measuring)
        prequential = self.predictions.accuracy()
        self.accuracies = Accuracies(judged.count, prequential, cv, heldout, l2)
        return self.head

    def _choose_penalty(self) -> None:
        judged = self._judgements
        sample = judged.sample(L2_FROM)
        self._penalty = 1.0, block_scales(self.design(sample)[0])
        self._fits = self._fits_to(sample)
        self._penalty = self._fits.choose_l2(), self._penalty[1]
        if sample is not judged.training:
            self._fits = self._fits_to(judged.training)
        judged.changed = 0

    def _fits_to(self, pairs: Sequence[Pair]) -> BradleyTerry:
        fits = BradleyTerry(len(self._penalty[1]))
        self._add(fits, pairs)
        return fits

    def _add(self, fits: BradleyTerry, pairs: Sequence[Pair]) -> None:
        if pairs:
            x, y, weight = self.design(pairs)
            x /= self._penalty[1].astype(np.float32)
            best: dict[int, int] = {}  # its pairs with all others span a ranking's pairs
            spanning = [p.chosen == best.setdefault(p.ranking, p.chosen) for p in pairs]
            fits.add(x, y, weight, self._judgements.fold(pairs), spanning)

    def design(self, pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Feature differences [n, H], targets [n] and weights [n] of pairs."""
        x = self._difference([p.chosen for p in pairs], [p.rejected for p in pairs])
        return x, np.array([p.target for p in pairs]), np.array([p.weight for p in pairs])

    def _difference(self, ids_a: Sequence[int], ids_b: Sequence[int]) -> np.ndarray:
        x = self._table.vectors(ids_a)
        x -= self._table.vectors(ids_b)
        return x

    def _calibrate(self, w: np.ndarray) -> RewardHead:
        """The head with each prompt's offset and the spread within prompts, both over what the
        reference said, and the temperature."""
        said = self.store.ids_by_prompt("reference")
        sizes = np.array([len(ids) for ids in said.values()], dtype=int)
        raw = self._table.project([i for ids in said.values() for i in ids], w)
        mean = np.bincount(np.repeat(np.arange(len(sizes)), sizes), raw, len(sizes)) / sizes
        squares = ((raw - np.repeat(mean, sizes)) ** 2).sum()
        spread = float(np.sqrt(squares / max(1, (sizes - 1).sum()))) or 1.0
        version = (self.head.version if self.head else 0) + 1
        offsets = dict(zip(said, mean.tolist(), strict=True))
        temperature = self.predictions.temperature()
        return RewardHead(w, spread, offsets, version, self.extractor, temperature)

    def require_head(self) -> RewardHead:
        """The current head. Raises NotReady while there is no strict preference to learn from."""
        if self.head is None or not self._has_strict():
            self.refit()
        if self.head is None or not self._has_strict():
            raise NotReady(
                "The reward model needs at least 1 more ranking: it has no preference pairs to "
                "learn from yet. Rank a prompt's completions first (study.rank())."
            )
        return self.head

    def _has_strict(self) -> bool:
        return any(p.target == 1 for p in self._judgements.training)

    def predict(self, ids: Sequence[int]) -> tuple[float, ...] | None:
        """Scores of stored completions of one prompt under the current head, or None."""
        if (head := self.head) is None:
            return None
        return tuple((self._table.project(ids, head.weight) / head.spread).tolist())

    def probability(self, ids_a: Sequence[int], ids_b: Sequence[int]) -> np.ndarray | None:
        """P(a preferred to b) [n] of stored completions, each a and b of one prompt, calibrated
        once enough was predicted (see `RewardHead.probability`); None while there is no head."""
        if (head := self.head) is None:
            return None
        return head.probability(self._margins(ids_a, ids_b, head))

    def _margins(self, ids_a: Sequence[int], ids_b: Sequence[int], head: RewardHead) -> np.ndarray:
        a, b = self._table.project(ids_a, head.weight), self._table.project(ids_b, head.weight)
        return (a - b) / head.spread

    def margin_std(self, ids_a: Sequence[int], ids_b: Sequence[int]) -> np.ndarray | None:
        """How uncertain the scores' difference of a and b is [n], as one standard deviation of its
        posterior, in units of scores (see `Posterior`); None while there is no head.

        Up to SMALL pairs the posterior is that of all rankings at the last fit; beyond, earlier
        pairs count with the curvature they had when the L2 strength was last chosen.
        """
        if (fitted := self._fitted) is None:
            return None
        head, posterior, scale = fitted
        return np.sqrt(posterior.variance(self._difference(ids_a, ids_b) / scale)) / head.spread

    def uncertainty(self, ids: Sequence[int]) -> float | None:
        """How unsure the model is of the order of completions of one prompt: the mean over their
        pairs of the posterior's probability Φ(-|margin|/std) that it has them the wrong way round,
        0 to ½. None while there is no head, or nothing to order.

        Two that are equally good stay near ½ however often they are ranked (`margin_std` falls);
        two with the same features count 0, as no ranking can teach their order.
        """
        from scipy.special import ndtr

        if (head := self.head) is None or len(ids) < 2:
            return None
        a, b = zip(*combinations(ids, 2), strict=True)
        std, margin = self.margin_std(a, b), np.abs(self._margins(a, b, head))
        wrong = ndtr(-margin / np.where(std > 0, std, 1.0))
        return float(np.where(std > 0, wrong, 0.0).mean())

    def heldout_accuracy(self, pairs: Sequence[Pair]) -> Estimate | None:
        """Accuracy on strict pairs of prompts that were never ranked for training."""
        if self.head is None or not pairs:
            return None
        chosen, rejected = [p.chosen for p in pairs], [p.rejected for p in pairs]
        return pair_accuracy(pairs, self._margins(chosen, rejected, self.head))


def pair_accuracy(pairs: Sequence[Pair], margins: np.ndarray) -> Estimate | None:
    """Share of strict pairs ordered as the rater did, equal scores counting half; the interval is
    clustered by prompt."""
    strict = np.array([p.target == 1 for p in pairs], dtype=bool)
    number: dict[str, int] = {}  # a prompt's: a thousand times quicker to sort than long texts
    prompts = np.array([number.setdefault(p.prompt, len(number)) for p in pairs], dtype=int)
    return proportion(np.sign(np.asarray(margins)[strict]) / 2 + 0.5, prompts[strict])
