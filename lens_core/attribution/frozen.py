"""Norms and head as linear maps: what they do to a change, their scales held fixed.

Nothing is transcribed from a family: gain and bias of a norm, scale and soft-cap of a head are read
from what the modules do, and a module that is not what this takes it for is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lens_core.attribution.errors import AttributionError
from lens_core.model.config import norm_kind_of
from lens_core.model.run import active
from lens_core.model.spec import module_at
from lens_core.model.weights import as_bias, as_matrix

if TYPE_CHECKING:
    from lens_core import HookedModel

Vector = Float[Tensor, " d"]
# Under these names configs keep the bound of the final logits' soft-cap.
_CAP_NAMES = ("final_logit_softcapping", "logits_soft_cap")


def tolerance(dtype: torch.dtype) -> float:
    """How closely parts can add up in a precision: 1e-4, and 2e-2 in half precision."""
    return 1e-4 if dtype in (torch.float32, torch.float64) else 2e-2


def exact(x: Tensor) -> Tensor:
    """A small tensor in double precision on the CPU, where sums of parts are made."""
    return x.detach().to("cpu", torch.float64)


@dataclass(frozen=True)
class FrozenNorm:
    """A norm at one vector: x -> gain * (x - mean) / scale + bias, without the mean in RMSNorm."""

    gain: Vector
    bias: Vector
    scale: float
    centred: bool

    @classmethod
    def at(cls, module: nn.Module, x: Vector) -> FrozenNorm:
        """Read gain, bias and scale from what the module does to `x` and to two probes.

        Raises:
            AttributionError: the module is not a LayerNorm or RMSNorm.
        """
        centred = norm_kind_of(module) == "LayerNorm"
        # So large that the norm's epsilon is lost in it; plus and minus one is exact in any dtype.
        probe = 64.0 * (1 - 2 * (torch.arange(len(x), dtype=torch.float64) % 2))
        up, down = _apply(module, probe, x), _apply(module, -probe, x)
        unit = probe - probe.mean() if centred else probe
        gain, bias = (up - down) / 2 / (unit / unit.pow(2).mean().sqrt()), (up + down) / 2
        out, state = _apply(module, x, x), exact(x)
        shape = gain * (state - state.mean() if centred else state)
        length = float(shape @ (out - bias))
        scale = float(shape @ shape) / length if length else float("inf")
        norm = cls(gain, bias, scale, centred)
        if not torch.allclose(
            shape / scale + bias, out, rtol=0, atol=_loose(x.dtype) * float(out.abs().max())
        ):
            raise AttributionError(
                f"The norm {type(module).__name__} is not linear once its scale is fixed, so what "
                "goes through it cannot be split into parts."
            )
        return norm

    def pull(self, direction: Vector) -> tuple[Vector, float]:
        """What to multiply an input by to get its share of output @ direction, and the bias's."""
        pulled = direction * self.gain / self.scale
        if self.centred:
            pulled = pulled - pulled.mean()
        return pulled, float(self.bias @ direction)

    def push(self, change: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """What a change of the input changes in the output."""
        if self.centred:
            change = change - change.mean(-1, keepdim=True)
        return change * self.gain / self.scale


@dataclass(frozen=True)
class FrozenHead:
    """One logit, or the difference of two, as a linear function of the last residual stream.

    value = resid @ direction + norm_bias + unembed_bias + soft_cap.
    """

    direction: Vector
    norm_bias: float
    unembed_bias: float
    soft_cap: float | None  # None: the model has no soft-cap
    norm_scale: float


def freeze_head(
    model: HookedModel,
    resid: Vector,
    logits: Float[Tensor, " d_vocab"],
    target: int,
    foil: int | None,
) -> FrozenHead:
    """The final norm and the head at one residual stream, which gave these logits.

    Raises:
        AttributionError: they are not linear once scale and soft-cap are fixed.
    """
    modules, x = [], resid
    for path in model.spec.final:
        module = module_at(model.hf_model, path)
        modules.append((module, x))
        with torch.no_grad(), active(None):
            x = module(x[None, None])[0, 0]
    factor, cap = _scale_and_cap(model, x, logits)
    ids = [target] if foil is None else [target, foil]
    signs = torch.tensor([1.0, -1.0][: len(ids)], dtype=torch.float64)
    columns, biases = factor * exact(model.W_U[:, ids]), factor * exact(model.b_U[ids])
    before_cap = exact(x) @ columns + biases
    direction, norm_bias, norm_scale = columns @ signs, 0.0, 1.0
    for module, state in reversed(modules):
        direction, constant, scale = _pull_through(module, state, direction)
        norm_bias += constant
        norm_scale = scale or norm_scale
    soft_cap = None
    if cap is not None:
        soft_cap = float((cap * torch.tanh(before_cap / cap) - before_cap) @ signs)
    return FrozenHead(direction, norm_bias, float(biases @ signs), soft_cap, norm_scale)


def _pull_through(
    module: nn.Module, x: Vector, direction: Vector
) -> tuple[Vector, float, float | None]:
    """A direction carried back through one module; the constant; the scale if it is a norm."""
    if isinstance(module, nn.Linear):
        constant = float(exact(as_bias(module)) @ direction)
        return exact(as_matrix(module)) @ direction, constant, None
    if isinstance(module, nn.Dropout | nn.Identity):
        return direction, 0.0, None
    norm = FrozenNorm.at(module, x)
    pulled, constant = norm.pull(direction)
    return pulled, constant, norm.scale


def _scale_and_cap(
    model: HookedModel, x: Vector, logits: Float[Tensor, " d_vocab"]
) -> tuple[float, float | None]:
    """The factor on the head's product and the bound of its soft-cap, read from what it does."""
    config: Any = model.hf_model.config
    caps = [
        value for name in _CAP_NAMES if (value := getattr(config.get_text_config(), name, None))
    ]
    cap = float(caps[0]) if caps else None
    product = _product(model, x)
    if cap is None:
        seen, made = exact(logits), product
    else:
        # So small that the soft-cap is still steep, and the factor can be read through it.
        share = 1e-2 * cap / max(float(product.abs().max()), 1e-30)
        made = _product(model, x * share)
        seen = cap * torch.atanh(exact(model.unembed((x * share)[None])[0]) / cap)
    length = float(made @ made)
    factor = float(made @ seen) / length if length else 1.0
    expected = factor * product
    if cap is not None:
        expected = cap * torch.tanh(expected / cap)
    off = (expected - exact(logits)).abs().max()
    if not float(off) <= _loose(model.cfg.dtype) * float(logits.abs().max()):
        raise AttributionError(
            f"What the head of {model.cfg.name} does to its logits is not understood, so that they "
            "cannot be split into parts."
        )
    # A factor of one is read as one give or take rounding, which would show in the residual.
    return (1.0 if abs(factor - 1) < 1e-3 else factor), cap


def _product(model: HookedModel, x: Vector) -> Float[Tensor, " d_vocab"]:
    weights = model.W_U
    product = x.to(weights.device, weights.dtype) @ weights
    return exact(product + model.b_U.to(product))


def _apply(module: nn.Module, x: Vector, like: Tensor) -> Vector:
    with torch.no_grad(), active(None):
        return exact(module(x.to(like.device, like.dtype)[None, None])[0, 0])


def _loose(dtype: torch.dtype) -> float:
    """Above rounding, and far below what another kind of map would be off by."""
    return 10 * tolerance(dtype)
