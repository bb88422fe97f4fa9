"""What a run's metrics say about its health, in words, each with what one might do.

A pure function of the history: no model, no widget. It is quiet when nothing is wrong. Means over
the last WINDOW updates are judged, not single updates, since those are noisy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from .runs import Row

WINDOW = 5  # updates that a judgement looks back on
KL_FLOOR = 2.0  # nats: below it KL doubles from nearly nothing, which is no news
KL_GROWTH = 2.0  # times the KL of five updates before
KL_NOISE = 3.0  # standard errors that KL must have grown by, as single updates vary
VALUE_EXPLAINS = 0.1  # share of variance: below, advantages are as noisy as the returns
VALUE_AFTER = 10  # updates that the value head is given to learn
DISTINCT_LEFT = (
    2 / 3
)  # of distinct-2 of the first updates: it depends on how many answers there are
CLIPPED = 0.3  # share of tokens: above, much of an update's gradient is thrown away
ENTROPY_LEFT = 0.5  # of the entropy of the first updates
APPROXKL = 0.1  # nats a token between the policy that sampled and the one that was trained on it
SCORE_GAIN = 0.1  # standard deviations: a rise of the score that counts as one
EQUAL_GROUPS = 0.5  # share of GRPO's groups from which there is nothing to learn
BEHIND = 0.02  # accuracy that held-out pairs lose while those that train gain
CHOSEN_LOST = 5.0  # nats that the chosen have become less likely than under the reference
LOSS_GROWTH = 1.02  # times the best held-out loss


@dataclass(frozen=True)
class Finding:
    """What is noticed, and what one might do about it."""

    words: str
    advice: str


def health(history: Sequence[Row], kl_target: float | None = None) -> list[Finding]:
    """Findings about the last updates of a history, the most pressing first; none where all is
    well or there is too little to say.

    Args:
        history: rows of metrics, oldest first, of any trainer. Metrics that are missing in the
            newest row are not judged.
        kl_target: the run's setting of that name.
    """
    if not history:
        return []
    checks: tuple[Callable[[Sequence[Row]], Finding | None], ...] = (
        kl_grows,
        lambda rows: score_for_kl(rows, kl_target),
        approxkl_is_large,
        clip_binds,
        completions_alike,
        entropy_falls,
        values_explain_little,
        groups_are_equal,
        chosen_fall,
        heldout_accuracy_falls,
        heldout_loss_grows,
    )
    return [found for check in checks if (found := check(history)) is not None]


def kl_grows(rows: Sequence[Row]) -> Finding | None:
    """KL that has doubled from one window of updates to the next, to above the floor and by more
    than its noise."""
    values = series(rows, "objective/kl")
    if len(values) < 2 * WINDOW:
        return None
    windows = values[-2 * WINDOW : -WINDOW], values[-WINDOW:]
    before, now = map(fmean, windows)
    error = (sum(map(variance, windows)) / WINDOW) ** 0.5
    if now < KL_GROWTH * max(before, KL_FLOOR / 2) or now - before < KL_NOISE * error:
        return None
    grown = "doubled" if now < 3 * before else "multiplied"
    return Finding(
        f"KL has {grown} in five updates, on average from {before:.1f} to {now:.1f} nats.",
        "If the completions read worse, rewind and branch with a larger kl_coef or a smaller "
        "learning_rate.",
    )


def score_for_kl(rows: Sequence[Row], kl_target: float | None) -> Finding | None:
    """A score that still rises while KL is past its target: over-optimisation looks like this."""
    scores, kl = series(rows, "objective/scores"), series(rows, "objective/kl")
    if kl_target is None or len(scores) < 2 * WINDOW or fmean(kl[-WINDOW:]) <= kl_target:
        return None
    gain = fmean(scores[-WINDOW:]) - fmean(scores[-2 * WINDOW : -WINDOW])
    if gain < SCORE_GAIN:
        return None
    return Finding(
        f"The score goes up ({gain:+.2f}) while KL passes the target ({fmean(kl[-WINDOW:]):.1f} "
        f"of {kl_target:g} nats).",
        "The policy may be exploiting the reward model: read the samples, rank what it says now, "
        "or go back to where KL was at the target.",
    )


def approxkl_is_large(rows: Sequence[Row]) -> Finding | None:
    """One update moves the policy far from the one that sampled."""
    value = lately(rows, "policy/approxkl_avg")
    if value is None or value < APPROXKL:
        return None
    return Finding(
        f"approxkl is large ({value:.2f}): single updates move the policy far.",
        "Take a smaller learning_rate, fewer epochs, or set max_approxkl.",
    )


def clip_binds(rows: Sequence[Row]) -> Finding | None:
    """Many tokens are past the clip range, so that they have no gradient."""
    value = lately(rows, "policy/clipfrac_avg")
    if value is None or value < CLIPPED:
        return None
    return Finding(
        f"The clip binds on {value:.0%} of tokens.",
        "Take a smaller learning_rate or fewer epochs; a wider clip range lets through more.",
    )


def completions_alike(rows: Sequence[Row]) -> Finding | None:
    """Fewer different pairs of words among the completions of an update than at first."""
    values = series(rows, "completions/distinct_2")
    if len(values) < 2 * WINDOW:
        return None
    first, now = fmean(values[:WINDOW]), fmean(values[-WINDOW:])
    if not 0 < now < DISTINCT_LEFT * first:  # 0: no completion has two words
        return None
    return Finding(
        f"Completions are becoming the same (distinct-2 {now:.2f}, {first:.2f} at first).",
        "Rewind to before that and branch with a larger kl_coef, or rank such completions low.",
    )


def entropy_falls(rows: Sequence[Row]) -> Finding | None:
    """Entropy below half of what the run began with."""
    values = series(rows, "objective/entropy")
    if len(values) < 2 * WINDOW:
        return None
    first, now = fmean(values[:WINDOW]), fmean(values[-WINDOW:])
    if first <= 0 or now > ENTROPY_LEFT * first:
        return None
    return Finding(
        f"Entropy has halved, from {first:.0f} to {now:.0f} nats a completion.",
        "The policy is getting sure of itself, or its answers shorter. A larger kl_coef or a "
        "higher temperature keeps more variety.",
    )


def values_explain_little(rows: Sequence[Row]) -> Finding | None:
    """A value head that has had time, and predicts returns hardly better than their mean."""
    value = lately(rows, "val/var_explained")
    if value is None or len(rows) < VALUE_AFTER or value >= VALUE_EXPLAINS:
        return None
    share = "none" if value <= 0 else f"{value:.0%}"
    return Finding(
        f"The value head explains {share} of the variance of the returns.",
        "Advantages are noisy: more episodes an update (batch_size) or a larger vf_coef may help.",
    )


def groups_are_equal(rows: Sequence[Row]) -> Finding | None:
    """GRPO learns nothing from a group whose completions all score the same."""
    value = lately(rows, "frac_reward_zero_std")
    if value is None or value < EQUAL_GROUPS:
        return None
    return Finding(
        f"In {value:.0%} of the groups all scores are equal: they teach nothing.",
        "Take a higher temperature or more answers a prompt (num_generations).",
    )


def chosen_fall(rows: Sequence[Row]) -> Finding | None:
    """DPO widens its margin also by making both sides less likely, if the rejected more so."""
    reward, beta = lately(rows, "rewards/chosen"), lately(rows, "beta")
    if reward is None or not beta or reward / beta > -CHOSEN_LOST:
        return None
    return Finding(
        f"The chosen completions have become less likely, by {-reward / beta:.0f} nats.",
        "The policy moves away from both sides: take a smaller learning_rate, fewer updates or a "
        "larger beta.",
    )


def heldout_accuracy_falls(rows: Sequence[Row]) -> Finding | None:
    """Held-out accuracy below its best while that of the pairs that train is above."""
    rows = having(rows, "eval_accuracy", "accuracy")
    if len(rows) <= WINDOW:
        return None
    held, own = series(rows, "eval_accuracy"), series(rows, "accuracy")
    best = max(range(len(held)), key=held.__getitem__)
    now, now_own = fmean(held[-WINDOW:]), fmean(own[-WINDOW:])
    if best >= len(held) - WINDOW or now > held[best] - BEHIND or now_own <= own[best]:
        return None
    return Finding(
        f"Held-out accuracy is {now:.2f}, down from {held[best]:.2f}, while training accuracy "
        f"went up to {now_own:.2f}.",
        f"It learns the pairs by heart: rewind to update {rows[best]['update']}, or rank more.",
    )


def heldout_loss_grows(rows: Sequence[Row]) -> Finding | None:
    """Held-out loss above its best while the training loss is below."""
    rows = having(rows, "eval_loss", "loss")
    if len(rows) <= WINDOW:
        return None
    held, own = series(rows, "eval_loss"), series(rows, "loss")
    best = min(range(len(held)), key=held.__getitem__)
    now, now_own = fmean(held[-WINDOW:]), fmean(own[-WINDOW:])
    if best >= len(held) - WINDOW or now < LOSS_GROWTH * held[best] or now_own >= own[best]:
        return None
    return Finding(
        f"Held-out loss is {now:.2f}, up from {held[best]:.2f}, while training loss went down to "
        f"{now_own:.2f}.",
        f"It learns by heart: rewind to update {rows[best]['update']}, or bring more data.",
    )


def having(rows: Sequence[Row], *metrics: str) -> list[Row]:
    """The rows that have all of these metrics; none where the newest has not."""
    found = [row for row in rows if all(metric in row for metric in metrics)]
    return found if found and found[-1] is rows[-1] else []


def series(rows: Sequence[Row], metric: str) -> list[float]:
    """The values of a metric, where rows have it; empty where the newest has not."""
    return [row[metric] for row in having(rows, metric)]


def lately(rows: Sequence[Row], metric: str) -> float | None:
    """The mean over the last WINDOW updates; None before there are so many."""
    values = series(rows, metric)
    return fmean(values[-WINDOW:]) if len(values) >= WINDOW else None
