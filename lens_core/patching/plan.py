"""What a sweep covers: the options along each axis, crossed into cells."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from lens_core.model.execute import site_sizes
from lens_core.model.sites import SITES
from lens_core.patching.cells import Cell, Place, Write
from lens_core.patching.errors import PatchingError
from lens_core.patching.groups import Group
from lens_core.patching.result import Array, Label

if TYPE_CHECKING:
    from lens_core import HookedModel

# "each": one cell for each; "all": all at once; or which, several at once where a tuple stands.
Choice = Literal["each", "all"] | Sequence[Label]
Options = Sequence[tuple[Label | None, tuple[int, ...] | None]]
_ALL: Options = ((None, None),)


class Choices(NamedTuple):
    """What is swept along each axis, as `sweep` is told."""

    layers: Sequence[Label] | None = None
    positions: Choice = "each"
    heads: Choice | None = None
    neurons: Choice | None = None
    keys: Choice | None = None


@dataclass(frozen=True)
class Plan:
    """What is swept: the options along each axis, crossed."""

    site: str
    layers: Options
    positions: Options
    heads: Options
    neurons: Options
    keys: Options

    @property
    def _swept(self) -> dict[str, Options]:
        named = {
            "layer": self.layers,
            "position": self.positions,
            "head": self.heads,
            "neuron": self.neurons,
            "key": self.keys,
        }
        return {axis: options for axis, options in named.items() if options[0][0] is not None}

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of what is swept."""
        return tuple(self._swept)

    @property
    def labels(self) -> dict[str, tuple[Label, ...]]:
        """What each index along an axis stands for."""
        return {
            axis: tuple(label for label, _ in options if label is not None)
            for axis, options in self._swept.items()
        }

    @property
    def shape(self) -> tuple[int, ...]:
        """How many along each axis."""
        return tuple(len(options) for options in self._swept.values())

    @property
    def n_cells(self) -> int:
        """How many patched runs a pair."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def places(self) -> list[Place]:
        """Where anything is written."""
        layers = {layer for _, chosen in self.layers for layer in chosen or (None,)}
        return [
            (self.site, layer) for layer in sorted(layers, key=lambda n: -1 if n is None else n)
        ]

    def cells(self, group: Group, only: Container[int] | None = None) -> tuple[Array, list[Cell]]:
        """The cells of a group's pairs (or only some), and the index of each in the sweep.

        Positions without a counterpart in the other prompt are left out.
        """
        index, cells = [], []
        for row, matched in enumerate((group.other.position >= 0).tolist()):
            every = None if all(matched) else tuple(p for p, ok in enumerate(matched) if ok)
            options = product(self.layers, self.positions, self.heads, self.neurons, self.keys)
            for number, (layer, position, head, neuron, key) in enumerate(options):
                where = every if position[1] is None else position[1]
                if where is not None and not all(matched[p] for p in where):
                    continue
                if only is not None and number not in only:
                    continue
                cells.append(
                    Cell(
                        tuple(
                            Write(self.site, n, where, head[1], neuron[1], key[1])
                            for n in layer[1] or (None,)
                        ),
                        row,
                    )
                )
                index.append(number)
        return np.array(index, dtype=int), cells


def make_plan(model: HookedModel, groups: Sequence[Group], site: str, choices: Choices) -> Plan:
    """The axes of a sweep.

    Raises:
        PatchingError: a choice that the site or the prompts do not have.
    """
    if site not in SITES or site not in model.sites:
        raise PatchingError(
            f"{model.cfg.name} has no site {site!r}; it has {', '.join(model.sites)}."
        )
    layers, positions, heads, neurons, keys = choices
    axes, has = SITES[site].axes, model.sites[site]
    if has is None and layers is not None:
        raise PatchingError(f"{site} exists once in a model; leave out layers.")
    lengths = {group.tokens.shape[1] for group in groups}
    if len(lengths) > 1 and (_from_start(positions) or _from_start(keys or "all")):
        raise PatchingError(
            f"The patched prompts have {min(lengths)} to {max(lengths)} tokens, so a position "
            'does not mean the same in all of them; use positions="all", negative positions, '
            "or prompts of one length."
        )
    n_pos = min(lengths)
    sizes = site_sizes(model, site, (has or (None,))[0])
    n_heads = sizes[{"head", "kv_head"}.intersection(axes).pop()] if len(axes) == 4 else 0
    n_neurons = sizes["neuron"] if "neuron" in axes else 0
    n_keys = n_pos if {"pos", "key"} <= set(axes) else 0
    return Plan(
        site,
        _ALL if has is None else _options("layer", layers or list(has), model.cfg.n_layers),
        _options("position", positions, n_pos),
        _axis("head", heads, "each", n_heads),
        _axis("neuron", neurons, "all", n_neurons),
        _axis("key", keys, "all", n_keys),
    )


def _from_start(choice: Choice) -> bool:
    """Whether positions are counted from the start."""
    if isinstance(choice, str):
        return choice == "each"
    return any(i >= 0 for label in choice for i in _indices(label))


def _axis(name: str, choice: Choice | None, default: Choice, size: int) -> Options:
    if size:
        return _options(name, default if choice is None else choice, size)
    if choice is not None:
        raise PatchingError(f"This site has no axis of {name}s; leave out {name}s.")
    return _ALL


def _options(name: str, choice: Choice, size: int) -> Options:
    """Labels with the indices that they stand for; ("all", everything at once) has no label."""
    if choice == "all":
        return _ALL
    if choice == "each":
        return [(i, (i,)) for i in range(size)]
    if not isinstance(choice, Sequence) or isinstance(choice, str) or not choice:
        raise PatchingError(f'{name.capitalize()}s are "each", "all" or a list, not {choice!r}.')
    options = []
    for label in choice:
        indices = _indices(label)
        if not indices or any(not -size <= i < size for i in indices):
            raise PatchingError(f"There is no {name} {label}; there are {size}.")
        # Positions stay as they are: from the end, they fit prompts of several lengths.
        counted = name in ("position", "key")
        options.append((label, indices if counted else tuple(i % size for i in indices)))
    return options


def _indices(label: Label) -> tuple[int, ...]:
    return label if isinstance(label, tuple) else (label,)
