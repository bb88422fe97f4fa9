"""Muon: an optimizer that moves a weight matrix by the same amount in every direction.

A gradient of a matrix has a few strong directions and many weak ones, and rare words live in the
weak ones. Muon (Jordan et al. 2024) replaces the momentum UΣVᵀ by about UVᵀ, so that they are
learned as soon as the others. `torch.optim.Muon` does it in bfloat16, which processors without
instructions for it multiply many times slower; this one computes in the weights' own type.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic, from the same source
ITERATIONS = 5
MATRIX_RATE = 2.0  # a matrix's learning rate, as a multiple of that of the vectors


class Muon(torch.optim.AdamW):
    """Muon for matrices, AdamW for vectors and embeddings.

    An update of a matrix has a root mean square of 0.2, about that of AdamW's (Liu et al. 2025,
    equation 4), times MATRIX_RATE.

    Args:
        matrices: weights [out, in] of linear layers, among `parameters`.
        parameters: all that is trained.
        lr: learning rate.
        momentum: of the matrices (Nesterov's).
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
    ) -> None:
        self.matrices, self.momentum = list(matrices), momentum
        super().__init__(parameters, lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update from the gradients; those of the matrices are used up by it."""
        rate = self.param_groups[0]["lr"] * MATRIX_RATE
        alike: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for matrix in self.matrices:
            if matrix.grad is not None:
                state = self.state[matrix]
                if not state:  # AdamW expects a count of steps of whatever has a state
                    state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(matrix)}
                kept = state["momentum"]
                kept.lerp_(matrix.grad, 1 - self.momentum)
                alike[matrix.shape].append((matrix, matrix.grad.lerp(kept, self.momentum)))
                matrix.grad = None
        for shape, pairs in alike.items():
            moves = orthogonal(torch.stack([move for _, move in pairs])) * 0.2 * max(shape) ** 0.5
            for (matrix, _), move in zip(pairs, moves, strict=True):
                matrix.sub_(move, alpha=rate)
        super().step()


def orthogonal(matrices: Tensor) -> Tensor:
    """About UVᵀ of each matrix UΣVᵀ [..., M, N]: Newton-Schulz iterations, which bring every
    singular value near 1."""
    a, b, c = COEFFICIENTS
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if tall := x.shape[-2] > x.shape[-1]:
        x = x.mT
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
