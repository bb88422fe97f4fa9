"""The instruments: one a file. They hold no maths; every button calls a public method."""

from .compare_panel import ComparePanel
from .ranking_board import RankingBoard
from .reward_panel import RewardPanel
from .training_panel import TrainingPanel

__all__ = ["ComparePanel", "RankingBoard", "RewardPanel", "TrainingPanel"]
