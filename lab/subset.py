"""The reward model that some of a study's rankings would have given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .preferences import Ranking
from .reward import RewardModel

if TYPE_CHECKING:
    from .experiment import Experiment
    from .store import PreferenceStore

Keep = Callable[[Ranking], bool]


class Subset:
    """A store in which only some rankings were ever given; it writes nothing."""

    def __init__(self, store: PreferenceStore, keep: Keep) -> None:
        self._store, self._keep = store, keep

    def rankings(self, **which: Any) -> list[Ranking]:
        """Those that are kept; see `PreferenceStore.rankings`."""
        return [ranking for ranking in self._store.rankings(**which) if self._keep(ranking)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def reward_model_of(study: Experiment, keep: Keep) -> RewardModel:
    """A reward model fitted to some of a study's rankings, all of it anew: weights, L2 strength,
    scales and spread. The study's own stays as it is.

    Raises:
        NotReady: those rankings hold no strict preference.
    """
    own = study.reward_model  # it has read the features of all completions
    model = RewardModel(Subset(study.store, keep), own.extractor, own.heldout)
    model.require_head()
    return model
