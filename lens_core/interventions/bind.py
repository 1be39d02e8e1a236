"""From an intervention as data to the operation that a run carries out.

Binding happens before the run, when batch, positions and the model's sizes are known: everything
that can be wrong is found here. A `BoundEdit` belongs to one run and notes whether it applied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lens_core.interventions.edit import Intervention, selector_axis
from lens_core.interventions.select import Selection
from lens_core.model.errors import InterventionError
from lens_core.model.sites import SITES

# Which of the selected indices are at hand, for each dimension of the selection that is cut short.
Kept = tuple[tuple[int, Tensor], ...]
Operation = Callable[[Tensor, Kept], Tensor]


@dataclass(frozen=True)
class Frame:
    """What a run looks like at one site: the size of each axis, prompt length, and full length."""

    sizes: Mapping[str, int]
    n_prompt: int
    n_total: int


class BoundEdit:
    """One intervention in one run.

    Attributes:
        edit: the intervention.
        applied: whether it has changed, or could have changed, any cell yet.
    """

    def __init__(self, edit: Intervention, frame: Frame) -> None:
        self.edit = edit
        self.applied = False
        self.selection = _select(edit, frame)
        self._operation = _OPERATIONS[edit.op](edit, self.selection, frame)

    def apply(self, x: Tensor, offset: int) -> Tensor:
        """Edit `x` (which this run owns), whose first position is the absolute one `offset`."""
        window = self.selection.window(offset, x.shape)
        if window is None:
            return x
        self.applied = True
        if window.index is None:
            new = self._checked(x, window.kept)
            # A value may be one vector shown many times, or the caller's own: the run owns a copy.
            return new if new is x else new.clone()
        index = window.index_on(x.device)
        x[index] = self._checked(x[index], window.kept)
        return x

    def _checked(self, x: Tensor, kept: Kept) -> Tensor:
        new = self._operation(x, kept)
        if not isinstance(new, Tensor) or new.shape != x.shape:
            shape = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
            raise InterventionError(
                f"{self.edit} must return a tensor of the shape {tuple(x.shape)}, not {shape}."
            )
        return new.to(x.dtype)


class BoundLowRank:
    """A low-rank edit in one run: what it adds to a projection's output."""

    def __init__(self, edit: Intervention, frame: Frame, d_in: int, d_out: int) -> None:
        self.edit = edit
        self.applied = False
        self.selection = _select(edit, frame)
        self.left, self.right = edit.tensors["left"], edit.tensors["right"]
        if self.left.shape[0] != d_in or self.right.shape[1] != d_out:
            raise InterventionError(
                f"{edit}: the projection maps {d_in} to {d_out}, so left is [{d_in}, k] and right "
                f"[k, {d_out}], not {list(self.left.shape)} and {list(self.right.shape)}."
            )

    def apply(self, x: Tensor, y: Tensor, offset: int) -> Tensor:
        """`y` plus this edit's term; `x` and `y` are [batch, pos, ...], input and output."""
        window = self.selection.window(offset, y.shape)
        if window is None:
            return y
        self.applied = True
        left, right = (t.to(x.device, x.dtype) for t in (self.left, self.right))
        if window.index is None:
            return y + (x @ left) @ right
        index = window.index_on(y.device)
        y = y.clone()
        y[index] = y[index] + (x[index] @ left) @ right
        return y


def _select(edit: Intervention, frame: Frame) -> Selection:
    """Resolve negative indices and the positions that a value implies; refuse what is outside."""
    site = SITES[edit.site]
    chosen: dict[str, list[int]] = {}
    for selector, index in edit.selectors.items():
        axis = selector_axis(site, selector)
        assert axis is not None  # checked when the intervention was made
        size = frame.sizes[axis]
        if selector in ("positions", "keys"):
            chosen[axis] = _resolve(edit, selector, index, frame.n_prompt, frame.n_total)
        else:
            chosen[axis] = _resolve(edit, selector, index, size, size)
    position_axis = selector_axis(site, "positions")
    assert position_axis is not None
    for axis in {position_axis, "key"} & set(site.axes) - set(chosen):
        implied = _implied(edit, frame, site.axes, axis)
        if implied is not None:
            chosen[axis] = implied
    paired = tuple(
        axis for s in edit.selectors if edit.paired and (axis := selector_axis(site, s)) is not None
    )
    sizes = tuple(frame.sizes[axis] for axis in site.axes)
    return Selection(site.axes, sizes, position_axis, chosen, paired)


def _resolve(
    edit: Intervention, selector: str, index: tuple[int, ...], from_end: int, size: int
) -> list[int]:
    resolved = [i + from_end if i < 0 else i for i in index]
    for given, i in zip(index, resolved, strict=True):
        if not 0 <= i < size:
            raise InterventionError(
                f"{edit}: there is no {selector.removesuffix('s')} {given}; this run has {size}."
            )
    return resolved


def _implied(
    edit: Intervention, frame: Frame, axes: tuple[str, ...], axis: str
) -> list[int] | None:
    """The positions (or keys) of an edit that names none: those its tensor has.

    None means all that there are and will be; the position of noise must be known to draw it.
    """
    if edit.op == "noise":
        return list(range(frame.n_total))
    tensor = edit.tensors.get("source", None if edit.paired else edit.tensors.get("value"))
    if tensor is None:
        return None
    dim = axes.index(axis) - len(axes) + tensor.ndim
    size = tensor.shape[dim] if dim >= 0 else 1
    if size == 1 and edit.op not in ("patch", "resample"):
        return None
    if size != frame.n_prompt:
        raise InterventionError(
            f"{edit}: its tensor has {size} positions and the prompt {frame.n_prompt}; "
            "say which positions are meant."
        )
    return list(range(size))


def _broadcast(edit: Intervention, value: Tensor, selection: Selection) -> Tensor:
    try:
        return value.expand(torch.broadcast_shapes(value.shape, selection.shape))
    except RuntimeError:
        raise InterventionError(
            f"{edit}: a tensor of the shape {list(value.shape)} does not fit the selection "
            f"{list(selection.shape)} ({' '.join(selection.axis_names)})."
        ) from None


def _fixed(edit: Intervention, value: Tensor, selection: Selection) -> Operation:
    """The operation that puts a value, known before the run, into the selection."""
    value = _broadcast(edit, value, selection)
    if value.shape != torch.Size(selection.shape):
        raise InterventionError(
            f"{edit}: a tensor of the shape {list(value.shape)} is larger than the selection "
            f"{list(selection.shape)} ({' '.join(selection.axis_names)})."
        )

    def put(x: Tensor, kept: Kept) -> Tensor:
        return selection.take(value, kept).to(x.device, x.dtype).expand(x.shape)

    return put


def _zero(edit: Intervention, selection: Selection, frame: Frame) -> Operation:
    return lambda x, kept: torch.zeros_like(x)


def _set(edit: Intervention, selection: Selection, frame: Frame) -> Operation:
    return _fixed_or_open(edit, edit.tensors["value"], selection)


def _fixed_or_open(edit: Intervention, value: Tensor, selection: Selection) -> Operation:
    """Like `_fixed`; a value without positions of its own also serves positions yet to come."""
    put = _fixed(edit, value, selection)
    if selection.chosen_positions is not None:
        return put
    return lambda x, kept: value.to(x.device, x.dtype).expand(x.shape)


def _patch(edit: Intervention, selection: Selection, frame: Frame) -> Operation:
    rows, positions = edit.settings["source_rows"], edit.settings["source_positions"]
    assert rows is None or isinstance(rows, tuple)
    assert positions is None or isinstance(positions, tuple)
    return _fixed(edit, _pick(edit, selection, rows, positions), selection)


def _resample(edit: Intervention, selection: Selection, frame: Frame) -> Operation:
    seed = edit.settings["seed"]
    assert isinstance(seed, int)
    generator = torch.Generator().manual_seed(seed)
    n_rows = len(selection.indices("batch"))
    drawn = torch.randint(edit.tensors["source"].shape[0], (n_rows,), generator=generator)
    return _fixed(edit, _pick(edit, selection, tuple(drawn.tolist()), None), selection)


def _pick(
    edit: Intervention,
    selection: Selection,
    rows: tuple[int, ...] | None,
    positions: tuple[int, ...] | None,
) -> Tensor:
    """The part of a source that goes into the selection."""
    source = edit.tensors["source"]
    wanted_rows = selection.indices("batch")
    wanted_positions = selection.indices(selection.position_axis)
    if rows is None:
        rows = (0,) * len(wanted_rows) if source.shape[0] == 1 else tuple(wanted_rows)
    if positions is None:
        positions = tuple(wanted_positions)
    for what, given, wanted in (
        ("source_rows", rows, wanted_rows),
        ("source_positions", positions, wanted_positions),
    ):
        if len(given) != len(wanted):
            raise InterventionError(
                f"{edit}: {len(given)} {what} for {len(wanted)} places; give one for each."
            )
    replaced = {"batch": list(rows), selection.position_axis: list(positions)}
    try:
        return source[selection.source_index(source.shape, replaced)]
    except IndexError:
        raise InterventionError(
            f"{edit}: the source has the shape {list(source.shape)}, which does not cover it."
        ) from None


def _mean(edit: Intervention, selection: Selection, frame: Frame) -> Operation:
    value = edit.tensors["source"]
    picked = {
        axis: list(range(size)) if size == 1 else selection.indices(axis)
        for axis, size in zip(selection.axes, value.shape, strict=True)
    }
    for dim, axis in enumerate(selection.axes):
        if value.shape[dim] > 1 and axis in selection.chosen:
            index = torch.tensor(picked[axis], device=value.device)
            if int(index.max()) >= value.shape[dim]:
                raise InterventionError(
                    f"{edit}: the reference has the shape {list(value.shape)} and does not cover "
                    f"{axis} {int(index.max())}."
                )
            value = value.index_select(dim, index)
    return _fixed_or_open(edit, value, selection)


def _add(edit: Intervention, selection: Selection, frame: Frame) -> Operation:
    strength = edit.settings["strength"]
    assert isinstance(strength, float)
    put = _fixed_or_open(edit, edit.tensors["value"], selection)
    return lambda x, kept: x + strength * put(x, kept)


def _scale(edit: Intervention, selection: Selection, frame: Frame) -> Operation:
    factor = edit.settings["factor"]
    assert isinstance(factor, float)
    return lambda x, kept: x * factor


def _project_out(edit: Intervention, selection: Selection, frame: Frame) -> Operation:
    basis = edit.tensors["basis"]
    if basis.shape[-1] != selection.shape[-1]:
        raise InterventionError(
            f"{edit}: its directions have {basis.shape[-1]} entries, not {selection.shape[-1]}."
        )

    def remove(x: Tensor, kept: Kept) -> Tensor:
        b = basis.to(x.device, x.dtype)
        return x - (x @ b.T) @ b

    return remove


def _noise(edit: Intervention, selection: Selection, frame: Frame) -> Operation:
    seed, std = edit.settings["seed"], edit.settings["std"]
    assert isinstance(seed, int)
    assert isinstance(std, float)
    shape = list(selection.shape)
    dim = selection.selected_position_dim
    columns = []
    for position in selection.indices(selection.position_axis):
        # One generator a position: a longer run must not change the noise of earlier positions.
        generator = torch.Generator().manual_seed((seed * 1_000_003 + position) % 2**63)
        cell = [size for d, size in enumerate(shape) if d != dim]
        columns.append(torch.randn(cell, generator=generator))
    value = torch.stack(columns, dim=dim) * std
    put = _fixed(edit, value, selection)
    return lambda x, kept: x + put(x, kept)


def _custom(edit: Intervention, selection: Selection, frame: Frame) -> Operation:
    function = edit.function
    assert function is not None
    return lambda x, kept: function(x)


_OPERATIONS: dict[str, Callable[[Intervention, Selection, Frame], Operation]] = {
    "zero": _zero,
    "set": _set,
    "patch": _patch,
    "resample": _resample,
    "mean": _mean,
    "add": _add,
    "scale": _scale,
    "project_out": _project_out,
    "noise": _noise,
    "custom": _custom,
}
