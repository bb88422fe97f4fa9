"""The features of a study's completions as one matrix in memory, read once and added to."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from .errors import NotReady
from .store import PreferenceStore

AT_ONCE = 1024  # rows turned into float64 at a time: they stay in the processor's cache


class Rows:
    """A matrix that grows by rows; its memory doubles, so that adding one copies none."""

    def __init__(self, width: int, dtype=np.float32) -> None:
        self._buffer = np.zeros((0, width), dtype)
        self.count = 0

    def append(self, rows: np.ndarray) -> None:
        """Add rows [n, at most the width]; what they lack on the right is 0."""
        end = self.count + len(rows)
        if end > len(self._buffer):
            larger = np.zeros((max(end, 2 * self.count), self._buffer.shape[1]), self._buffer.dtype)
            larger[: self.count] = self._buffer[: self.count]
            self._buffer = larger
        self._buffer[self.count : end, : rows.shape[1]] = rows
        self.count = end

    @property
    def view(self) -> np.ndarray:
        """The rows so far [count, width], not a copy."""
        return self._buffer[: self.count]


class FeatureTable:
    """Features [n, H] that a store keeps under one extractor's name, found by completion id.

    Several threads may ask; each asks the store only for what it has not read.
    """

    def __init__(self, store: PreferenceStore, extractor: str) -> None:
        self._store, self._extractor = store, extractor
        self._matrix: Rows | None = None
        self._row: dict[int, int] = {}
        self._lock = threading.Lock()

    def rows(self, ids: Sequence[int]) -> np.ndarray:
        """Where in the matrix the completions are. Raises NotReady if the store lacks one."""
        with self._lock:
            if any(i not in self._row for i in ids):
                self._read(after=max(self._row, default=0))
            if any(i not in self._row for i in ids):  # an older one, whose features came later
                self._read(after=0)
            if missing := [i for i in ids if i not in self._row]:
                raise NotReady(f"Completions {missing[:5]} have no features yet: read them first.")
            return np.array([self._row[i] for i in ids], dtype=int)

    def _read(self, after: int) -> None:
        found = self._store.features(self._extractor, after)
        new = [i for i in found if i not in self._row]
        if new:
            vectors = np.stack([found[i] for i in new])
            self._matrix = self._matrix or Rows(vectors.shape[1])
            self._row |= {i: self._matrix.count + n for n, i in enumerate(new)}
            self._matrix.append(vectors)

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """Features [n, H], as they are stored: float32."""
        rows = self.rows(ids)
        return self._matrix.view[rows]

    def project(self, ids: Sequence[int], weight: np.ndarray) -> np.ndarray:
        """w·φ [n] of completions, for w [H], in float64."""
        rows = self.rows(ids)
        parts = [rows[first : first + AT_ONCE] for first in range(0, len(rows), AT_ONCE)]
        found = [self._matrix.view[part].astype(np.float64) @ weight for part in parts]
        return np.concatenate([np.zeros(0), *found])
