"""The instruments: one a file. They hold no maths; every button calls a public method."""

from .app import App
from .compare_panel import ComparePanel
from .ranking_board import RankingBoard
from .reward_panel import RewardPanel
from .token_lens import TokenLens
from .training_panel import TrainingPanel

__all__ = ["App", "ComparePanel", "RankingBoard", "RewardPanel", "TokenLens", "TrainingPanel"]
