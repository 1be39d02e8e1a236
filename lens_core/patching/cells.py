"""What is patched where: cells of an experiment, each one run of the model with some writes in it.

A `Write` names a place; a `Cell` is one patched run, of one row of a base; `Sources` hold what is
written. `run_cells` in engine.py carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lens_core.model.sites import SITES
from lens_core.patching.errors import PatchingError

if TYPE_CHECKING:
    from lens_core import HookedModel

Place = tuple[str, int | None]
# For each place that a cell may write, what is written: [row of the base, ...] as in the site.
Sources = Mapping[Place, Tensor]

_BEFORE_BLOCKS = ("embed", "pos_embed")
AFTER_BLOCKS = ("ln_final", "logits")
# Sites whose change at one position reaches later positions in the same layer.
_SPREADING = ("resid_pre", "attn_in", "k", "v")


@dataclass(frozen=True)
class Write:
    """One place in one run. None stands for all; negative positions count from the end.

    Attributes:
        site, layer: as everywhere; layer is None for the sites that a model has once.
        positions: of scores and pattern, the query's; of k and v, the key's.
        heads: heads, or key-value heads of k and v.
        neurons: columns of mlp_pre, mlp_gate, mlp_post.
        keys: attended-to positions of scores and pattern.
    """

    site: str
    layer: int | None
    positions: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    neurons: tuple[int, ...] | None = None
    keys: tuple[int, ...] | None = None

    @property
    def place(self) -> Place:
        """The site and its layer."""
        return self.site, self.layer


@dataclass(frozen=True)
class Cell:
    """One patched run: the base's row that is run again, and what is written into it."""

    writes: tuple[Write, ...]
    row: int = 0


def start_layer(cell: Cell, n_layers: int) -> int:
    """The layer from which a cell's run differs from the base; -1: from the embeddings."""
    first = n_layers - 1
    for write in cell.writes:
        if write.layer is not None:
            first = min(first, write.layer)
        elif write.site in _BEFORE_BLOCKS:
            first = -1
    return first


def start_position(cell: Cell, n_pos: int) -> int:
    """The first position that a cell's run can differ from the base at."""
    if any(write.positions is None for write in cell.writes):
        return 0
    return min(p % n_pos for write in cell.writes for p in write.positions or ())


def reaches_answer(cell: Cell, n_layers: int, n_pos: int) -> bool:
    """Whether anything a cell writes can reach the last position's logits."""
    for write in cell.writes:
        last = write.layer == n_layers - 1 and write.site not in _SPREADING
        if not (last or write.site in AFTER_BLOCKS) or write.positions is None:
            return True
        if n_pos - 1 in {p % n_pos for p in write.positions}:
            return True
    return False


def check_writes(
    model: HookedModel, cells: Sequence[Cell], sources: Sources, shape: Sequence[int]
) -> None:
    """Refuse a cell that cannot be carried out.

    Raises:
        PatchingError: a site that the model lacks, an index outside of it, or no source for it.
    """
    for write in {write for cell in cells for write in cell.writes}:
        if write.site not in SITES or not model.has_site(*write.place):
            why = "" if write.site not in SITES else f": {model.why_missing(*write.place)}"
            raise PatchingError(f"{model.cfg.name} has no {write.site} there{why}.")
        if write.place not in sources:
            raise PatchingError(f"There is no source for {write.site} at layer {write.layer}.")
        source = sources[write.place]
        axes = SITES[write.site].axes
        if source.ndim != len(axes) or source.shape[0] != shape[0]:
            raise PatchingError(
                f"The source of {write.site} has the shape {list(source.shape)}; it needs the axes "
                f"{' '.join(axes)}, with one row for each of the {shape[0]} of the base."
            )
        for axis, chosen in chosen_indices(write).items():
            size = source.shape[axes.index(axis)] if axis in axes else 0
            if any(not -size <= i < size for i in chosen):
                raise PatchingError(
                    f"{write.site} has {size} along the axis {axis}; {list(chosen)} do not fit."
                )
    n_rows = shape[0]
    for cell in cells:
        if not cell.writes or not 0 <= cell.row < n_rows:
            raise PatchingError(f"A cell needs a write, and a row of the base's {n_rows}.")


class Writer:
    """The writes of many rows at one site and layer, as an edit that a run carries out.

    Attributes:
        edit: the place; applied: whether it was reached.
    """

    def __init__(self, place: Place, source: Tensor) -> None:
        self.edit, self.source, self.applied = place, source, False
        self.axes = SITES[place[0]].axes
        self._windowed = "pos" if "pos" in self.axes else "key"
        self._index: dict[tuple[str, ...], list[Tensor]] = {}
        self._tables: dict[tuple[str, ...], Tensor] = {}

    def add(self, row: int, base_row: int, write: Write) -> None:
        """Have `row` of the run written, from `base_row` of the source."""
        chosen = chosen_indices(write)
        names = tuple(axis for axis in self.axes[1:] if axis in chosen)
        lists = [
            torch.tensor([i % self.source.shape[self.axes.index(axis)] for i in chosen[axis]])
            for axis in names
        ]
        grid = torch.cartesian_prod(*lists).reshape(-1, len(lists)) if lists else _NOTHING
        rows = torch.tensor([[row, base_row]]).expand(len(grid), 2)
        self._index.setdefault(names, []).append(torch.cat([rows, grid], dim=1))

    def freeze(self) -> None:
        """Join what was added; nothing can be added after."""
        self._tables = {names: torch.cat(parts).T for names, parts in self._index.items()}

    def apply(self, x: Tensor, offset: int) -> Tensor:
        """Write into `x`, whose first position is the absolute one `offset`."""
        self.applied = True
        for names, table in self._tables.items():
            if self._windowed in names:
                table = table[:, table[2 + names.index(self._windowed)] >= offset]
            there, here = table.to(self.source.device), table.to(x.device)
            values = self.source[self._select(names, there[1], there[2:], x.shape, offset)]
            into = self._select(names, here[0], here[2:], x.shape, offset, moved=-offset)
            x[into] = values.to(x)
        return x

    def _select(
        self,
        names: tuple[str, ...],
        rows: Tensor,
        chosen: Tensor,
        shape: torch.Size,
        offset: int,
        moved: int = 0,
    ) -> tuple[Tensor, ...]:
        """An index of the chosen cells: [entry, every index of the axes that were not chosen]."""
        last = max(self.axes.index(axis) for axis in (self._windowed, *names))
        open_axes = [axis for axis in self.axes[1 : last + 1] if axis not in names]
        index = [rows]
        for dim, axis in enumerate(self.axes[1 : last + 1], start=1):
            if axis in names:
                part = chosen[names.index(axis)]
                index.append(part + moved if axis == self._windowed else part)
                continue
            part = torch.arange(shape[dim], device=rows.device)
            part = part + offset + moved if axis == self._windowed else part
            sizes = [1] * (1 + len(open_axes))
            sizes[1 + open_axes.index(axis)] = shape[dim]
            index.append(part.reshape(sizes))
        extra = [1] * len(open_axes)
        return tuple(
            part.reshape(-1, *extra) if dim == 0 or self.axes[dim] in names else part
            for dim, part in enumerate(index)
        )


_NOTHING = torch.zeros(1, 0, dtype=torch.long)


def chosen_indices(write: Write) -> dict[str, tuple[int, ...]]:
    """The indices along each axis that a write names."""
    axes = SITES[write.site].axes
    heads = "head" if "head" in axes else "kv_head"
    positions = "pos" if "pos" in axes else "key"
    given = {
        positions: write.positions,
        heads: write.heads,
        "neuron": write.neurons,
        **({"key": write.keys} if "pos" in axes else {}),
    }
    return {axis: chosen for axis, chosen in given.items() if chosen is not None}
