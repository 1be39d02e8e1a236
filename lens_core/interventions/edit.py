"""An intervention as data: what to do, where, and in which rows, positions and heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypedDict

import torch
from torch import Tensor

from lens_core.model.errors import InterventionError, LensError
from lens_core.model.sites import DERIVED, SITES, Site, parse_site

Index = int | Sequence[int] | Tensor | None
Setting = float | int | str | bool | tuple[int, ...] | None


class Where(TypedDict, total=False):
    """The selectors, as keyword arguments of every intervention."""

    rows: Index
    positions: Index
    heads: Index
    neurons: Index
    keys: Index
    paired: bool


# Where each selector looks for its axis; k and v have one axis of positions, that of the keys.
SELECTOR_AXES: dict[str, tuple[str, ...]] = {
    "rows": ("batch",),
    "positions": ("pos", "key"),
    "heads": ("head", "kv_head"),
    "neurons": ("neuron",),
    "keys": ("key",),
}


@dataclass(frozen=True, eq=False)
class Intervention:
    """One frozen, named, serialisable edit of a run. Make one with `zero`, `patch`, `steer`, ...

    Attributes:
        op: what is done, for example "patch".
        site, layer: where; layer is None for the sites that a model has once.
        rows: rows of the batch; None means all (the same for the other selectors).
        positions: columns of the token matrix, absolute over prompt and generated tokens, padding
            included; negative ones count from the end of the prompt.
        heads: heads (of q, z, scores, pattern) or key-value heads (of k, v).
        neurons: columns of mlp_pre, mlp_gate, mlp_post.
        keys: attended-to positions of scores and pattern.
        paired: the given selectors are zipped (row 0 with position 0, ...), not crossed.
        settings, tensors, function: the operation's own arguments.
        name: for lists and reports.
    """

    op: str
    site: str
    layer: int | None
    rows: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    neurons: tuple[int, ...] | None = None
    keys: tuple[int, ...] | None = None
    paired: bool = False
    settings: Mapping[str, Setting] = field(default_factory=lambda: MappingProxyType({}))
    tensors: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    function: Callable[[Tensor], Tensor] | None = None
    name: str = ""

    @property
    def selectors(self) -> dict[str, tuple[int, ...]]:
        """The selectors that were given, by name."""
        return {s: chosen for s in SELECTOR_AXES if (chosen := getattr(self, s)) is not None}

    def __str__(self) -> str:
        where = self.site if self.layer is None else f"{self.site}[{self.layer}]"
        parts = [f"{name}={list(chosen)}" for name, chosen in self.selectors.items()]
        return f"{self.name or self.op} {where}" + (f" ({', '.join(parts)})" if parts else "")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Intervention):
            return NotImplemented
        if _plain_fields(self) != _plain_fields(other) or set(self.tensors) != set(other.tensors):
            return False
        return all(_same_tensor(t, other.tensors[name]) for name, t in self.tensors.items())

    def __hash__(self) -> int:
        return hash((self.op, self.site, self.layer, self.rows, self.positions, self.heads))


def make(
    op: str,
    site: str,
    layer: int | None,
    *,
    rows: Index = None,
    positions: Index = None,
    heads: Index = None,
    neurons: Index = None,
    keys: Index = None,
    paired: bool = False,
    settings: Mapping[str, Setting] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
    function: Callable[[Tensor], Tensor] | None = None,
    name: str = "",
) -> Intervention:
    """Check what can be checked without a model, and freeze it.

    Raises:
        InterventionError: no such site, a layer that is missing or superfluous, a selector for an
            axis that the site does not have, an empty selection, unequal paired selectors.
    """
    where = _editable_site(site, layer)
    chosen = {
        "rows": _indices("rows", rows),
        "positions": _indices("positions", positions),
        "heads": _indices("heads", heads),
        "neurons": _indices("neurons", neurons),
        "keys": _indices("keys", keys),
    }
    given = {selector: index for selector, index in chosen.items() if index is not None}
    for selector in given:
        if selector_axis(where, selector) is None:
            raise InterventionError(f"The site {site} has no axis for {selector}; leave it out.")
    if paired and (len(given) < 2 or len({len(index) for index in given.values()}) != 1):
        raise InterventionError(
            "paired=True zips selectors: give two or more of them, all of the same length."
        )
    for label, tensor in (tensors or {}).items():
        if not isinstance(tensor, Tensor):
            raise InterventionError(f"{op} needs a tensor for {label}, not {tensor!r:.60}.")
    return Intervention(
        op=op,
        site=site,
        layer=layer,
        paired=paired,
        settings=MappingProxyType(dict(settings or {})),
        tensors=MappingProxyType(dict(tensors or {})),
        function=function,
        name=name,
        **chosen,
    )


def selector_axis(site: Site, selector: str) -> str | None:
    """The axis of a site that a selector selects from, None if there is none."""
    if selector == "keys" and "pos" not in site.axes:
        return None
    return next((axis for axis in SELECTOR_AXES[selector] if axis in site.axes), None)


def _editable_site(site: str, layer: int | None) -> Site:
    if site in DERIVED:
        raise InterventionError(
            f"{site} is computed from {DERIVED[site][0]} after the run; edit {DERIVED[site][0]}."
        )
    try:
        parse_site((site, layer))
    except LensError as error:
        raise InterventionError(str(error)) from None
    if site not in SITES:
        raise InterventionError(f"Name the site and the layer separately: not {site!r}.")
    if SITES[site].per_layer and layer is None:
        raise InterventionError(f"The site {site} exists in every layer; say which.")
    return SITES[site]


def _indices(selector: str, index: Index) -> tuple[int, ...] | None:
    if index is None:
        return None
    if isinstance(index, int):
        return (index,)
    values = index.reshape(-1).tolist() if isinstance(index, Tensor) else list(index)
    if not values:
        raise InterventionError(f"{selector} is empty: the intervention would apply nowhere.")
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        raise InterventionError(f"{selector} are whole numbers, not {values!r:.60}.")
    return tuple(values)


def _plain_fields(edit: Intervention) -> tuple[Any, ...]:
    return (
        (edit.op, edit.site, edit.layer, edit.name, edit.paired, edit.function),
        edit.selectors,
        dict(edit.settings),
    )


def _same_tensor(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu()))
