"""Which cells of a site an intervention touches, as an index into the site's tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """The selected cells among the positions at hand.

    `index` is None for everything; `kept` says, for each dimension of a selected tensor that is cut
    short, which of the selected indices are at hand.
    """

    index: tuple[Tensor, ...] | None
    kept: tuple[tuple[int, Tensor], ...]

    def index_on(self, device: torch.device) -> tuple[Tensor, ...]:
        """The index, on the device of the tensor to be indexed."""
        assert self.index is not None
        return tuple(part.to(device) for part in self.index)


class Selection:
    """Cells chosen along named axes, crossed or zipped, in absolute positions.

    A selected tensor has one axis for each axis of the site, in their order; zipped axes are merged
    into one leading axis.
    """

    def __init__(
        self,
        axes: tuple[str, ...],
        sizes: tuple[int, ...],
        position_axis: str,
        chosen: Mapping[str, list[int]],
        paired: tuple[str, ...],
    ) -> None:
        self.axes, self.sizes, self.position_axis = axes, sizes, position_axis
        self.chosen, self.paired = dict(chosen), paired
        self.position_dim = axes.index(position_axis)
        rest = tuple(axis for axis in axes if axis not in paired)
        self.axis_names = ((" = ".join(paired),) if paired else ()) + rest
        lengths = [len(self.indices(axis)) for axis in rest]
        self.shape = ((len(chosen[paired[0]]),) if paired else ()) + tuple(lengths)
        self.selected_position_dim = self._selected_dim(position_axis)
        self._windows: dict[tuple[int, tuple[int, ...]], Window | None] = {}

    @property
    def chosen_positions(self) -> list[int] | None:
        """The absolute positions, None for all that there are."""
        return self.chosen.get(self.position_axis)

    def indices(self, axis: str) -> list[int]:
        """The chosen indices along an axis, all of them where none was chosen."""
        if axis in self.chosen:
            return self.chosen[axis]
        return list(range(self.sizes[self.axes.index(axis)]))

    def window(self, offset: int, shape: tuple[int, ...]) -> Window | None:
        """The selected cells of a tensor of the site whose first position is `offset`, or None.

        While generating, a tensor holds some positions only, and early on not yet all keys.
        """
        key = (offset, tuple(shape))
        if key not in self._windows:
            self._windows[key] = self._window(offset, shape)
        return self._windows[key]

    def take(self, value: Tensor, kept: tuple[tuple[int, Tensor], ...]) -> Tensor:
        """The part of a value of the selection's shape that belongs to a window."""
        for dim, index in kept:
            value = value.index_select(dim, index.to(value.device))
        return value

    def source_index(
        self, shape: tuple[int, ...], replaced: Mapping[str, list[int]]
    ) -> tuple[Tensor, ...]:
        """The index that picks the same cells from a source, with some axes' indices replaced."""
        return self._index({**self.chosen, **replaced}, shape)

    def _window(self, offset: int, shape: tuple[int, ...]) -> Window | None:
        chosen, kept = dict(self.chosen), []
        for axis, first in {"key": 0, self.position_axis: offset}.items():
            if axis not in chosen:
                continue
            size = shape[self.axes.index(axis)]
            inside = [n for n, i in enumerate(chosen[axis]) if first <= i < first + size]
            if not inside:
                return None
            if len(inside) < len(chosen[axis]):
                kept.append((self._selected_dim(axis), torch.tensor(inside)))
                for zipped in self.paired if axis in self.paired else (axis,):
                    chosen[zipped] = [chosen[zipped][n] for n in inside]
            chosen[axis] = [i - first for i in chosen[axis]]
        return Window(self._index(chosen, shape) if chosen else None, tuple(kept))

    def _selected_dim(self, axis: str) -> int:
        return 0 if axis in self.paired else self.axis_names.index(axis)

    def _index(self, chosen: Mapping[str, list[int]], shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        last = max(self.axes.index(axis) for axis in chosen)
        outer = [axis for axis in self.axes[: last + 1] if axis not in self.paired]
        n_dims = len(outer) + bool(self.paired)
        index = []
        for axis, size in zip(self.axes[: last + 1], shape, strict=False):
            wanted = chosen.get(axis, list(range(size)))
            dims = [1] * n_dims
            dims[0 if axis in self.paired else outer.index(axis) + bool(self.paired)] = len(wanted)
            index.append(torch.tensor(wanted).reshape(dims))
        return tuple(index)
