"""The weights as they act on the direct path: embedding, one head, logits; with norms folded in.

A norm multiplies by a gain, and LayerNorm takes the mean away first: both are linear and belong to
the matrices beside it. Only its division by a scale is not; it is left out here, which changes no
order and no ratio of eigenvalues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lens_core.interventions import zero
from lens_core.model.config import norm_kind_of
from lens_core.model.errors import UnsupportedModelError
from lens_core.model.spec import module_at

if TYPE_CHECKING:
    from lens_core import HookedModel

Answer = TypeVar("Answer")
Embedding = Literal["W_E", "effective"]
_CHUNK = 4096  # tokens embedded at a time


@dataclass(frozen=True, eq=False)
class Fold:
    """The linear part of a norm: x -> (x, less its mean if ``centred``) * gain."""

    gain: Float[Tensor, " d_model"] | None  # None is 1
    centred: bool

    def before(self, weight: Float[Tensor, "... d_model n"]) -> Float[Tensor, "... d_model n"]:
        """The matrix that does norm and weight at once: row vectors times it."""
        weight = weight.float()
        if self.gain is not None:
            weight = weight * self.gain[:, None]
        return weight - weight.mean(dim=-2, keepdim=True) if self.centred else weight

    def apply(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """The norm's linear part of row vectors."""
        if self.centred:
            x = x - x.mean(dim=-1, keepdim=True)
        return x if self.gain is None else x * self.gain


def attention_norm(model: HookedModel, layer: int) -> Fold:
    """The norm through which a layer's heads read the residual stream."""
    path = model.spec.layers[layer].ln1
    return fold_of(None if path is None else _in_block(model, layer, path), model.cfg.d_model)


def final_norm(model: HookedModel) -> Fold:
    """The norm before the unembedding. Raises UnsupportedModelError if more stands there."""
    modules = [module_at(model.hf_model, path) for path in model.spec.final]
    norms = [module for module in modules if is_norm(module)]
    if len(modules) > len(norms) or len(norms) > 1 or model.spec.d_final != model.cfg.d_model:
        raise UnsupportedModelError(
            f"{model.cfg.name} has more than one norm between its last block and its head; "
            "circuits up to the logits are not read from such weights."
        )
    return fold_of(norms[0] if norms else None, model.cfg.d_model)


def values_and_outputs(
    model: HookedModel, layer: int
) -> tuple[Float[Tensor, "head d_model d_head"], Float[Tensor, "head d_head d_model"]]:
    """W_V, with the norm before it, and W_O, with what scales it, of all heads of a layer."""
    group = model.cfg.n_heads // model.cfg.n_kv_heads
    values = attention_norm(model, layer).before(model.W_V[layer])
    spec = model.spec.layers[layer]
    outputs = model.W_O[layer].float() * spec.attn_scale
    after = _in_block(model, layer, spec.attn_out) if spec.attn_out is not None else None
    if after is not None and is_norm(after):  # a norm on what attention adds
        outputs = fold_of(after, model.cfg.d_model).apply(outputs)
    return values.repeat_interleave(group, dim=0), outputs


def logits_of(
    model: HookedModel, written: Float[Tensor, "n d_model"]
) -> Float[Tensor, "n d_vocab"]:
    """What vectors add to the logits at a final-norm scale of 1, without bias and soft-cap."""
    return final_norm(model).apply(written) @ model.W_U.float()


def fold_of(norm: nn.Module | None, width: int) -> Fold:
    """The linear part of a norm, found by asking it: families store gains in different ways."""
    if norm is None:
        return Fold(None, False)
    parameter = next(norm.parameters(), torch.empty(0))
    x = torch.ones(width, dtype=parameter.dtype, device=parameter.device)
    x[1::2] = -1.0
    if width % 2:  # 2, -1, -1 at the end: no mean and no zero in odd widths either
        x[-3:] = torch.tensor([2.0, -1.0, -1.0], dtype=x.dtype, device=x.device)
    with torch.no_grad():
        answer = (norm(x[None, None]) - norm(-x[None, None]))[0, 0].float() / 2
    gain = answer * x.float().square().mean().sqrt() / x.float()
    return Fold(gain, norm_kind_of(norm) == "LayerNorm")


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm, by its name as everywhere in transformers."""
    return "norm" in type(module).__name__.lower()


def embedded(
    model: HookedModel, ids: Int[Tensor, " n"], embedding: Embedding, layer: int
) -> Float[Tensor, "n d_model"]:
    """Tokens as a head of that layer would read them alone, without a position."""
    return torch.cat(list(embedded_chunks(model, ids, embedding, layer)))


def embedded_chunks(
    model: HookedModel, ids: Int[Tensor, " n"], embedding: Embedding, layer: int
) -> Iterator[Float[Tensor, "chunk d_model"]]:
    """`embedded`, some tokens at a time. Layer 0 comes before any MLP: W_E in either case."""
    through_mlp = embedding == "effective" and layer > 0
    edits = [zero("pos_embed", None)] if model.has_site("pos_embed", None) else []
    if through_mlp:
        edits.append(zero("attn_out", 0))
    for some in ids.to(model.cfg.device).split(_CHUNK):
        states = undisturbed(
            model.run,
            some[:, None],
            edits,
            stop_at_layer=int(through_mlp),
            attention_mask=torch.ones_like(some[:, None]),
        )
        yield states[:, 0].float()


def undisturbed(call: Callable[..., Answer], *args: Any, **options: Any) -> Answer:
    """Call outside every ``with model.interventions(...)``: weights are read, not an edited run."""
    return Context().run(call, *args, **options)


def _in_block(model: HookedModel, layer: int, path: str) -> nn.Module:
    return module_at(model.hf_model, f"{model.spec.blocks}.{layer}.{path}")
