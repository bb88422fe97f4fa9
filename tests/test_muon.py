"""Muon moves a matrix alike in all directions, and everything else as AdamW does."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lab.muon import MATRIX_RATE, Muon, orthogonal


@pytest.mark.parametrize("shape", [(6, 6), (4, 10), (3, 10, 4)])
def test_every_singular_value_comes_near_one_and_the_directions_stay(shape) -> None:
    u, s, vt = torch.linalg.svd(torch.randn(*shape, dtype=torch.float64), full_matrices=False)
    found = orthogonal(u @ torch.diag_embed(s) @ vt)
    assert torch.linalg.svdvals(found).sub(1).abs().max() < 0.4
    inside = u.mT @ found @ vt.mT
    assert torch.allclose(inside, torch.diag_embed(inside.diagonal(dim1=-2, dim2=-1)), atol=1e-6)


def test_a_weak_direction_of_the_gradient_is_taken_as_far_as_a_strong_one() -> None:
    matrix = nn.Parameter(torch.zeros(4, 4))
    optimizer = Muon([matrix], [matrix], lr=0.01)
    matrix.grad = torch.diag(torch.tensor([1.0, 0.5, 0.1, 0.05]))
    optimizer.step()
    moves = -matrix.detach().diagonal() / (0.01 * MATRIX_RATE * 0.2 * 2)  # 0.2 · √4
    assert moves.min() > 0.6 and moves.max() < 1.4


def test_vectors_move_as_adamw_moves_them() -> None:
    start, grads = torch.randn(5), torch.randn(3, 5)
    mine, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    optimizers = [
        Muon([], [mine], lr=0.1),
        torch.optim.AdamW([theirs], 0.1, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for grad in grads:
        for parameter, optimizer in zip((mine, theirs), optimizers, strict=True):
            parameter.grad = grad.clone()
            optimizer.step()
    assert torch.allclose(mine, theirs, atol=1e-6)


def test_a_state_that_is_loaded_goes_on_as_it_would_have() -> None:
    torch.manual_seed(0)
    pairs = [[nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(4))] for _ in range(2)]
    first, second = (Muon(pair[:1], pair, lr=0.1) for pair in pairs)
    grads = [(torch.randn(3, 4), torch.randn(4)) for _ in range(4)]

    def step(pair, optimizer, grad) -> None:
        for parameter, g in zip(pair, grad, strict=True):
            parameter.grad = g.clone()
        optimizer.step()

    for grad in grads[:2]:
        step(pairs[0], first, grad)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    with torch.no_grad():
        for to, come_to in zip(pairs[1], pairs[0], strict=True):
            to.copy_(come_to)
    for grad in grads[2:]:
        step(pairs[0], first, grad)
        step(pairs[1], second, grad)
    assert all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))
