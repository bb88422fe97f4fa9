"""What the tests of instruments share: a small study, and hands to work it with."""

from __future__ import annotations

import lab

PROMPTS = [f"Tell me about thing {i}." for i in range(12)]
HOSTILE = (
    '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">**bold** [a](b) $x$ '
    "\u202ereversed \u0007\u0000 \U0001f600 \ud83d"
)


def small_study(root, model: str, name: str = "w", **options) -> lab.Experiment:
    """A study of a tiny random model: nine prompts to rank, three held out."""
    own = {"prompts": PROMPTS, "max_new_tokens": 6, **options}
    return lab.Experiment(name, model, root=root, progress=False, **own)


def idle(study: lab.Experiment) -> None:
    """Wait until the background thread has nothing to do."""
    assert study.runner.wait(30)
    assert study.runner.error is None, study.runner.error


def rank_some(study: lab.Experiment, count: int = 4) -> None:
    """A simulated rater that likes short answers."""
    study.session().simulate(lambda prompt, text: -len(text), count)
