"""What a run recorded: a mapping from sites to tensors, with derived quantities on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lens_core.model.errors import UnknownSiteError
from lens_core.model.run import MASKED_BELOW
from lens_core.model.sites import DERIVED, SiteKey, SiteName, has_layers, parse_site

if TYPE_CHECKING:
    from lens_core.model.hooked_model import HookedModel


class ActivationCache(Mapping[SiteKey, Tensor]):
    """The recorded activations of one run.

        cache["resid_post", 3]              a site at a layer; negative layers count from the end
        cache["blocks.3.attn.hook_pattern"] TransformerLens's name for the same thing
        cache["head_out", 3]                derived from z: what each head adds
        cache["ln1_scale", 3]               derived: what the norm before attention divides by
        cache["sink", 3]                    derived: attention that goes to the sink, batch head pos

    Tensors are shared with the run, not copied: treat them as read-only.

    Attributes:
        tokens: LongTensor [batch, pos], what was run.
        attention_mask: LongTensor [batch, pos], 0 at padding; None if there is none.
    """

    def __init__(
        self,
        model: HookedModel,
        recorded: Mapping[SiteKey, Tensor],
        tokens: Tensor,
        attention_mask: Tensor | None,
    ) -> None:
        self._model, self._recorded = model, dict(recorded)
        self.tokens, self.attention_mask = tokens, attention_mask

    def __getitem__(self, name: SiteName, /) -> Tensor:
        """The activation of that name, recorded or derived.

        Raises:
            UnknownSiteError: no such site, a layer is missing, or it was not recorded.
        """
        key = self._key(name)
        if key.site in DERIVED:
            return self._derive(key)
        if key not in self._recorded:
            raise UnknownSiteError(
                f"{key} was not recorded in this run; add {key.site!r} to names in run_with_cache."
            )
        tensor = self._recorded[key]
        if key.site == "scores" and not tensor.requires_grad:  # in a graph they are -inf already
            return tensor.masked_fill(tensor < MASKED_BELOW, -torch.inf)
        return tensor

    def __contains__(self, name: object) -> bool:
        try:
            key = self._key(name)  # type: ignore[arg-type]
            needs = DERIVED.get(key.site)
            if needs is None:
                return key in self._recorded
            return any(SiteKey(site, self._layer_of(key)) in self._recorded for site in needs)
        except UnknownSiteError:
            return False

    def __iter__(self) -> Iterator[SiteKey]:
        return iter(self._recorded)

    def __len__(self) -> int:
        return len(self._recorded)

    def __repr__(self) -> str:
        sites = sorted({key.site for key in self._recorded})
        megabytes = self.memory_bytes / 1e6
        return f"ActivationCache({len(self)} tensors, {megabytes:.1f} MB: {', '.join(sites)})"

    @property
    def memory_bytes(self) -> int:
        """The memory that the recorded tensors keep alive, shared storage counted once."""
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in self.values_raw()}
        return sum(storage.nbytes() for storage in storages.values())

    def values_raw(self) -> Iterator[Tensor]:
        """The recorded tensors as they are (masked scores finite, as the model had them)."""
        return iter(self._recorded.values())

    def stack(self, site: str) -> Tensor:
        """One site of all recorded layers: [layer, ...] in the order of the layers."""
        layers = sorted(
            key.layer for key in self._recorded if key.site == site and key.layer is not None
        )
        if not layers:
            raise UnknownSiteError(f"{site!r} was not recorded in any layer of this run.")
        return torch.stack([self[site, layer] for layer in layers])

    def to(self, device: torch.device | str) -> ActivationCache:
        """A copy of this cache on another device."""
        moved = {key: tensor.to(device) for key, tensor in self._recorded.items()}
        return ActivationCache(self._model, moved, self.tokens, self.attention_mask)

    def _key(self, name: SiteName) -> SiteKey:
        cfg = self._model.cfg
        site, layer = parse_site(name, gated=cfg.gated, rotary=cfg.position_kind == "rotary")
        if layer is None and has_layers(site):
            raise UnknownSiteError(f'{site!r} exists in every layer; ask for ("{site}", layer).')
        if layer is not None:
            layer = self._model.resolve_layer(layer)
        return SiteKey(site, layer)

    def _layer_of(self, key: SiteKey) -> int | None:
        return self._model.cfg.n_layers - 1 if key.site == "ln_final_scale" else key.layer

    def _derive(self, key: SiteKey) -> Tensor:
        layer = self._layer_of(key)
        assert layer is not None
        if key.site == "head_out":
            return self._model.head_out(self["z", layer], layer)
        if key.site == "sink":
            return 1 - self["pattern", layer].sum(dim=-1)
        if key.site == "ln_final_scale":
            return self._model.norm_scale("ln_final", None, self["resid_post", layer])
        norm = key.site.removesuffix("_scale")
        parallel = norm == "ln1" or not self._model.has_site("resid_mid", layer)
        resid = self["resid_pre" if parallel else "resid_mid", layer]
        return self._model.norm_scale(norm, layer, resid)
