"""What the columns of a step are called: in words for the glass models, by number for others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lens_core.glass import copying, facts, induction, lookup
from lens_core.lens.token_text import token_text

if TYPE_CHECKING:
    from lens_core.model.hooked_model import HookedModel


_STREAMS = {
    copying.NAME: copying.COLUMNS,
    induction.NAME: induction.COLUMNS,
    lookup.NAME: induction.COLUMNS,
    facts.NAME: facts.COLUMNS,
}


def column_labels(
    model: HookedModel, name: str, layer: int | None, tokens: Sequence[str], width: int
) -> tuple[str, ...]:
    """The names of the last axis of a step.

    Args:
        tokens: the prompt's, which name the columns of scores and patterns.
        width: the size of that axis.
    """
    if name == "tokens":
        return ("id",)
    if name in ("scores", "masked", "pattern"):
        return tuple(f"{position} {token}" for position, token in enumerate(tokens))
    if name in ("logits", "probabilities"):
        return tuple(token_text(model, i) for i in range(width))
    stream, numbers = _STREAMS.get(model.cfg.name), tuple(str(i) for i in range(width))
    if stream is None:
        return numbers
    if name in ("mlp_pre", "mlp_post"):
        if model.cfg.name == facts.NAME:
            return facts.NEURONS[layer or 0]
        return tuple(f"neuron {i}" for i in range(width))
    if layer is not None and name in ("q", "k", "v", "z"):
        # In the models of several heads each head uses its dimensions for something else.
        return head_labels(name, layer) if model.cfg.name == copying.NAME else numbers
    return stream


def head_labels(name: str, layer: int) -> tuple[str, ...]:
    """glass-copy's names for the dimensions of q and k, or of v and z, in a block."""
    table = copying.QK_COLUMNS if name in ("q", "k") else copying.V_COLUMNS
    used = table[layer]
    return (*used, *(f"unused {i}" for i in range(len(used), copying.D_MODEL)))


def weight_labels(name: str, layer: int | None) -> tuple[tuple[str, ...], ...]:
    """glass-copy's names for the axes of a weight of one head: rows, and columns if any.

    Example:
        >>> rows, columns = weight_labels("W_K", 1)
        >>> rows[0], columns[4]
        ('is <s>', 'rest')
    """
    stream, neuron = copying.COLUMNS, ("neuron 0",)
    if name == "W_E":
        return copying.VOCABULARY, stream
    if name == "W_pos":
        return tuple(f"position {i}" for i in range(copying.N_CTX)), stream
    if name == "W_U":
        return stream, copying.VOCABULARY
    block = 0 if layer is None else layer
    if name in ("W_Q", "W_K", "W_V"):
        return stream, head_labels(name[-1].lower(), block)
    if name in ("b_Q", "b_K", "b_V"):
        return (head_labels(name[-1].lower(), block),)
    return {
        "W_O": (head_labels("z", block), stream),
        "W_in": (stream, neuron),
        "W_out": (neuron, stream),
        "b_in": (neuron,),
        "b_O": (stream,),
        "b_out": (stream,),
    }[name]
