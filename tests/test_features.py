"""A matrix that grows: its rows stay what they were, and few of them are copied."""

from __future__ import annotations

import numpy as np

from lab.features import Rows


def test_rows_added_one_by_one_are_those_of_the_whole_and_seldom_copied():
    whole = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    rows, buffers = Rows(3), []
    for row in whole:
        rows.append(row[None])
        if not buffers or rows.view.base is not buffers[-1]:
            buffers.append(rows.view.base)
    assert rows.count == 500 and np.array_equal(rows.view, whole)
    assert len(buffers) < 12


def test_a_narrow_row_ends_in_zeros():
    rows = Rows(4)
    rows.append(np.ones((2, 2)))
    rows.append(np.full((1, 4), 2.0))
    assert rows.view.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [2, 2, 2, 2]]
