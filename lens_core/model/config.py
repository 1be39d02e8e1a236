"""The figures of a model that analyses and pages need, in one frozen object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from lens_core.model.spec import ModelSpec, module_at

NormKind = Literal["LayerNorm", "RMSNorm", "none"]
PositionKind = Literal["learned", "sinusoidal", "rotary", "alibi", "none"]


@dataclass(frozen=True)
class ModelConfig:
    """A model's name, sizes and kinds.

    Attributes:
        name: what it was loaded as; family: transformers' model type, for example "gpt2".
        n_heads, n_kv_heads: query heads, and the key-value heads that they share.
        d_mlp: neurons of an MLP; None if they cannot be tapped (mixtures of experts).
        n_ctx: most tokens in a context; None if the config names no limit.
        norm_kind, position_kind: kind of norm; how positions come in.
        parallel: attention and MLP read the same residual stream.
        gated: the MLP multiplies two projections.
        n_params: parameters, tied ones counted once.
    """

    name: str
    family: str
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int | None
    d_vocab: int
    n_ctx: int | None
    norm_kind: NormKind
    position_kind: PositionKind
    parallel: bool
    gated: bool
    n_params: int
    dtype: torch.dtype
    device: torch.device


def read_config(model: Any, spec: ModelSpec, name: str) -> ModelConfig:
    """Fill a `ModelConfig` from what discovery saw and, where it cannot see, from the HF config."""
    config = model.config.get_text_config()
    widths = {layer.d_mlp for layer in spec.layers} - {None}
    n_ctx = next(
        (
            int(value)
            for key in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
            if isinstance(value := getattr(config, key, None), int) and value > 0
        ),
        None,
    )
    return ModelConfig(
        name=name,
        family=model.config.model_type,
        n_layers=len(spec.layers),
        d_model=spec.d_model,
        n_heads=spec.n_heads,
        n_kv_heads=spec.n_kv_heads,
        d_head=spec.d_head,
        d_mlp=widths.pop() if len(widths) == 1 else None,
        d_vocab=spec.d_vocab,
        n_ctx=n_ctx,
        norm_kind=_norm_kind(model, spec),
        position_kind=_position_kind(model, spec, config),
        parallel=any(layer.parallel for layer in spec.layers),
        gated=any(layer.w_gate is not None for layer in spec.layers),
        n_params=sum(p.numel() for p in model.parameters()),
        dtype=model.get_input_embeddings().weight.dtype,
        device=input_device(model),
    )


def input_device(model: Any) -> torch.device:
    """Where token ids must be; weights that accelerate has offloaded are nowhere themselves."""
    embedding = model.get_input_embeddings()
    if not embedding.weight.is_meta:
        return torch.device(embedding.weight.device)
    hook = getattr(embedding, "_hf_hook", None)
    return torch.device(getattr(hook, "execution_device", None) or "cpu")


def norm_kind_of(module: nn.Module) -> NormKind:
    """LayerNorm subtracts the mean, RMSNorm does not; told apart by what they do to a constant."""
    weight = getattr(module, "weight", None)
    size = weight.shape[-1] if isinstance(weight, torch.Tensor) else None
    if size is None:
        return "none"
    assert isinstance(weight, torch.Tensor)
    device = "cpu" if weight.is_meta else weight.device
    constant = torch.ones(1, 1, size, dtype=weight.dtype, device=device)
    with torch.no_grad():
        shifted = module(2 * constant) - module(constant)
        flipped = module(constant) - module(-constant)
    return "LayerNorm" if torch.allclose(flipped, torch.zeros_like(shifted)) else "RMSNorm"


def _norm_kind(model: nn.Module, spec: ModelSpec) -> NormKind:
    paths = spec.final or ()
    for path in paths:
        if "norm" in type(module := module_at(model, path)).__name__.lower():
            return norm_kind_of(module)
    return "none"


def _position_kind(model: nn.Module, spec: ModelSpec, config: Any) -> PositionKind:
    if spec.pos_embed is not None:
        learned = any(True for _ in module_at(model, spec.pos_embed).parameters())
        return "learned" if learned else "sinusoidal"
    if getattr(config, "alibi", False) or config.model_type in ("bloom", "mpt"):
        return "alibi"
    rotary_module = any("rotary" in type(m).__name__.lower() for m in model.modules())
    if rotary_module or getattr(config, "rotary_dim", None) or getattr(config, "rope_theta", None):
        return "rotary"
    return "none"
