"""The interventions that there are, each a function that returns a frozen `Intervention`.

All take `site` and `layer` first, and the same selectors by keyword: `rows`, `positions`, `heads`,
`neurons`, `keys` (of scores and pattern), each an int or several, None for all; `paired=True` zips
them instead of crossing them. At `scores`, cells that the mask hides stay hidden whatever is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from lens_core.interventions.edit import Index, Intervention, Where, make
from lens_core.model.errors import InterventionError
from lens_core.model.sites import SITES

# Activations by key, such as the cache of another run.
Activations = Mapping[Any, Tensor]


def zero(
    site: str,
    layer: int | None = None,
    *,
    name: str = "",
    **where: Unpack[Where],
) -> Intervention:
    """Zero ablation: replace the selection by zeros.

    Example:
        >>> str(zero("z", 3, heads=[1]))
        'zero z[3] (heads=[1])'
    """
    return make(
        "zero",
        site,
        layer,
        name=name,
        **where,
    )


def set_to(
    site: str,
    layer: int | None,
    value: Tensor | float,
    *,
    name: str = "",
    **where: Unpack[Where],
) -> Intervention:
    """Replace the selection by a value.

    Args:
        value: a number, or a tensor that broadcasts to the selection: the site's axes in their
            order, each as long as its selector (or the axis): [rows, positions, d_model].
    """
    return make(
        "set",
        site,
        layer,
        tensors={"value": torch.as_tensor(value)},
        name=name,
        **where,
    )


def patch(
    site: str,
    layer: int | None,
    source: Tensor | Activations,
    *,
    source_rows: Index = None,
    source_positions: Index = None,
    name: str = "",
    **where: Unpack[Where],
) -> Intervention:
    """Activation patching: replace the selection by what another run had there.

    Vig et al. 2020 (causal mediation), Meng et al. 2022 (causal tracing), Wang et al. 2022 (IOI).

    Args:
        source: the other run's cache, or its tensor for this site, batch and positions included.
        source_rows: rows of the source, one for each patched row; by default the only row, or the
            same rows.
        source_positions: positions of the source, one for each patched one; by default the same.

    Example:
        >>> import torch
        >>> str(patch("resid_pre", 2, torch.zeros(1, 7, 16), positions=[5]))
        'patch resid_pre[2] (positions=[5])'
    """
    return make(
        "patch",
        site,
        layer,
        settings=_source_settings(source_rows, source_positions),
        tensors={"source": _from_source(source, site, layer)},
        name=name,
        **where,
    )


def add(
    site: str,
    layer: int | None,
    value: Tensor | float,
    *,
    strength: float = 1.0,
    name: str = "",
    **where: Unpack[Where],
) -> Intervention:
    """Add `strength * value` to the selection; `value` broadcasts as in `set_to`."""
    return make(
        "add",
        site,
        layer,
        settings={"strength": float(strength)},
        tensors={"value": torch.as_tensor(value)},
        name=name,
        **where,
    )


def steer(
    site: str,
    layer: int | None,
    direction: Tensor,
    *,
    strength: float = 1.0,
    name: str = "steer",
    **where: Unpack[Where],
) -> Intervention:
    """Activation steering (Turner et al. 2023): add `strength * direction` to every vector.

    Args:
        direction: Float[Tensor, "d_model"] (the site's last axis), used as it is, not normalised.
    """
    if direction.ndim != 1:
        raise InterventionError(
            "A steering direction is one vector; use add(...) for other shapes."
        )
    return add(
        site,
        layer,
        direction,
        strength=strength,
        name=name,
        **where,
    )


def scale(
    site: str,
    layer: int | None,
    factor: float,
    *,
    name: str = "",
    **where: Unpack[Where],
) -> Intervention:
    """Multiply the selection by `factor`."""
    return make(
        "scale",
        site,
        layer,
        settings={"factor": float(factor)},
        name=name,
        **where,
    )


def mean(
    site: str,
    layer: int | None,
    source: Tensor | Activations,
    *,
    per_position: bool = False,
    name: str = "",
    **where: Unpack[Where],
) -> Intervention:
    """Mean ablation: replace the selection by its mean over a reference run.

    Args:
        source: a cache of reference prompts (or its tensor for this site), without padding.
        per_position: average over the rows only and keep positions apart; scores and pattern,
            whose cells are pairs of positions, always do.
    """
    reference = _from_source(source, site, layer)
    over = (0,) if per_position or site in ("scores", "pattern") else (0, 1)
    return make(
        "mean",
        site,
        layer,
        tensors={"source": reference.mean(dim=over, keepdim=True)},
        settings=_source_settings(None, None),
        name=name,
        **where,
    )


def resample(
    site: str,
    layer: int | None,
    source: Tensor | Activations,
    *,
    seed: int = 0,
    name: str = "",
    **where: Unpack[Where],
) -> Intervention:
    """Resample ablation (Chan et al. 2022): replace each row by a random row of a reference run.

    The draw is fixed by `seed`; rows are drawn with replacement.
    """
    return make(
        "resample",
        site,
        layer,
        settings={**_source_settings(None, None), "seed": int(seed)},
        tensors={"source": _from_source(source, site, layer)},
        name=name,
        **where,
    )


def project_out(
    site: str,
    layer: int | None,
    directions: Tensor,
    *,
    name: str = "",
    **where: Unpack[Where],
) -> Intervention:
    """Remove the component along one direction, or within the span of several, from each vector.

    Args:
        directions: Float[Tensor, "d"] or Float[Tensor, "k d"] over the site's last axis; they need
            not be normalised or orthogonal, but must be linearly independent.
    """
    matrix = torch.atleast_2d(torch.as_tensor(directions)).to(torch.float64)
    if matrix.ndim != 2 or torch.linalg.matrix_rank(matrix) < matrix.shape[0]:
        raise InterventionError(
            "project_out needs a vector, or a matrix whose rows are linearly independent."
        )
    basis = torch.linalg.qr(matrix.T).Q.T.to(torch.float32)
    return make(
        "project_out",
        site,
        layer,
        tensors={"basis": basis},
        name=name,
        **where,
    )


def noise(
    site: str,
    layer: int | None = None,
    *,
    std: float,
    seed: int = 0,
    name: str = "",
    **where: Unpack[Where],
) -> Intervention:
    """Add Gaussian noise of standard deviation `std`, fixed by `seed`, different in every cell.

    The noise at a position depends on the seed, the position and the shape of the rest only, so it
    is the same whether the run is one forward pass or token by token.
    """
    return make(
        "noise",
        site,
        layer,
        settings={"std": float(std), "seed": int(seed)},
        name=name,
        **where,
    )


def custom(
    site: str,
    layer: int | None,
    function: Callable[[Tensor], Tensor],
    *,
    name: str = "custom",
    **where: Unpack[Where],
) -> Intervention:
    """Replace the selection by `function(selection)`, which must keep its shape.

    A function is code, so this one cannot be saved as JSON.
    """
    return make(
        "custom",
        site,
        layer,
        function=function,
        name=name,
        **where,
    )


def low_rank(
    site: str,
    layer: int,
    left: Tensor,
    right: Tensor,
    *,
    name: str = "",
    **where: Unpack[Where],
) -> Intervention:
    """A low-rank edit of one projection: its output y = x W + b becomes y + (x left) right.

    With k = 1 this is the form of a ROME edit (Meng et al. 2022): x is the key, `right` the value.
    It acts on the projection itself, before any post-norm or multiplier, as a change of W would.

    Args:
        site: "mlp_out" (W_out), "attn_out" (W_O), "mlp_pre" (W_in) or "mlp_gate" (W_gate).
        left: Float[Tensor, "d_in k"]; d_in is d_mlp for W_out, head times d_head for W_O.
        right: Float[Tensor, "k d_out"].
    """
    if site not in ("mlp_out", "attn_out", "mlp_pre", "mlp_gate"):
        raise InterventionError(
            f"low_rank edits the projection of mlp_out, attn_out, mlp_pre or mlp_gate, not {site}."
        )
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
        raise InterventionError("low_rank needs left [d_in, k] and right [k, d_out].")
    return make(
        "low_rank",
        site,
        layer,
        tensors={"left": left, "right": right},
        name=name,
        **where,
    )


def _from_source(source: Tensor | Activations, site: str, layer: int | None) -> Tensor:
    tensor = source if isinstance(source, Tensor) else source[site, layer]
    if site in SITES and tensor.ndim != len(SITES[site].axes):
        raise InterventionError(
            f"A source for {site} has the axes {', '.join(SITES[site].axes)}, "
            f"not the shape {tuple(tensor.shape)}."
        )
    return tensor


def _source_settings(rows: Index, positions: Index) -> dict[str, tuple[int, ...] | None]:
    def plain(index: Index) -> tuple[int, ...] | None:
        if index is None:
            return None
        return tuple(torch.as_tensor(index).reshape(-1).tolist())

    return {"source_rows": plain(rows), "source_positions": plain(positions)}


# What each operation carries: the names of its settings and of its tensors.
_SOURCE = ("source_rows", "source_positions")
ARGUMENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "zero": ((), ()),
    "set": ((), ("value",)),
    "patch": (_SOURCE, ("source",)),
    "add": (("strength",), ("value",)),
    "scale": (("factor",), ()),
    "mean": (_SOURCE, ("source",)),
    "resample": ((*_SOURCE, "seed"), ("source",)),
    "project_out": ((), ("basis",)),
    "noise": (("std", "seed"), ()),
    "low_rank": ((), ("left", "right")),
}
