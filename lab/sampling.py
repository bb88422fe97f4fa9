"""Batched sampling that keeps what training needs: ids, log-probs, lengths, trunk states.

Prompts are padded on the left, so that all completions start in the same column:

    [ pad pad prompt prompt | completion completion eos pad ]
      <------ prompt_width -->
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .errors import BadSetting
from .policy import Policy
from .samples import Samples, join
from .trunk import Trunk, positions_of


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int = 24,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    value_head: nn.Module | None = None,
    rows_at_once: int = 1024,
    on_token: Callable[[list[list[int]]], None] | None = None,
) -> Samples:
    """Draw one completion for each prompt (token ids; repeat a prompt to draw several).

    Args:
        max_new_tokens: where a completion that has not ended is cut off.
        temperature: logits are divided by it, for the log-probs too; 0 takes the likeliest token.
        top_p: nucleus sampling, for exploring. Rollouts need 1.0: log-probs are then exact.
        seed: the same seed gives every model the same random numbers, row by row.
        value_head: evaluated on the hidden state that each token is drawn from.
        rows_at_once: more are sampled in chunks; it changes nothing but memory and time.
        on_token: called after each token with the ids that each row of a chunk has so far.
    """
    check_sampling(max_new_tokens, temperature, top_p)
    generator = torch.Generator().manual_seed(seed)
    uniforms = torch.rand(len(prompts), max_new_tokens, generator=generator)
    drawing = (temperature, top_p, value_head, on_token)
    parts = [
        sample_chunk(policy, prompts[first : first + rows_at_once], part, *drawing)
        for first, part in zip(
            range(0, len(prompts), rows_at_once), uniforms.split(rows_at_once), strict=True
        )
    ]
    return parts[0] if len(parts) == 1 else join(parts)


def sample_chunk(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    uniforms: Tensor,
    temperature: float,
    top_p: float,
    value_head: nn.Module | None,
    on_token: Callable[[list[list[int]]], None] | None,
) -> Samples:
    """One batch of `sample`; `uniforms` [B, C] are its random numbers."""
    trunk, device = policy.trunk, policy.trunk.device
    ids, mask = pad_left(prompts, trunk.pad_id, device)
    (rows, width), columns = ids.shape, uniforms.shape[1]
    uniforms = uniforms.to(device)
    eos = torch.tensor(sorted(trunk.eos_ids), device=device)
    trunk_cache = trunk.new_cache() if trunk.split else None
    top_cache = policy.new_cache()

    tokens = torch.full((rows, columns), trunk.pad_id, device=device)
    logprobs, values = torch.zeros(2, rows, columns, device=device)
    lengths = torch.zeros(rows, dtype=torch.long, device=device)
    finished = torch.zeros(rows, dtype=torch.bool, device=device)
    # Trunk states of `live` rows, those still in the batch, at each step.
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    live = torch.arange(rows, device=device)
    step_ids, step_mask, positions = ids, mask, None
    for t in range(columns):
        step = step_ids
        if trunk.split:
            if t == 0:
                step, features = trunk.read_prompts(prompts, ids, mask, trunk_cache)
            else:
                step, features = trunk.read(step_ids, step_mask, trunk_cache, positions)
            kept.append((live, step, features))
        hidden = policy.hidden(step, step_mask, top_cache, positions)[:, -1]
        alive = ~finished[live]
        if 4 * alive.sum() <= 3 * len(live):  # those that ended have had their last token read
            index = alive.nonzero()[:, 0]
            live, hidden, step_mask, alive = (
                live[index],
                hidden[index],
                step_mask[index],
                alive[index],
            )
            for cache in (trunk_cache, top_cache):
                if cache is not None:
                    cache.batch_select_indices(index)
        token, logprob = draw(policy.logits(hidden), temperature, top_p, uniforms[live, t])
        tokens[live, t] = torch.where(alive, token, trunk.pad_id)
        logprobs[live, t] = torch.where(alive, logprob, 0.0)
        if value_head is not None:
            values[live, t] = torch.where(alive, value_head(hidden).squeeze(-1), 0.0)
        lengths[live] += alive
        finished[live] |= alive & torch.isin(token, eos)
        step_mask = torch.cat([step_mask, alive[:, None]], 1)
        step_ids, positions = tokens[live, t][:, None], step_mask.sum(1, keepdim=True) - 1
        if on_token:
            on_token(cut_rows(tokens, lengths))
        if finished.all():
            break

    longest = int(lengths.max())
    ids = torch.cat([ids, tokens[:, :longest]], 1)
    mask = torch.cat([mask, torch.arange(longest, device=device) < lengths[:, None]], 1)
    if trunk.split:
        # The last token was drawn but never read: read it once, so that a rollout is pooled over
        # the same positions as a stored completion.
        kept.append((live, *trunk.read(step_ids, step_mask, trunk_cache, positions)))
        inputs = spread([(rows_of, step) for rows_of, step, _ in kept], rows)
        states = spread([(rows_of, features) for rows_of, _, features in kept], rows)
    else:
        inputs, states = ids, trunk.read(ids, mask)[1]
    return Samples(
        ids=ids,
        mask=mask,
        prompt_width=width,
        lengths=lengths,
        finished=finished,
        logprobs=logprobs[:, :longest],
        values=values[:, :longest] if value_head is not None else None,
        inputs=inputs,
        states=states,
    )


def cut_rows(tokens: Tensor, lengths: Tensor) -> list[list[int]]:
    """Rows of tokens [B, C] as lists, each up to its length [B]."""
    rows = zip(tokens.tolist(), lengths.tolist(), strict=True)
    return [ids[:length] for ids, length in rows]


def spread(parts: Sequence[tuple[Tensor, Tensor]], rows: int) -> Tensor:
    """States [rows, columns, H] from those of each step, zeros where a row had left the batch."""
    result = []
    for index, states in parts:
        if len(index) < rows:
            whole = states.new_zeros(rows, *states.shape[1:])
            whole[index] = states
            states = whole
        result.append(states)
    return torch.cat(result, 1)


def draw(
    logits: Tensor, temperature: float, top_p: float, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """One token a row from logits [B, V], by inverting the cumulative distribution at `uniform`
    [B]; and its log-prob. (One random number a row: `torch.multinomial` draws one for each word
    of the vocabulary, which was 18 % of generation.)"""
    if temperature == 0:
        token = logits.argmax(-1)
        return token, logits.log_softmax(-1).gather(1, token[:, None])[:, 0]
    scaled = logits if temperature == 1 else logits / temperature
    largest = scaled.amax(-1, keepdim=True)
    mass = (scaled - largest).exp_()
    log_total = largest + mass.sum(-1, keepdim=True).log()
    if top_p < 1:
        mass = keep_nucleus(mass / mass.sum(-1, keepdim=True), top_p)
    cumulative = mass.cumsum(-1)
    total = cumulative[:, -1:]
    # Just below the total even after rounding, so that the drawn token always has mass.
    point = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    token = torch.searchsorted(cumulative, point, right=True).clamp(max=logits.shape[1] - 1)
    return token[:, 0], (scaled.gather(1, token) - log_total)[:, 0]


def keep_nucleus(probs: Tensor, top_p: float) -> Tensor:
    """Zero all but the smallest set of tokens whose mass reaches top_p (Holtzman et al. 2020)."""
    ordered, index = probs.sort(-1, descending=True)
    kept = ordered.cumsum(-1) - ordered < top_p
    return torch.zeros_like(probs).scatter(-1, index, torch.where(kept, ordered, 0.0))


def read(trunk: Trunk, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]):
    """Features [B, 2·H] of stored completions: the same numbers as `Samples.features()`."""
    device = trunk.device
    ids, mask = pad_left(prompts, trunk.pad_id, device)
    width = max((len(c) for c in completions), default=0)
    tail = torch.full((len(completions), width), trunk.pad_id)
    tail_mask = torch.zeros(len(completions), width, dtype=torch.bool)
    for row, completion in enumerate(completions):
        tail[row, : len(completion)] = torch.tensor(completion, dtype=torch.long)
        tail_mask[row, : len(completion)] = True
    ids = torch.cat([ids, tail.to(device)], 1)
    mask = torch.cat([mask, tail_mask.to(device)], 1)
    states = trunk.read(ids, mask)[1]
    return Trunk.pool(states[:, ids.shape[1] - width :], tail_mask.to(device))


def pad_left(rows: Sequence[Sequence[int]], pad_id: int, device) -> tuple[Tensor, Tensor]:
    """Token ids and mask [B, longest row], filler on the left."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = True
    return ids.to(device), mask.to(device)


def check_sampling(max_new_tokens: int, temperature: float, top_p: float) -> None:
    """Raises BadSetting where a sampling setting is out of its range."""
    if not 1 <= max_new_tokens <= 4096:
        raise BadSetting(f"max_new_tokens={max_new_tokens}: give a number from 1 to 4096.")
    if not 0 <= temperature <= 5:
        raise BadSetting(f"temperature={temperature}: give a number from 0 to 5.")
    if not 0 < top_p <= 1:
        raise BadSetting(f"top_p={top_p}: give a number above 0, up to 1.")


def logprobs(policy: Policy, samples: Samples, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Log-prob [B, C] of each sampled token under a policy, 0 past the ends; and the hidden
    states [B, C, H] that the tokens were drawn from.

    Logits are computed for real tokens alone, never for filler and never for the prompt.
    """
    hidden = policy.hidden(samples.inputs, samples.mask)
    first = samples.prompt_width - 1  # the state before a token is the one that predicts it
    hidden = hidden[:, first : first + samples.completion_ids.shape[1]]
    mask = samples.completion_mask
    found = policy.token_logprobs(hidden[mask], samples.completion_ids[mask], temperature or 1.0)
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, found), hidden


@torch.no_grad()
def frozen_logprobs(policy: Policy, samples: Samples, temperature: float = 1.0) -> Tensor:
    """The log-probs [B, C] of `logprobs`, of a policy that never trains: what it made of a prompt
    is kept, and only completions are read."""
    width, cache = samples.prompt_width, policy.new_cache()
    if not (policy.trunk.split and cache.growing):
        return logprobs(policy, samples, temperature)[0]
    rows = zip(samples.ids[:, :width], samples.mask[:, :width], strict=True)
    prompts, _ = policy.recall.batch(policy, [ids[mask].tolist() for ids, mask in rows], cache)
    hidden = prompts[:, -1:]  # what the first token was drawn from
    if samples.completion_ids.shape[1] > 1:
        mask = samples.mask[:, samples.prompt_width - prompts.shape[1] : -1]
        positions = positions_of(mask)[:, prompts.shape[1] :]
        after = policy.hidden(samples.inputs[:, width:-1], mask, cache, positions)
        hidden = torch.cat([hidden, after], 1)
    real = samples.completion_mask
    found = policy.token_logprobs(hidden[real], samples.completion_ids[real], temperature or 1.0)
    return torch.zeros(real.shape, device=real.device).masked_scatter(real, found)
