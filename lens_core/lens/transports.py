"""Transports: what carries a state from the middle of the model to where the head can read it.

Every lens is one head (`lens_core.lens.head`) after one of these. A state is named by its *depth*:
the number of blocks that wrote into it, from 0 (the embedding) to ``n_layers`` (the last state,
which every transport leaves as it is). The conventions of the published files are this number
under other names: a tuned lens keeps translator ``i`` for depth ``i`` (the input of block ``i``), a
Jacobian lens keeps matrix ``l`` for the output of block ``l``, which is depth ``l + 1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from lens_core.lens.errors import LensMismatchError

if TYPE_CHECKING:
    from lens_core import HookedModel

States = Float[Tensor, "batch pos d_model"]
Provenance = Mapping[str, Any]


def depth_of(site: str, layer: int) -> int:
    """How many blocks wrote into the state at a site; a part of a block counts as its input.

    >>> depth_of("resid_pre", 3) == depth_of("resid_post", 2) == depth_of("resid_mid", 3) == 3
    True
    """
    return layer + 1 if site == "resid_post" else layer


class Transport(Protocol):
    """What a lens does to a state before the head reads it."""

    @property
    def name(self) -> str:
        """As pages and tables call it."""

    @property
    def provenance(self) -> Provenance:
        """Where it comes from: model, corpus, recipe; empty where there is nothing to train."""

    def check(self, model: HookedModel) -> None:
        """Raise LensMismatchError, naming both, if it was made for a model of another shape."""

    def reads(self, depth: int, n_layers: int) -> bool:
        """Whether it has something for states of this depth."""

    def carry(self, model: HookedModel, states: States, depth: int) -> States:
        """States of this depth as the last state would have them."""


@dataclass(frozen=True)
class LogitLens:
    """The identity: the head reads the state as it stands (nostalgebraist 2020)."""

    name: str = "logit"
    provenance: Provenance = field(default_factory=dict)

    def check(self, model: HookedModel) -> None:
        """Fits every model."""

    def reads(self, depth: int, n_layers: int) -> bool:
        """Every state."""
        return True

    def carry(self, model: HookedModel, states: States, depth: int) -> States:
        """The same states."""
        return states


@dataclass(frozen=True, eq=False)
class TunedLens:
    """One affine translator a depth, ``h + W h + b`` (Belrose et al. 2023, arXiv 2303.08112).

    ``weight`` is the *change*, so zeros are the logit lens. None is the bias-only lens, whose
    translators add ``b`` alone.
    """

    weight: Float[Tensor, "depth d_model d_model"] | None
    bias: Float[Tensor, "depth d_model"]
    model_name: str = ""
    provenance: Provenance = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``tuned``, or ``bias-only`` where there are no weights."""
        return "bias-only" if self.weight is None else "tuned"

    def check(self, model: HookedModel) -> None:
        """One translator a block, of the model's width."""
        _check_shape(self, (self.bias.shape[0], self.bias.shape[1]), model)

    def reads(self, depth: int, n_layers: int) -> bool:
        """Every state."""
        return True

    def carry(self, model: HookedModel, states: States, depth: int) -> States:
        """The states plus what their translator adds, in fp32."""
        if depth >= len(self.bias):
            return states
        h = states.float()
        moved = h + self.bias[depth].to(h)
        return moved if self.weight is None else moved + h @ self.weight[depth].to(h).mT


@dataclass(frozen=True, eq=False)
class JacobianLens:
    """The mean Jacobian of the last state in an earlier one, ``J h`` (Gurnee et al. 2026).

    ``jacobians[depth]`` is [d_model, d_model]; depths without one are not read.
    """

    jacobians: Mapping[int, Float[Tensor, "d_model d_model"]]
    n_layers: int
    model_name: str = ""
    provenance: Provenance = field(default_factory=dict)
    name: str = "jacobian"

    def check(self, model: HookedModel) -> None:
        """The model's number of blocks and its width."""
        width = next(iter(self.jacobians.values())).shape[-1]
        _check_shape(self, (self.n_layers, width), model)

    def reads(self, depth: int, n_layers: int) -> bool:
        """The last state, and every depth that has a matrix."""
        return depth >= n_layers or depth in self.jacobians

    def carry(self, model: HookedModel, states: States, depth: int) -> States:
        """The states through their matrix, in fp32."""
        if depth >= self.n_layers:
            return states
        return states.float() @ self.jacobians[depth].to(states.device, torch.float32).mT


@dataclass(frozen=True)
class LastBlocksLens:
    """The model's own last ``k`` blocks as the decoder; the blocks between are skipped."""

    k: int = 1
    provenance: Provenance = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``last 2 blocks``, for example."""
        return f"last {self.k} blocks" if self.k != 1 else "last block"

    def check(self, model: HookedModel) -> None:
        """The model has that many blocks."""
        if not 1 <= self.k <= model.cfg.n_layers:
            raise LensMismatchError(
                f"{model.cfg.name} has {model.cfg.n_layers} blocks; the decoder can be its last 1 "
                f"to {model.cfg.n_layers}, not {self.k}."
            )

    def reads(self, depth: int, n_layers: int) -> bool:
        """Every state."""
        return True

    def carry(self, model: HookedModel, states: States, depth: int) -> States:
        """The states after the last ``k`` blocks, or those of them that still follow."""
        n_layers = model.cfg.n_layers
        start = max(depth, n_layers - self.k)
        if start >= n_layers:
            return states
        tokens = torch.zeros(states.shape[:2], dtype=torch.long, device=states.device)
        _, cache = model.run_with_cache(
            tokens, [("resid_post", n_layers - 1)], start_at_layer=start, resid=states
        )
        return cache["resid_post", n_layers - 1]


def _check_shape(
    lens: TunedLens | JacobianLens, shape: tuple[int, int], model: HookedModel
) -> None:
    cfg = model.cfg
    if shape != (cfg.n_layers, cfg.d_model):
        raise LensMismatchError(
            f"This lens was made for {lens.model_name or 'another model'} ({shape[0]} blocks, "
            f"d_model {shape[1]}); {cfg.name} has {cfg.n_layers} blocks and d_model {cfg.d_model}. "
            "Load the lens of this model, or choose the logit lens, which needs none."
        )
