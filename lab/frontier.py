"""Score against √KL (Gao et al. 2022): what a policy gains for how far it went.

Best-of-n is the yardstick: the same score with no training at all, at a KL that is known. Its
bound is near the truth up to KL of about 3 nats, which is n = 64.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .best_of_n import AT_MOST, best_of_n, expected_best, kl_bound
from .completions import PER_PROMPT
from .errors import NotReady
from .files import write_json
from .reward import RewardHead
from .statistics import mean

if TYPE_CHECKING:
    from .experiment import Experiment
    from .runs import Row

FILE = "best_of_n.json"
PROMPTS = 6  # held-out prompts that best-of-n is measured on


def points(history: Sequence[Row], metric: str = "objective/scores") -> tuple[list, list]:
    """√KL and score of each update. An estimate of KL below 0 is drawn at 0."""
    rows = [row for row in history if "objective/kl" in row and metric in row]
    return [math.sqrt(max(0.0, row["objective/kl"])) for row in rows], [r[metric] for r in rows]


def unlike(study: Experiment, run: str) -> str:
    """Why best-of-n is no yardstick for a run, in words: its score or its answers are not those
    that best-of-n has. Empty where it is one."""
    record = study.run_record(run)
    config, taken = record.config, [row["settings"] for row in record.settings]

    def has(name: str) -> set[float]:
        return {s.get(name) for s in [record.config["settings"], *taken]} - {None}

    if config.get("start", "reference") != "reference":
        why = f"it starts from {config['start']}, best-of-n from the reference"
    elif has("missing_eos_penalty") or has("score_clip"):
        why = "its score has missing_eos_penalty or score_clip, that of best-of-n has not"
    elif has("temperature") - {study.temperature}:
        why = f"its temperature is not {study.temperature:g}, that of best-of-n"
    elif has("max_new_tokens") - {study.max_new_tokens}:
        why = f"its max_new_tokens are not {study.max_new_tokens}, those of best-of-n"
    else:
        return ""
    return f"{run} can't be compared with best-of-n: {why}."


def stored(study: Experiment, run: str) -> list[Row]:
    """Best-of-n for n up to 4 by the reward model of a run, from the reference's completions that
    are stored anyway for the prompts that the run answers. Rows as `curve` gives them; empty where
    nothing is stored, or the run is `unlike` best-of-n.

    Raises:
        NotReady: the run has no reward model.
    """
    head, asked = head_of(study, run), study.run_record(run).config.get("prompts", ())
    if unlike(study, run):
        return []
    ids = study.store.ids_by_prompt("reference")
    features = study.store.features(head.extractor)
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for prompt in asked:
        for key in ids.get(prompt, ()):
            if key in features and len(found[prompt]) < PER_PROMPT:
                found[prompt].append(features[key])
    whole = {p: rows for p, rows in found.items() if len(rows) == PER_PROMPT}
    if not whole:
        return []
    return curve(np.stack([head.score([p] * PER_PROMPT, rows) for p, rows in whole.items()]))


def curve(scores: np.ndarray) -> list[Row]:
    """Rows `{n, kl, score, low, high, prompts}` for n = 1, 2, 4 and so on, from scores [P, m]: KL
    is the bound, `low` and `high` a 95 % interval over prompts."""
    rows, n = [], 1
    while n <= scores.shape[1]:
        estimate = mean(expected_best(scores, n), range(len(scores)))
        interval = dict(zip(("low", "high"), estimate.interval, strict=True))
        if len(scores) < 2:
            interval = {"low": None, "high": None}
        rows.append({"n": n, "kl": kl_bound(n), "score": estimate.value} | interval)
        n *= 2
    return [row | {"prompts": len(scores)} for row in rows]


def measured(study: Experiment, run: str) -> list[Row]:
    """What `measure` kept for the reward model of a run; empty where it was not measured, or where
    the run is `unlike` best-of-n."""
    if unlike(study, run):
        return []
    return kept(study.folder / FILE).get(key_of(study.folder / run), [])


def measure(
    study: Experiment,
    run: str,
    n: int = AT_MOST,
    prompts: int = PROMPTS,
    on_prompt: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Sample n completions of the reference for a few held-out prompts, score them with the reward
    model of a run, and keep the curve in `best_of_n.json` of the study's folder.

    A prompt's scores are taken from its own mean, as the reward model does where it has one.

    Args:
        on_prompt: gets how many prompts are done, and of how many.

    Raises:
        NotReady: the run has no reward model or is `unlike` best-of-n, or no prompt is held out.
        BadSetting: n is not from 1 to 64.
    """
    require_like(study, run)
    asked = heldout(study, prompts)
    scores = []
    for i, prompt in enumerate(asked):
        scores.append(scores_of(study, run, prompt, n, seed=i))
        if on_prompt:
            on_prompt(i + 1, len(asked))
    return keep(study, run, np.stack(scores))


def require_like(study: Experiment, run: str) -> None:
    """Raises NotReady where best-of-n is no yardstick for a run."""
    if why := unlike(study, run):
        raise NotReady(why)


def heldout(study: Experiment, count: int = PROMPTS) -> list[str]:
    """The first held-out prompts. Raises NotReady where there are none."""
    found = study.heldout[:count]
    if not found:
        raise NotReady("Best-of-n is measured on held-out prompts, and this study has none.")
    return found


def scores_of(study: Experiment, run: str, prompt: str, n: int, seed: int) -> np.ndarray:
    """Scores [n] of n completions of the reference, by the reward model of a run."""
    head = head_of(study, run)
    with study.compute:
        _, raw = best_of_n(
            study.reference,
            [prompt],
            lambda a: head.raw(a.features),
            n,
            max_new_tokens=study.max_new_tokens,
            temperature=study.temperature,
            seed=study.seed + 2_000_003 + seed,
        )
    return (raw[0] - head.offsets.get(prompt, raw.mean())) / head.spread


def keep(study: Experiment, run: str, scores: np.ndarray) -> list[Row]:
    """Keep the curve of scores [P, n] for the reward model of a run. Returns the curve."""
    path, found = study.folder / FILE, curve(scores)
    write_json(path, kept(path) | {key_of(study.folder / run): found})
    return found


def head_of(study: Experiment, run: str) -> RewardHead:
    """The reward model that a run is pinned to. Raises NotReady where it has none."""
    if not (study.folder / run / "reward.json").exists():
        raise NotReady(f"{run} has no reward model of its own, and best-of-n needs a score.")
    return RewardHead.load(study.folder / run)


def key_of(folder: Path) -> str:
    """Names the reward model of a run: runs that share one share what was measured with it."""
    path = folder / "reward.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


def kept(path: Path) -> dict[str, list[Row]]:
    """What was measured so far; a file that can't be read is measured anew."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
