"""The model's own final norm, head and head outputs, applied to any vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lens_core.model.config import norm_kind_of
from lens_core.model.errors import UnknownSiteError
from lens_core.model.run import Run, active
from lens_core.model.spec import module_at

if TYPE_CHECKING:
    from lens_core.model.config import ModelConfig
    from lens_core.model.spec import ModelSpec
    from lens_core.model.weights import LayerWeights


class Pieces:
    """Mixin of HookedModel: parts of the model as functions."""

    hf_model: Any
    spec: ModelSpec
    cfg: ModelConfig

    if TYPE_CHECKING:

        @property
        def W_O(self) -> LayerWeights:
            """See `Weights`."""

    def ln_final(self, resid: Tensor) -> Tensor:
        """The model's own final norm: Float[Tensor, "... d_model"] -> the same."""
        with active(None):
            for path in self.spec.final:
                resid = module_at(self.hf_model, path)(resid)
        return resid

    def unembed(self, x: Tensor) -> Tensor:
        """The model's own head, with its bias, scale and soft-cap, on normed vectors.

        Float[Tensor, "... d_model"] -> Float[Tensor, "... d_vocab"]. Of the last `resid_post`,
        `unembed(ln_final(resid))` is the logits.
        """
        flat = x.reshape(1, -1, x.shape[-1])
        ids = torch.zeros(flat.shape[:2], dtype=torch.long, device=flat.device)
        with active(Run(head_input=flat)):
            logits: Tensor = self.hf_model(input_ids=ids, use_cache=False).logits
        return logits.reshape(*x.shape[:-1], -1)

    def head_out(self, z: Tensor, layer: int) -> Tensor:
        """What each head adds, before any post-norm.

        Float[Tensor, "batch pos head d_head"] -> Float[Tensor, "batch pos head d_model"].
        """
        return (
            torch.einsum("bphd,hdm->bphm", z, self.W_O[layer]) * self.spec.layers[layer].attn_scale
        )

    def norm_scale(self, norm: str, layer: int | None, resid: Tensor) -> Tensor:
        """What a norm divides the (for LayerNorm: centred) residual by: Float[Tensor, "... 1"].

        Args:
            norm: "ln1", "ln2" or "ln_final".
        """
        if norm == "ln_final":
            paths = self.spec.final
            module = module_at(self.hf_model, paths[-1]) if paths else None
        else:
            assert layer is not None
            path = getattr(self.spec.layers[layer], norm)
            block = f"{self.spec.blocks}.{layer}"
            module = None if path is None else module_at(self.hf_model, f"{block}.{path}")
        if module is None:
            raise UnknownSiteError(f"{self.cfg.name} has no {norm} in that place.")
        x = resid.float()
        if norm_kind_of(module) == "LayerNorm":
            x = x - x.mean(dim=-1, keepdim=True)
        return (x.pow(2).mean(dim=-1, keepdim=True) + _epsilon(module)).sqrt()


def _epsilon(module: nn.Module) -> float:
    for name in ("eps", "variance_epsilon", "epsilon"):
        value = getattr(module, name, None)
        if isinstance(value, float):
            return value
    return 0.0
