"""Work that circuits share: what keeps the same in the first layers is run once for all of them.

A circuit and the circuit less a head of layer 6 hold the same residual streams up to layer 6. All
that completeness and minimality compare are such families, so most of their layers are one run.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True)
class SharedRun:
    """Consecutive layers in which no circuit parts from another.

    Attributes:
        start, stop: the layers, the last one excluded.
        circuits: one circuit for each residual stream of the run.
        parents: for each of them, which residual stream of the run before it goes on from.
    """

    start: int
    stop: int
    circuits: tuple[int, ...]
    parents: tuple[int, ...]


def shared_runs(
    kept: Bool[Tensor, "circuit layer *place"],
) -> tuple[tuple[SharedRun, ...], tuple[int, ...]]:
    """The runs, and for each circuit which residual stream of the last one is its own.

    >>> import torch
    >>> kept = torch.tensor([[[True], [True]], [[True], [False]], [[True], [True]]])
    >>> runs, branch = shared_runs(kept)
    >>> [(run.start, run.stop, run.circuits) for run in runs], branch
    ([(0, 1, (0,)), (1, 2, (0, 1))], (0, 1, 0))
    """
    n_circuits, n_layers = kept.shape[:2]
    flat = kept.cpu().numpy()
    branch = [0] * n_circuits
    runs: list[SharedRun] = []
    for layer in range(n_layers):
        places: dict[tuple[int, bytes], int] = {}
        first: list[int] = []
        own = []
        for circuit in range(n_circuits):
            name = (branch[circuit], flat[circuit, layer].tobytes())
            if name not in places:
                places[name] = len(first)
                first.append(circuit)
            own.append(places[name])
        if runs and len(first) == len(runs[-1].circuits):
            last = runs[-1]
            runs[-1] = SharedRun(last.start, layer + 1, last.circuits, last.parents)
        else:
            parents = tuple(branch[circuit] for circuit in first)
            runs.append(SharedRun(layer, layer + 1, tuple(first), parents))
        branch = own
    return tuple(runs), tuple(branch)
