"""What an update did to every single token: tables of a run's record, and what else the policy
might have said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .errors import NotReady

if TYPE_CHECKING:
    from torch import Tensor

    from .policy import Policy
    from .rollout import RolloutTrainer
    from .runs import History

Row = dict[str, Any]
NUMBERS = {  # of the record, and what they are called in a table
    "logprobs": "logprob",
    "reference": "reference_logprob",
    "kl": "kl",
    "rewards": "reward",
    "values": "value",
    "advantages": "advantage",
    "returns": "return",
}
BYTES_OF_A_CHARACTER = 4  # at most, in UTF-8
POSITIONS_AT_ONCE = 128  # 25 MB of SmolLM2's logits


def table(run: History, update: int, row: int = 0) -> list[Row]:
    """One dict a token of a kept sample, for a notebook or `pandas.DataFrame`.

    `logprob` and `reference_logprob` are at sampling, at the temperature of the rollout; `kl` is
    the penalised estimate, `advantage` whitened, as PPO used it. `ratio_1`, `clipped_1` belong to
    the first epoch: new / old probability just before the step of the optimizer, and whether the
    clip binds. GRPO has no values, rewards and returns.

    Raises:
        NotReady: the run has no record of this update, or not so many samples.
    """
    kept = run.tokens(update)["rows"]
    if not 0 <= row < len(kept):
        raise NotReady(f"Of update {update}, {len(kept)} samples were kept: row 0 and on.")
    sample = kept[row]
    rows: list[Row] = []
    for i, (token_id, text) in enumerate(zip(sample["ids"], sample["texts"], strict=True)):
        found = {"position": i, "id": token_id, "token": text}
        found |= {word: sample[name][i] for name, word in NUMBERS.items() if name in sample}
        for epoch, log_ratios in enumerate(sample["log_ratios"], 1):
            found[f"ratio_{epoch}"] = math.exp(log_ratios[i])
            found[f"clipped_{epoch}"] = bool(sample["clipped"][epoch - 1][i])
        rows.append(found)
    return rows


def scales(tokens: Row) -> dict[str, float]:
    """The largest absolute value of each number over the kept samples of an update, where a colour
    is full; of log-ratios it is at least where the clip begins. `tokens`: of `run.tokens`."""
    largest: dict[str, float] = {"log_ratios": math.log1p(tokens.get("cliprange", 0.2))}
    for sample in tokens["rows"]:
        for name in ("kl", "rewards", "values", "advantages", "returns"):
            if name in sample:
                largest[name] = max(largest.get(name, 0.0), *map(abs, sample[name]))
        for epoch in sample["log_ratios"]:
            largest["log_ratios"] = max(largest["log_ratios"], *map(abs, epoch))
    return largest


def sample_of(run: History, update: int, row: int) -> Row:
    """The prompt, completion and score of a kept sample."""
    found = [sample for sample in run.samples if sample["update"] == update]
    if not 0 <= row < len(found):
        raise NotReady(f"{run.name} has no sample {row} of update {update}.")
    return found[row]


# What else might have been said


def alternatives(
    policy: Policy,
    prompt: str,
    token_ids: Sequence[int],
    position: int | None = None,
    k: int = 5,
    temperature: float = 1.0,
) -> list[list[Row]]:
    """The `k` likeliest tokens at each position of a completion (or at one), as `id`, `token` and
    `probability`, for a policy as it stands; one forward pass. Hold the study's `compute` where
    something may train meanwhile."""
    found = read(policy, prompt, token_ids, k, temperature)
    return [row["likely"] for row in (found if position is None else [found[position]])]


def read(
    policy: Policy, prompt: str, token_ids: Sequence[int], k: int = 5, temperature: float = 1.0
) -> list[Row]:
    """Of each token of a completion, its `logprob` under a policy as it stands, and the `k`
    `likely` ones in its place."""
    import torch

    trunk, ids = policy.trunk, list(token_ids)
    before = trunk.encode(prompt, len(ids))
    whole = torch.tensor([before + ids], device=trunk.device)
    mask = torch.ones_like(whole, dtype=torch.bool)
    rows: list[Row] = []
    with torch.no_grad():
        hidden = policy.hidden(policy.inputs(whole, mask), mask)[0, len(before) - 1 : -1]
        tokens = whole[0, len(before) :]
        for states, chosen in zip(
            hidden.split(POSITIONS_AT_ONCE), tokens.split(POSITIONS_AT_ONCE), strict=True
        ):
            logprobs = (policy.logits(states) / temperature).log_softmax(-1)
            own = logprobs.gather(1, chosen[:, None])[:, 0].tolist()
            best = logprobs.topk(min(k, logprobs.shape[1]))
            likely = _likely(trunk.tokenizer, ids, len(rows), best)
            for logprob, others in zip(own, likely, strict=True):
                rows.append({"logprob": logprob, "likely": others})
    return rows


def _likely(tokenizer, ids: list[int], first: int, best: tuple[Tensor, Tensor]) -> list[list[Row]]:
    probabilities, found = best[0].exp().tolist(), best[1].tolist()
    return [
        [
            {"id": i, "token": piece_after(tokenizer, ids[:position][-1:], i), "probability": p}
            for i, p in zip(row, chances, strict=True)
        ]
        for position, (row, chances) in enumerate(zip(found, probabilities, strict=True), first)
    ]


def now(trainer: RolloutTrainer, update: int, row: int, k: int = 5) -> Row:
    """What policy and reference, as they stand, make of a kept sample of an update.

    Returns `at`, the update that the policy stands after; `policy` and `reference`, each as `read`
    gives it; `log_ratios` of the policy of now to that which sampled, and `clipped`: where PPO's
    clip would bind.
    """
    from .token_record import clip_binds, short

    run = trainer.run
    record = run.tokens(update)
    sample, prompt = record["rows"][row], sample_of(run, update, row)["prompt"]
    settings = run.settings_of(update) or {}
    temperature = settings.get("temperature", 1.0)
    with trainer.lock:
        at = trainer.update
        found = {
            "policy": read(trainer.policy, prompt, sample["ids"], k, temperature),
            "reference": read(trainer.reference, prompt, sample["ids"], k, temperature),
        }
    import torch

    new = torch.tensor([token["logprob"] for token in found["policy"]])
    log_ratio = new - torch.tensor(sample["logprobs"])
    binds = clip_binds(log_ratio, torch.tensor(sample["advantages"]), record["cliprange"])
    return {
        "update": update,
        "row": row,
        "at": at,
        **found,
        "log_ratios": short(log_ratio.tolist()),
        "clipped": binds.int().tolist(),
    }


# Text of single tokens


def pieces(tokenizer, token_ids: Sequence[int]) -> list[str]:
    """The text of each token, special ones too; joined they are the text of all. A character of
    several tokens belongs to its last one, and those before have no text. (Decoded alone, tokens
    lose their spaces in some tokenizers, and parts of characters turn into "\ufffd".)"""
    ids, found = list(token_ids), []
    start = read_to = 0  # what is decoded again for its context, and where new text begins
    for i in range(len(ids)):
        piece = piece_after(tokenizer, ids[start:read_to], *ids[read_to : i + 1])
        waits = i + 1 - read_to < BYTES_OF_A_CHARACTER and i + 1 < len(ids)
        if piece.endswith("\ufffd") and waits:
            found.append("")
        else:
            found.append(piece)
            start, read_to = read_to, i + 1
    return found


def piece_after(tokenizer, before: list[int], *token_ids: int) -> str:
    """What tokens add to the text of those before."""

    def text(ids: Sequence[int]) -> str:
        return tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

    context, whole = text(before), text([*before, *token_ids])
    return whole.removeprefix(context) if whole.startswith(context) else text(token_ids)
