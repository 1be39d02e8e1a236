"""The model's weight matrices under the field's names, whatever the family's storage.

Raw weights, never copies where a view will do, never folded or centred. All act on row vectors from
the right: x @ W_in, as in the papers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor, nn

from lens_core.model.blocks import split_qkv
from lens_core.model.edited import PROJECTIONS
from lens_core.model.errors import UnknownSiteError, UnsupportedModelError
from lens_core.model.factored import FactoredMatrix
from lens_core.model.spec import FusedQKV, LayerSpec, module_at

if TYPE_CHECKING:
    from lens_core.model.config import ModelConfig
    from lens_core.model.spec import ModelSpec


_SITES = {part: site for site, part in PROJECTIONS.items()}


class LayerWeights:
    """One kind of weight in all layers, read layer by layer: W_Q[3] is W_Q of layer 3.

    `W_Q[3, 1]` is head 1 of layer 3; `stack()` copies all layers into one tensor.
    """

    def __init__(self, name: str, n_layers: int, read: Callable[[int], Tensor]) -> None:
        self.name, self._n_layers, self._read = name, n_layers, read

    def __len__(self) -> int:
        return self._n_layers

    @overload
    def __getitem__(self, index: int, /) -> Tensor: ...
    @overload
    def __getitem__(self, index: tuple[int, int], /) -> Tensor: ...
    def __getitem__(self, index: int | tuple[int, int], /) -> Tensor:
        layer, *head = index if isinstance(index, tuple) else (index,)
        if not -self._n_layers <= layer < self._n_layers:
            raise IndexError(f"There is no layer {layer}; the model has {self._n_layers}.")
        weight = self._read(layer % self._n_layers)
        return weight[head[0]] if head else weight

    def stack(self) -> Tensor:
        """All layers in one new tensor, layer first."""
        return torch.stack([self[layer] for layer in range(self._n_layers)])

    def __repr__(self) -> str:
        return f"LayerWeights({self.name}, {self._n_layers} layers of {list(self[0].shape)})"


class Weights:
    """Mixin of HookedModel: weight accessors."""

    hf_model: nn.Module
    spec: ModelSpec
    cfg: ModelConfig

    if TYPE_CHECKING:

        def _standing_delta(self, site: str, layer: int) -> Tensor | None: ...

    def _per_layer(self, name: str, read: Callable[[int], Tensor]) -> LayerWeights:
        return LayerWeights(name, self.cfg.n_layers, read)

    @property
    def W_E(self) -> Tensor:
        """Token embedding, before any factor: Float[Tensor, "d_vocab d_model"]."""
        weight: Tensor = self.hf_model.get_input_embeddings().weight  # type: ignore[operator]
        return weight

    @property
    def W_pos(self) -> Tensor:
        """Learned position embedding: Float[Tensor, "n_ctx d_model"].

        Raises:
            UnknownSiteError: the model has none.
        """
        if self.spec.pos_embed is None or self.cfg.position_kind != "learned":
            raise UnknownSiteError(f"{self.cfg.name} has no learned position embedding.")
        module = module_at(self.hf_model, self.spec.pos_embed)
        offset = getattr(module, "offset", 0)  # OPT keeps two rows for padding
        weight: Tensor = module.weight  # type: ignore[assignment]
        return weight[offset:]

    @property
    def W_U(self) -> Tensor:
        """Unembedding: Float[Tensor, "d_model d_vocab"]."""
        return as_matrix(self._head())

    @property
    def b_U(self) -> Tensor:
        """Bias of the unembedding, zeros if it has none: Float[Tensor, "d_vocab"]."""
        bias = getattr(self._head(), "bias", None)
        return bias if bias is not None else self.W_E.new_zeros(self.cfg.d_vocab)

    @property
    def W_Q(self) -> LayerWeights:
        """By layer: Float[Tensor, "head d_model d_head"]."""
        return self._per_layer("W_Q", lambda n: self._qkv(n)[0])

    @property
    def W_K(self) -> LayerWeights:
        """By layer: Float[Tensor, "kv_head d_model d_head"]; head h reads number `kv_head(h)`."""
        return self._per_layer("W_K", lambda n: self._qkv(n)[1])

    @property
    def W_V(self) -> LayerWeights:
        """By layer: Float[Tensor, "kv_head d_model d_head"]."""
        return self._per_layer("W_V", lambda n: self._qkv(n)[2])

    @property
    def b_Q(self) -> LayerWeights:
        """By layer: Float[Tensor, "head d_head"], zeros if there is none."""
        return self._per_layer("b_Q", lambda n: self._qkv_bias(n)[0])

    @property
    def b_K(self) -> LayerWeights:
        """By layer: Float[Tensor, "kv_head d_head"]."""
        return self._per_layer("b_K", lambda n: self._qkv_bias(n)[1])

    @property
    def b_V(self) -> LayerWeights:
        """By layer: Float[Tensor, "kv_head d_head"]."""
        return self._per_layer("b_V", lambda n: self._qkv_bias(n)[2])

    @property
    def W_O(self) -> LayerWeights:
        """By layer: Float[Tensor, "head d_head d_model"]."""
        heads, width = self.cfg.n_heads, self.cfg.d_head
        return self._per_layer("W_O", lambda n: self._weight(n, "w_o").reshape(heads, width, -1))

    @property
    def b_O(self) -> LayerWeights:
        """By layer: Float[Tensor, "d_model"]."""
        return self._per_layer("b_O", lambda n: self._bias(n, "w_o"))

    @property
    def W_in(self) -> LayerWeights:
        """By layer: Float[Tensor, "d_model d_mlp"]; in gated MLPs the linear branch."""
        return self._per_layer("W_in", lambda n: self._weight(n, "w_in"))

    @property
    def b_in(self) -> LayerWeights:
        """By layer: Float[Tensor, "d_mlp"]."""
        return self._per_layer("b_in", lambda n: self._half(n, "w_in", self._bias(n, "w_in")))

    @property
    def W_gate(self) -> LayerWeights:
        """By layer, in gated MLPs: Float[Tensor, "d_model d_mlp"], before the non-linearity."""
        return self._per_layer("W_gate", lambda n: self._weight(n, "w_gate"))

    @property
    def b_gate(self) -> LayerWeights:
        """By layer, in gated MLPs: Float[Tensor, "d_mlp"]."""
        return self._per_layer("b_gate", lambda n: self._half(n, "w_gate", self._bias(n, "w_gate")))

    @property
    def W_out(self) -> LayerWeights:
        """By layer: Float[Tensor, "d_mlp d_model"]."""
        return self._per_layer("W_out", lambda n: self._weight(n, "w_out"))

    @property
    def b_out(self) -> LayerWeights:
        """By layer: Float[Tensor, "d_model"]."""
        return self._per_layer("b_out", lambda n: self._bias(n, "w_out"))

    def kv_head(self, head: int) -> int:
        """The key-value head that a query head reads (grouped-query attention)."""
        if not 0 <= head < self.cfg.n_heads:
            raise IndexError(f"There is no head {head}; the model has {self.cfg.n_heads} a layer.")
        return head // (self.cfg.n_heads // self.cfg.n_kv_heads)

    def QK(self, layer: int, head: int) -> FactoredMatrix:
        """The QK circuit W_Q W_K^T of a head: what attends to what (Elhage et al. 2021).

        Without biases, q- and k-norms, rotary and the factor 1/sqrt(d_head).
        """
        return FactoredMatrix(self.W_Q[layer, head], self.W_K[layer, self.kv_head(head)].mT)

    def OV(self, layer: int, head: int) -> FactoredMatrix:
        """The OV circuit W_V W_O of a head: what attending writes (Elhage et al. 2021)."""
        return FactoredMatrix(self.W_V[layer, self.kv_head(head)], self.W_O[layer, head])

    # --- storage ---------------------------------------------------------------------------------

    def _head(self) -> nn.Module:
        head: nn.Module = self.hf_model.get_output_embeddings()  # type: ignore[operator]
        return head

    def _block(self, layer: int) -> tuple[nn.Module, LayerSpec]:
        block = module_at(self.hf_model, f"{self.spec.blocks}.{layer}")
        return block, self.spec.layers[layer]

    def _module(self, layer: int, part: str) -> nn.Module:
        block, spec = self._block(layer)
        path = getattr(spec, part)
        if path is None:
            raise UnknownSiteError(
                f"{self.cfg.name} has no {part.replace('w_', 'W_')} of its own in layer {layer}."
            )
        return module_at(block, path)

    def _weight(self, layer: int, part: str) -> Tensor:
        """A projection as [d_in, d_out], with the edits that stand in this model."""
        matrix = self._half(layer, part, as_matrix(self._module(layer, part)))
        delta = self._standing_delta(_SITES[part], layer)
        return matrix if delta is None else matrix + delta.to(matrix.device, matrix.dtype)

    def _bias(self, layer: int, part: str) -> Tensor:
        return as_bias(self._module(layer, part))

    def _half(self, layer: int, part: str, tensor: Tensor) -> Tensor:
        """The half of a fused gate and linear branch that is meant; else all of it."""
        order = self.spec.layers[layer].fused_gate
        if order is None or part not in ("w_in", "w_gate"):
            return tensor
        first, last = tensor.chunk(2, dim=-1)
        return first if (part == "w_gate") == (order == "gate first") else last

    def _qkv(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self._split(layer, as_matrix)
        return q.movedim(-2, 0), k.movedim(-2, 0), v.movedim(-2, 0)

    def _qkv_bias(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        return self._split(layer, as_bias)

    def _split(
        self, layer: int, read: Callable[[nn.Module], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        block, spec = self._block(layer)
        heads = (self.cfg.n_heads, self.cfg.n_kv_heads, self.cfg.d_head)
        if spec.qkv is None:
            raise UnknownSiteError(
                f"How {self.cfg.name} stores W_Q, W_K and W_V in layer {layer} is not understood."
            )
        if isinstance(spec.qkv, FusedQKV):
            return split_qkv(read(module_at(block, spec.qkv.path)), spec.qkv.layout, heads)
        q, k, v = (read(module_at(block, path)) for path in spec.qkv)
        counts = (heads[0], heads[1], heads[1])
        q, k, v = (
            t.reshape(*t.shape[:-1], n, heads[2]) for t, n in zip((q, k, v), counts, strict=True)
        )
        return q, k, v


def as_matrix(module: nn.Module) -> Tensor:
    """A projection as [d_in, d_out]; Linear stores the transpose, Conv1D this.

    Raises:
        UnsupportedModelError: the weight is offloaded.
    """
    weight: Tensor = module.weight  # type: ignore[assignment]
    if weight.is_meta:
        raise UnsupportedModelError(
            "This weight is offloaded and is in memory only while its layer runs; "
            "load the model without offloading to read weights."
        )
    return weight if type(module).__name__ == "Conv1D" else weight.T


def as_bias(module: nn.Module) -> Tensor:
    """A projection's bias [d_out], zeros if it has none."""
    matrix = as_matrix(module)
    bias: Tensor | None = getattr(module, "bias", None)
    if bias is not None:
        return bias
    return matrix.new_zeros(matrix.shape[-1])


def expand_kv(x: Tensor, group: int) -> Tensor:
    """Repeat [..., kv_head, d_head] for the `group` query heads that share each key-value head."""
    return x if group == 1 else x.repeat_interleave(group, dim=-2)
