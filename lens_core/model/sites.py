"""The places in a transformer that can be read and edited, and the names they go by.

A site is named as the field names it and keyed by layer: ``("pattern", 3)``. TransformerLens hook
names (``"blocks.3.attn.hook_pattern"``) parse to the same keys.

============== ================================= ==================================================
site           shape                             what it is
============== ================================= ==================================================
embed          batch pos d_model                 token embedding as it enters the residual stream
pos_embed      batch pos d_model                 learned position embedding (models that have one)
resid_pre      batch pos d_model                 residual stream entering the block
attn_in        batch pos d_model                 what attention reads (after its norm)
q              batch pos head d_head             queries as used: after bias, q-norm and rotary
k              batch pos kv_head d_head          keys as used; pos runs over all keys, cached too
v              batch pos kv_head d_head          values as used
scores         batch head query key              attention scores before softmax, -inf where masked
pattern        batch head query key              attention weights (rows sum to 1, less any sink)
z              batch pos head d_head             pattern @ v, per head
attn_out       batch pos d_model                 what attention really adds to the residual stream
resid_mid      batch pos d_model                 residual stream between attention and MLP
mlp_in         batch pos d_model                 what the MLP reads (after its norm)
mlp_pre        batch pos d_mlp                   output of W_in (in gated MLPs: the linear branch)
mlp_gate       batch pos d_mlp                   output of W_gate, before its non-linearity (gated)
mlp_post       batch pos d_mlp                   neuron activations: what W_out reads
mlp_out        batch pos d_model                 what the MLP really adds to the residual stream
resid_post     batch pos d_model                 residual stream leaving the block
ln_final       batch pos d_model                 what the unembedding reads
logits         batch pos d_vocab                 the logits, soft-cap, scale and bias applied
============== ================================= ==================================================

In parallel blocks (attention and MLP read the same residual) there is no ``resid_mid``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from lens_core.model.errors import UnknownSiteError

RESID = ("batch", "pos", "d_model")
HEADS = ("batch", "pos", "head", "d_head")
KV_HEADS = ("batch", "key", "kv_head", "d_head")
ATTENTION = ("batch", "head", "pos", "key")
NEURONS = ("batch", "pos", "neuron")


@dataclass(frozen=True)
class Site:
    """One kind of place: its name, the names of its axes, and whether each layer has one."""

    name: str
    axes: tuple[str, ...]
    per_layer: bool


class SiteKey(NamedTuple):
    """A site at a layer; ``layer`` is None for the sites that a model has once."""

    site: str
    layer: int | None

    def __str__(self) -> str:
        return self.site if self.layer is None else f"{self.site}[{self.layer}]"


GLOBAL_SITES = ("embed", "pos_embed", "ln_final", "logits")
LAYER_SITES = (
    "resid_pre",
    "attn_in",
    "q",
    "k",
    "v",
    "scores",
    "pattern",
    "z",
    "attn_out",
    "resid_mid",
    "mlp_in",
    "mlp_pre",
    "mlp_gate",
    "mlp_post",
    "mlp_out",
    "resid_post",
)
_AXES = {
    "q": HEADS,
    "z": HEADS,
    "k": KV_HEADS,
    "v": KV_HEADS,
    "scores": ATTENTION,
    "pattern": ATTENTION,
    "mlp_pre": NEURONS,
    "mlp_gate": NEURONS,
    "mlp_post": NEURONS,
    "logits": ("batch", "pos", "d_vocab"),
}
SITES: dict[str, Site] = {
    name: Site(name, _AXES.get(name, RESID), name in LAYER_SITES)
    for name in (*GLOBAL_SITES, *LAYER_SITES)
}

# Computed from recorded sites when asked for; the value says from which.
DERIVED: dict[str, tuple[str, ...]] = {
    "head_out": ("z",),
    "ln1_scale": ("resid_pre",),
    "ln2_scale": ("resid_mid", "resid_pre"),
    "ln_final_scale": ("resid_post",),
    "sink": ("pattern",),
}

_TL_GLOBAL = {
    "hook_embed": "embed",
    "embed.hook_out": "embed",
    "hook_pos_embed": "pos_embed",
    "pos_embed.hook_out": "pos_embed",
    "ln_final.hook_scale": "ln_final_scale",
    "ln_final.hook_normalized": "ln_final",
    "ln_final.hook_out": "ln_final",
    "unembed.hook_in": "ln_final",
    "unembed.hook_out": "logits",
}
_TL_BLOCK = {
    "hook_resid_pre": "resid_pre",
    "hook_in": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "ln2.hook_in": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_out": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "ln1.hook_scale": "ln1_scale",
    "ln2.hook_scale": "ln2_scale",
    "ln1.hook_normalized": "attn_in",
    "ln1.hook_out": "attn_in",
    "attn.hook_in": "attn_in",
    "ln2.hook_normalized": "mlp_in",
    "ln2.hook_out": "mlp_in",
    "mlp.hook_in": "mlp_in",
    "attn.hook_rot_q": "q",
    "attn.hook_rot_k": "k",
    "attn.hook_q": "q",
    "attn.hook_k": "k",
    "attn.hook_v": "v",
    "attn.v.hook_out": "v",
    "attn.hook_attn_scores": "scores",
    "attn.hook_pattern": "pattern",
    "attn.hook_z": "z",
    "attn.o.hook_in": "z",
    "attn.hook_result": "head_out",
    "mlp.hook_pre": "mlp_pre",
    "mlp.hook_pre_linear": "mlp_pre",
    "mlp.hook_post": "mlp_post",
    "mlp.out.hook_in": "mlp_post",
}
_TL_BLOCK_NAME = re.compile(r"blocks\.(\d+)\.(.+)")

SiteName = str | tuple[str, int | None]


def parse_site(name: SiteName, *, gated: bool = False, rotary: bool = False) -> SiteKey:
    """Turn any accepted name of a site into its key.

    Args:
        name: ``"resid_post"``, ``("resid_post", 3)``, ``"blocks.3.hook_resid_post"``, ...
        gated: the model's MLPs are gated (TransformerLens then calls the gate ``mlp.hook_pre``).
        rotary: the model rotates q and k (TransformerLens's ``attn.hook_q`` is then another one).

    Returns:
        The key. ``layer`` is None for global sites, and for "every layer".

    Raises:
        UnknownSiteError: the name is no site, or has a layer where there is none.

    Example:
        >>> parse_site("blocks.3.attn.hook_pattern")
        SiteKey(site='pattern', layer=3)
    """
    site, layer = (name, None) if isinstance(name, str) else _pair(name)
    if "hook_" in site:
        if layer is not None:
            raise UnknownSiteError(f"{site!r} names its own layer; ask for it without another one.")
        site, layer = _from_transformer_lens(site, gated=gated, rotary=rotary)
    if site not in SITES and site not in DERIVED:
        raise UnknownSiteError(
            f"There is no site {site!r}; the sites are {', '.join((*SITES, *DERIVED))}."
        )
    if layer is not None and not has_layers(site):
        raise UnknownSiteError(
            f"The site {site!r} exists once in a model; ask for it without a layer."
        )
    return SiteKey(site, layer)


def has_layers(site: str) -> bool:
    """Whether a site (recorded or derived) exists once a layer."""
    if site in SITES:
        return SITES[site].per_layer
    return site != "ln_final_scale"


def site_names(names: Iterable[SiteName] | str) -> list[SiteName]:
    """Accept one bare name where a list of names is expected."""
    return [names] if isinstance(names, str) else list(names)


def _pair(name: object) -> tuple[str, int | None]:
    if isinstance(name, tuple) and len(name) == 2:
        site, layer = name
        if isinstance(site, str) and (layer is None or isinstance(layer, int)):
            return site, layer
    raise UnknownSiteError(f'A site is named "resid_post" or ("resid_post", 3), not {name!r}.')


def _from_transformer_lens(name: str, *, gated: bool, rotary: bool) -> tuple[str, int | None]:
    if name in _TL_GLOBAL:
        return _TL_GLOBAL[name], None
    match = _TL_BLOCK_NAME.fullmatch(name)
    if match is None or match[2] not in _TL_BLOCK:
        raise UnknownSiteError(f"The TransformerLens hook name {name!r} has no site here.")
    layer, hook = int(match[1]), match[2]
    if rotary and hook in ("attn.hook_q", "attn.hook_k"):
        raise UnknownSiteError(
            f"{name!r} means q or k before the rotary embedding; here they are recorded as used, "
            f'after it: ask for ("{hook[-1]}", {layer}), or for attn.hook_rot_{hook[-1]}.'
        )
    if gated and hook == "mlp.hook_pre":
        return "mlp_gate", layer
    return _TL_BLOCK[hook], layer
