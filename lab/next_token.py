"""What a model expects next: the distribution that everything else is drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .sampling import check_sampling

if TYPE_CHECKING:
    from .policy import Policy


def next_tokens(
    policy: Policy, text: str, count: int = 10, temperature: float = 1.0
) -> list[tuple[str, float]]:
    """The likeliest next tokens after a text, each with its probability, likeliest first.

    Args:
        text: plain text as it is, without a turn of chat around it.
        temperature: logits are divided by it: below 1 sharpens, above 1 flattens.

    Raises:
        BadSetting: the temperature is out of its range.
    """
    import torch

    check_sampling(1, temperature, 1.0)
    trunk = policy.trunk
    ids = [*trunk.end, *trunk.tokenizer(text, add_special_tokens=False)["input_ids"]]
    rows = torch.tensor([ids[-trunk.context :]], device=trunk.device)
    with torch.no_grad():
        seen = torch.ones_like(rows, dtype=torch.bool)
        logits = policy.logits(policy.hidden(policy.inputs(rows, seen), seen)[0, -1])
    probs = torch.softmax(logits / max(temperature, 1e-6), -1)
    top = probs.topk(min(count, len(probs)))
    words = [trunk.tokenizer.decode([i]) for i in top.indices.tolist()]
    return list(zip(words, top.values.tolist(), strict=True))
