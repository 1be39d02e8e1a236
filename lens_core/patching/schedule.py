"""Which cells run together: batches that share a layer to start at and a first position.

A batch computes every position from the first that one of its cells touches. Few positions a batch
save arithmetic; but every batch reads all the weights, which costs as much as some tokens do, so
neighbouring positions share a batch where that is cheaper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lens_core.model.config import ModelConfig

# Reading a layer's weights once takes about as long as computing this many tokens in it.
_WEIGHTS_IN_TOKENS = 48
_MAX_STARTS = 48
_CPU_GB, _GPU_GB = 0.5, 4.0


@dataclass(frozen=True)
class Chunk:
    """Cells of one batch, in the order in which they join it.

    Attributes:
        cells: their indices.
        layers: the layer in front of which each joins; -1: at the embeddings.
        first: the first position that is computed.
    """

    cells: tuple[int, ...]
    layers: tuple[int, ...]
    first: int


def plan_chunks(
    cfg: ModelConfig,
    starts: Mapping[int, tuple[int, int]],
    n_pos: int,
    *,
    grows: bool,
    resumes: bool,
    memory_gb: float | None,
) -> list[Chunk]:
    """Batches for cells that start at given layers and positions.

    Args:
        starts: for each cell, its first layer (-1: the embeddings) and first position.
        grows: rows may join at any layer; else a batch starts at one layer.
        resumes: positions before the first one of a batch are left out.
    """
    by_position: dict[int, list[int]] = {}
    for cell, (_, position) in starts.items():
        by_position.setdefault(position if resumes else 0, []).append(cell)
    chunks = []
    for first, cells in _merge(by_position, starts, cfg.n_layers, n_pos):
        cells = sorted(cells, key=lambda cell: starts[cell][0])
        limit = max(1, _token_limit(cfg, n_pos, memory_gb) // (n_pos - first))
        for _, same in groupby(cells, key=lambda cell: _kind(starts[cell][0], grows)):
            group = list(same)
            n_batches = -(-len(group) // limit)
            size = -(-len(group) // n_batches)
            chunks += [
                Chunk(tuple(part), tuple(starts[cell][0] for cell in part), first)
                for part in (group[i : i + size] for i in range(0, len(group), size))
            ]
    return chunks


def _kind(layer: int, grows: bool) -> int:
    """Cells of one kind can share a batch; the embeddings are made for a whole batch at once."""
    return min(layer, 0) if grows else layer


def _merge(
    by_position: Mapping[int, list[int]],
    starts: Mapping[int, tuple[int, int]],
    n_layers: int,
    n_pos: int,
) -> list[tuple[int, list[int]]]:
    """Join neighbouring first positions where that costs less, by dynamic programming."""
    firsts = sorted(by_position)
    if len(firsts) > _MAX_STARTS:
        step = -(-len(firsts) // _MAX_STARTS)
        joined = [firsts[i : i + step] for i in range(0, len(firsts), step)]
    else:
        joined = [[first] for first in firsts]
    groups = [[cell for first in part for cell in by_position[first]] for part in joined]
    work = [sum(n_layers - max(starts[cell][0], 0) for cell in group) for group in groups]
    depth = [n_layers - max(min(starts[cell][0] for cell in group), 0) for group in groups]
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(groups) + 1):
        options = []
        for begin in range(end):
            width = n_pos - joined[begin][0]
            cost = sum(work[begin:end]) * width + _WEIGHTS_IN_TOKENS * max(depth[begin:end])
            options.append((best[begin][0] + cost, begin))
        best.append(min(options))
    merged, end = [], len(groups)
    while end:
        begin = best[end][1]
        merged.append((joined[begin][0], [c for group in groups[begin:end] for c in group]))
        end = begin
    return merged[::-1]


def _token_limit(cfg: ModelConfig, n_pos: int, memory_gb: float | None) -> int:
    """How many tokens fit into a batch, from the tensors that a block keeps at one time."""
    if memory_gb is None:
        memory_gb = _CPU_GB if cfg.device.type == "cpu" else _GPU_GB
    width = 8 * cfg.d_model + 4 * (cfg.d_mlp or 4 * cfg.d_model) + 3 * cfg.n_heads * n_pos
    return max(1, int(memory_gb * 1e9 / (width * cfg.dtype.itemsize)))
