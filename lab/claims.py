"""A claim that a notebook makes, checked in the cell that makes it."""

from __future__ import annotations

import os


class ClaimFailed(AssertionError):
    """A claim did not hold where LAB_CLAIMS=strict asks that all do."""


def claim(words: str, holds: bool, seen: str = "") -> None:
    """Say whether a claim holds in this run.

    With LAB_SHORT a run is too short to judge by, so that it only says so. LAB_CLAIMS=strict comes
    before LAB_SHORT.

    Args:
        words: the claim, as a reader would say it.
        seen: the figures that it was judged by.

    Raises:
        ClaimFailed: the claim does not hold, and LAB_CLAIMS is "strict".
    """
    strict = os.environ.get("LAB_CLAIMS") == "strict"
    said = f"{words} ({seen})" if seen else words
    if os.environ.get("LAB_SHORT") and not strict:
        print(f"… not judged in a short run: {words}")
    elif holds:
        print(f"✓ {said}")
    else:
        print(f"✗ not seen here: {said}")
        if strict:
            raise ClaimFailed(f"not seen here: {said}")
