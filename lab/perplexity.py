"""How surprised a model is by text it never read, and what to compare that with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .statistics import Z95

if TYPE_CHECKING:
    from .policy import Policy

DISCOUNT = 0.75  # taken off each count for what was never seen


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean loss of a token, with its 95 % interval clustered by document."""

    value: float
    low: float
    high: float
    tokens: int

    def __str__(self) -> str:
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"

    @classmethod
    def of(cls, losses: Sequence[float], tokens: Sequence[int]) -> Perplexity:
        """From the summed loss (nats) and the number of tokens of each document."""
        loss, size = np.asarray(losses, dtype=float), np.asarray(tokens, dtype=float)
        mean, count = loss.sum() / size.sum(), len(loss)
        spread = ((loss - mean * size) ** 2).sum() * count / max(1, count - 1)  # ratio estimator
        half = Z95 * np.sqrt(spread) / size.sum() if count > 1 else np.inf
        value, low, high = np.exp([mean, mean - half, mean + half])
        return cls(float(value), float(low), float(high), int(size.sum()))


def perplexity(policy: Policy, texts: Sequence[str]) -> Perplexity:
    """Of a model on documents, each from its beginning to its end of sequence."""
    from .sequences import Sequences

    trunk = policy.trunk
    documents = documents_of(trunk.tokenizer, trunk.end, texts, trunk.context)
    sequences = Sequences(trunk, [trunk.end] * len(documents), documents)
    losses = (-sequences.total_logprobs(policy)).tolist()
    return Perplexity.of(losses, [len(ids) for ids in documents])


def documents_of(
    tokenizer, end: list[int], texts: Sequence[str], context: int = 1 << 30
) -> list[list[int]]:
    """Token ids of documents with the end of sequence, cut where the context ends."""
    rows = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [[*ids, *end][: context - 1] for ids in rows]


class Bigram:
    """The next token from the last one alone: counts, smoothed as Kneser and Ney did (1995).

    Args:
        tokens: a long row of token ids.
        vocabulary: how many different tokens there are.
    """

    def __init__(self, tokens: Sequence[int], vocabulary: int) -> None:
        from scipy.sparse import coo_array

        ids = np.asarray(tokens)
        ones = np.ones(len(ids) - 1)
        shape = (vocabulary, vocabulary)
        self.counts = coo_array((ones, (ids[:-1], ids[1:])), shape).tocsr()  # adds what is double
        self.before = np.asarray(self.counts.sum(1)).ravel()
        different = self.counts.copy()
        different.data = np.ones_like(different.data)
        self.followers = np.asarray(different.sum(1)).ravel()  # of each token, how many different
        contexts = np.asarray(different.sum(0)).ravel()
        self.continuation = (contexts + 1) / (contexts + 1).sum()  # 1 more: nothing is impossible

    def perplexity(self, documents: Sequence[Sequence[int]], end: int) -> Perplexity:
        """Of documents of token ids, each after an end of sequence."""
        losses = [-self.logprobs([end, *ids]).sum() for ids in documents]
        return Perplexity.of(losses, [len(ids) for ids in documents])

    def logprobs(self, ids: Sequence[int]) -> np.ndarray:
        """Log-prob of each token but the first, given the one before it."""
        last, token = np.asarray(ids[:-1]), np.asarray(ids[1:])
        count = np.asarray(self.counts[last, token]).ravel()
        before = np.maximum(self.before[last], 1)
        kept = np.where(self.before[last] > 0, DISCOUNT * self.followers[last] / before, 1.0)
        found = np.maximum(count - DISCOUNT, 0) / before
        return np.log(found + kept * self.continuation[token])


def seen(train: Sequence[str], heldout: Sequence[str], n: int = 8) -> float:
    """Share of the n-grams of words of held-out texts that training texts have too."""
    known = {gram for text in train for gram in grams(text, n)}
    found = [gram in known for text in heldout for gram in grams(text, n)]
    return sum(found) / len(found) if found else 0.0


def grams(text: str, n: int) -> list[int]:
    """The n-grams of words of a text, each as one number."""
    words = text.lower().split()
    return [hash(tuple(words[i : i + n])) for i in range(len(words) - n + 1)]
