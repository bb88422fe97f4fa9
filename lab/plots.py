"""What of a trainer's metrics is worth watching."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plot:
    """What is worth watching while a trainer works: metrics over updates that share an axis. The
    first of them stands for the plot in a line of words, as `word` and in `form`.

    `over_kl`: drawn over √KL to the reference instead of over updates, with best-of-n beside it.
    """

    axis: str
    metrics: dict[str, str]
    word: str
    form: str = ".2f"
    from_zero: bool = False
    over_kl: bool = False


def loss_plot(heldout: str) -> Plot:
    """Cross-entropy of an update, and of held-out text, which `heldout` says in words."""
    metrics = {"loss": "of the update", "eval_loss": f"of {heldout}"}
    return Plot("loss of a token (nats)", metrics, "loss")


GRADIENT = Plot("gradient", {"grad_norm": "norm of the gradient"}, "gradient", from_zero=True)
