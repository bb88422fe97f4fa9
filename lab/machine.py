"""The limit of this machine for one PPO update: the products it needs, at the speed they run here.

An update is counted as stages. A stage multiplies `rows` rows of states by the weight matrices of
some layers, `passes` times. Attention over so short a text, norms, activations, the softmax over
the vocabulary and the clipping are left out, filler too: the limit is a lower bound on the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from .policy import Policy
from .split import find_layers

FLOAT = 4  # bytes
ADAM_BYTES = 8 * FLOAT  # a parameter: the norm reads its gradient, Adam reads p, g, m, v, writes
# p, m and v
BUFFER = 128 * 2**20  # floats: half a gigabyte, more than caches hold


@dataclass(frozen=True)
class Stage:
    """Products of one kind.

    Attributes:
        phase: "sampling" or "training".
        matrices: weights [out, in], each read once a pass.
        rows: rows of states that go through them.
        gradients: 1 where a pass goes on to the gradient of its input, 2 where to that of the
            weights too: each is a product of the same size as the forward one.
    """

    phase: str
    matrices: Sequence[Tensor]
    rows: int
    passes: int
    gradients: int = 0

    @property
    def flops(self) -> int:
        """2 · rows · Σ in·out · (1 + gradients) · passes: a multiplication and an addition for
        each row and weight."""
        weights = sum(w.numel() for w in self.matrices)
        return 2 * self.rows * weights * (1 + self.gradients) * self.passes

    @property
    def bytes(self) -> int:
        """4 · Σ in·out · (1 + gradients) · passes: each product reads or writes every weight."""
        weights = sum(w.numel() for w in self.matrices)
        return FLOAT * weights * (1 + self.gradients) * self.passes

    def seconds(self) -> float:
        """Measured: one pass of just these products on these weights, times `passes`."""
        return median_seconds(self._products()) * self.passes if self.passes else 0.0

    def _products(self) -> Callable[[], None]:
        """One pass, into memory that is already there."""
        weights = [w.detach() for w in self.matrices]
        states = {n: torch.randn(self.rows, n) for n in {n for w in weights for n in w.shape}}
        out = {n: torch.empty_like(x) for n, x in states.items()}
        gradient = {w.shape: torch.empty_like(w) for w in weights} if self.gradients == 2 else {}

        def run() -> None:
            for w in weights:
                above, below = w.shape
                torch.mm(states[below], w.t(), out=out[above])
                if self.gradients:
                    torch.mm(states[above], w, out=out[below])
                if self.gradients == 2:
                    torch.mm(states[above].t(), states[below], out=gradient[w.shape])

        return run


def stages(policy: Policy, prompt_tokens: int, batch: int, tokens: int, epochs: int) -> list[Stage]:
    """The products of one update of a policy that trains k of n layers.

    Sampling: the prompts, which the trunk has read before, go through the top k layers at once,
    then `tokens` - 1 times a row for each completion through all n; the last token, drawn but never
    read, goes through the trunk's n - k for the reward head. `lm_head` reads a row a completion for
    each token. A policy that is not split reads prompts with all its layers, and half of them read
    the rollout once more for the reward head.

    Training: the trunk's states are kept, so prompts and completions go through the top k alone, in
    each epoch once forward and twice backward. The reference has read the prompts before (unless
    its layers attend in windows): it reads completions, but for their last token, once. `lm_head`
    reads the states of completions alone; frozen, it has the gradient of its input only. (The
    log-probs from sampling are the old ones, so there is no further pass for them.)

    Args:
        prompt_tokens: of all prompts of the batch together.
    """
    trunk, top = layer_matrices(policy.trunk.body), layer_matrices(policy.top)
    head, split = [policy.head.weight], policy.trunk.split
    drawn = batch * tokens
    everything, trained = prompt_tokens + drawn, 1 if split else 2
    whole = trunk + top if split else top
    recalled = split and policy.new_cache().growing
    return [
        Stage("sampling", top, prompt_tokens, 1),
        Stage("sampling", whole, batch, tokens - 1),
        Stage("sampling", trunk, batch if split else everything, 1),
        Stage("sampling", head, batch, tokens),
        Stage("training", top, drawn - batch if recalled else everything, 1),
        Stage("training", head, drawn, 1),
        Stage("training", top, everything, epochs, gradients=2),
        Stage("training", head, drawn, epochs, gradients=trained),
    ]


def layer_matrices(body: nn.Module) -> list[Tensor]:
    """The weight matrices of a model's layers; embeddings and norms multiply nothing."""
    return [p for p in find_layers(body)[1].parameters() if p.dim() == 2]


def limit(work: Sequence[Stage], trained_parameters: int, epochs: int) -> dict:
    """What the work needs, and what this machine takes for it at least.

    `seconds` is the measured time of the stages' products alone, and of Adam's traffic: 32 bytes a
    trained parameter and epoch, at the speed of a copy. `roofline_seconds` is stricter: for each
    stage max(flops / fastest product, bytes / fastest reading), which no product of these shapes
    reaches.
    """
    speed = machine_speed()
    flops_rate, read_rate = speed["gflops"] * 1e9, speed["read_gb_per_second"] * 1e9
    traffic = ADAM_BYTES * trained_parameters * epochs
    adam = traffic / (speed["copy_gb_per_second"] * 1e9)
    seconds = {"sampling": 0.0, "training": adam}
    for stage in work:
        seconds[stage.phase] += stage.seconds()
    return {
        "seconds": sum(seconds.values()),
        "sampling_seconds": seconds["sampling"],
        "training_seconds": seconds["training"],
        "roofline_seconds": adam
        + sum(max(s.flops / flops_rate, s.bytes / read_rate) for s in work),
        "flops": sum(s.flops for s in work),
        "weight_bytes": sum(s.bytes for s in work) + traffic,
        "machine": speed,
    }


def machine_speed() -> dict:
    """The fastest product, reading and copying that this process gets from the machine."""
    square, source, target = torch.randn(2048, 2048), torch.ones(BUFFER), torch.ones(BUFFER)
    product = median_seconds(lambda: torch.mm(square, square))
    copied = median_seconds(lambda: target.copy_(source))
    read = median_seconds(lambda: source.sum())
    return {
        "gflops": 2 * 2048**3 / product / 1e9,
        "read_gb_per_second": FLOAT * BUFFER / read / 1e9,
        "copy_gb_per_second": 2 * FLOAT * BUFFER / copied / 1e9,  # read and written
        "threads": torch.get_num_threads(),
    }


@torch.no_grad()
def median_seconds(action: Callable[[], object]) -> float:
    """Median time of an action, after one that is not counted: of 25 times, or of as many (but at
    least 5) as go into a second."""
    action()
    times: list[float] = []
    while len(times) < 5 or (len(times) < 25 and sum(times) < 1):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return median(times)
