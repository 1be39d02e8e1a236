"""Where a model keeps its parts: what discovery finds out, as data that names modules by path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from lens_core.model.sites import LAYER_SITES, SITES


@dataclass(frozen=True)
class FusedQKV:
    """A projection that makes q, k and v at once.

    "concat": all of q, then k, then v. "interleaved": for each key-value head its queries, its key,
    its value.
    """

    path: str
    layout: Literal["concat", "interleaved"]


@dataclass(frozen=True)
class LayerSpec:
    """One block. Paths are relative to the block; None (or "") where there is no such part.

    Attributes:
        attn: the attention module as the block calls it; attn_core: the one that does the maths.
        attn_out, mlp_out: modules whose output, times the scale, is added to the residual stream.
        resid_mid: the module whose input is the residual stream between attention and MLP.
        w_in, w_gate, w_out: projections of the MLP; w_in and w_gate are the same one if fused.
        fused_gate: which half of a fused w_in comes first.
        ln1, ln2: norms that feed attention and the MLP.
        missing: for each site that this layer lacks, why.
    """

    attn: str | None = None
    attn_core: str | None = None
    attn_out: str | None = None
    attn_scale: float = 1.0
    resid_mid: str | None = None
    mlp_in: str | None = None
    mlp_out: str | None = None
    mlp_scale: float = 1.0
    w_in: str | None = None
    w_gate: str | None = None
    w_out: str | None = None
    fused_gate: Literal["gate first", "gate last"] | None = None
    qkv: FusedQKV | tuple[str, str, str] | None = None
    w_o: str | None = None
    ln1: str | None = None
    ln2: str | None = None
    parallel: bool = False
    d_mlp: int | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def sites(self) -> tuple[str, ...]:
        """The per-layer sites that this block has."""
        return tuple(site for site in LAYER_SITES if site not in self.missing)


@dataclass(frozen=True)
class ModelSpec:
    """A whole model. Paths are from the language-model class down.

    Attributes:
        base: the decoder that the head calls; blocks: the list of blocks.
        embed, embed_scale: the module whose output, times the scale, enters the residual stream.
        pos_embed: the learned position embedding; None if positions come in otherwise.
        final: the modules between the last block and the head, in order.
        registry: attention goes through transformers' registry (else through a window).
        block_outputs: how many values a block returns; 0 if it returns a tensor, not a tuple.
        output_class: what the decoder returns.
        n_heads, n_kv_heads, d_head: as seen in attention; d_final: width of what the head reads.
        copied: sites whose tensors the model changes in place afterwards.
        missing: for each site that the whole model lacks, why.
    """

    base: str
    blocks: str
    embed: str
    embed_scale: float
    pos_embed: str | None
    final: tuple[str, ...]
    registry: bool
    block_outputs: int
    output_class: type
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_final: int
    d_vocab: int
    layers: tuple[LayerSpec, ...]
    copied: frozenset[str] = frozenset()
    missing: Mapping[str, str] = field(default_factory=dict)

    def layers_with(self, site: str) -> tuple[int, ...]:
        """The layers that have a per-layer site."""
        return tuple(n for n, layer in enumerate(self.layers) if site not in layer.missing)

    def has(self, site: str, layer: int | None) -> bool:
        """Whether there is such a site, at that layer if it is per layer."""
        if layer is None:
            return not SITES[site].per_layer and site not in self.missing
        return site not in self.layers[layer].missing


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted path; the root itself for ""."""
    return root.get_submodule(path)
