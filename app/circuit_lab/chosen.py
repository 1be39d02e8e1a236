"""Which heads are kept: as text for the address, as nodes for the library, as a click for both."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

import streamlit as st

from lens_core.circuits import (
    Circuit,
    CircuitError,
    Node,
    every_node,
    named_nodes,
    nodes_text,
    sorted_nodes,
)

if TYPE_CHECKING:
    from lens_core import HookedModel

CIRCUIT = "circuit"


def nodes_of(model: HookedModel, text: str, *, all_mlps: bool) -> tuple[Node, ...]:
    """The nodes that a text names; where all MLPs are kept anyway those it names are passed over.

    Raises:
        CircuitError: a word that names no part, or none of this model.
    """
    nodes = [node for node in named_nodes(text) if node[1] is not None or not all_mlps]
    Circuit.of("asked", nodes).check(model)
    return tuple(nodes)


def take(nodes: Iterable[Node]) -> None:
    """Keep these and no others."""
    st.session_state[CIRCUIT] = nodes_text(nodes)


def toggle(model: HookedModel, node: Node, *, all_mlps: bool) -> None:
    """Keep it if it is not kept, and else no longer."""
    try:
        nodes = set(nodes_of(model, st.session_state.get(CIRCUIT) or "", all_mlps=all_mlps))
    except CircuitError:
        nodes = set()  # what cannot be read is begun anew
    take(nodes ^ {node})


def random_nodes(model: HookedModel, n: int, seed: int) -> tuple[Node, ...]:
    """As many heads drawn at random."""
    heads = every_node(model)
    return sorted_nodes(random.Random(seed).sample(heads, min(max(n, 0), len(heads))))
