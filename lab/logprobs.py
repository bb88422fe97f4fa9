"""Log-probs of tokens without the logits: those of a whole rollout would fill the memory.

SmolLM2's logits of 16 completions of 24 tokens are 75 MB, and automatic differentiation keeps them
four times over. Here a few rows are held at a time, and what is kept is one vector a token.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS_AT_ONCE = 256  # 50 MB of SmolLM2's logits


class TokenLogprobs(torch.autograd.Function):
    """log softmax(W·h / T) at one token a row.

    Its gradient by h is (W[token] - Σ_v p_v·W[v]) / T. It is computed in the forward pass, while
    the probabilities p are there, and only multiplied in the backward one. That by W, where W is
    trained, is (1[v = token] - p_v)·h / T; it computes the probabilities again.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, tokens: Tensor, temperature: float) -> Tensor:
        slope = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        result = hidden.new_empty(len(hidden))
        for first in range(0, len(hidden), ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            chosen, log_total, probs = softmax_of(hidden[part], weight, tokens[part], temperature)
            result[part] = chosen - log_total
            if slope is not None:
                slope[part] = (weight[tokens[part]] - probs @ weight) / temperature
        ctx.save_for_backward(hidden, weight, tokens, slope)
        ctx.temperature = temperature
        return result

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, tokens, slope = ctx.saved_tensors
        by_hidden = None if slope is None else gradient[:, None] * slope
        if not ctx.needs_input_grad[1]:
            return by_hidden, None, None, None
        scaled = gradient[:, None] * hidden / ctx.temperature
        by_weight = torch.zeros_like(weight).index_add_(0, tokens, scaled)
        for first in range(0, len(hidden), ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            probs = softmax_of(hidden[part], weight, tokens[part], ctx.temperature)[2]
            by_weight.addmm_(probs.t(), scaled[part], alpha=-1)
        return by_hidden, by_weight, None, None


def softmax_of(
    hidden: Tensor, weight: Tensor, tokens: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the tokens [N], the logarithm of the softmax's denominator [N], and probabilities
    [N, V]; the logits become the probabilities in place."""
    logits = hidden @ weight.t()
    if temperature != 1:
        logits /= temperature
    chosen = logits.gather(1, tokens[:, None])[:, 0]
    largest = logits.amax(1, keepdim=True)
    probs = logits.sub_(largest).exp_()
    total = probs.sum(1, keepdim=True)
    return chosen, (largest + total.log())[:, 0], probs.div_(total)
