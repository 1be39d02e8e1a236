"""Does what the taps show agree with the model, and does what they change change the model?

Run at load on a handful of tokens. A site that fails is switched off, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lens_core.interventions.ops import noise
from lens_core.model.cache import ActivationCache
from lens_core.model.execute import site_sizes
from lens_core.model.probe import probe_tokens
from lens_core.model.run import Run, active
from lens_core.model.sites import SITES, SiteKey
from lens_core.model.weights import expand_kv

if TYPE_CHECKING:
    from lens_core.model.hooked_model import HookedModel


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it holds, the figure it was judged by, and what that is.

    `sites` are those that are switched off if it fails.
    """

    name: str
    ok: bool
    value: float
    detail: str
    sites: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.name:42} {self.value:9.2e}  {self.detail}"


@dataclass(frozen=True)
class SelfCheckReport:
    """All checks of one model; `ok` when all hold, `disabled_sites` with the reasons when not."""

    name: str
    checks: tuple[Check, ...]
    disabled_sites: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def __str__(self) -> str:
        passed = sum(check.ok for check in self.checks)
        head = f"Self-check of {self.name}: {passed} of {len(self.checks)} checks hold"
        lines = [head, *(f"  {check}" for check in self.checks)]
        lines += [f"  switched off: {site} ({why})" for site, why in self.disabled_sites.items()]
        return "\n".join(lines)


@torch.no_grad()
def self_check(model: HookedModel, reference: Tensor | None) -> SelfCheckReport:
    """Check a model.

    Args:
        reference: logits of the probe tokens without taps; None: run with taps that do nothing
            but the model's standing edits.
    """
    tokens = probe_tokens(model.W_E.shape[0], model.cfg.device)
    if reference is None:
        standing = Run(batch=tokens.shape[0], standing=model._standing_terms)
        with active(None if standing.idle else standing):
            reference = model.hf_model(input_ids=tokens, use_cache=False).logits
    logits, cache = model.run_with_cache(tokens)
    checks = [
        _same(logits, reference, "logits as without taps", "largest difference, must be 0"),
        _shapes(model, cache),
        *_residual(model, cache),
        *_attention(model, cache),
        _head(model, cache, logits),
        *_perturbed(model, tokens),
    ]
    disabled: dict[str, str] = {}
    for check in checks:
        if not check.ok:
            disabled |= dict.fromkeys(check.sites, f"{check.name}: {check.detail}")
    return SelfCheckReport(model.cfg.name, tuple(checks), disabled)


def tolerance(dtype: torch.dtype) -> float:
    """The largest relative error that rounding explains."""
    return 1e-4 if dtype in (torch.float32, torch.float64) else 3e-2


def _same(a: Tensor, b: Tensor, name: str, detail: str) -> Check:
    return Check(name, torch.equal(a, b), float((a.float() - b.float()).abs().max()), detail)


def _close(
    a: Tensor, b: Tensor, name: str, sites: tuple[str, ...], dtype: torch.dtype, unit: Tensor
) -> Check:
    """Equal up to rounding at the size of `unit`, the largest tensor that went into the sum."""
    size = float(unit.float().abs().max()) or 1.0
    error = float((a.float() - b.float()).abs().max()) / size
    return Check(name, error < tolerance(dtype), error, "largest relative error", sites)


def _worst(checks: list[Check]) -> Iterator[Check]:
    """Of the same check in many layers, the one with the largest error (NaN counts as largest)."""
    if checks:
        yield max(checks, key=lambda c: float("inf") if c.value != c.value else c.value)


def _shapes(model: HookedModel, cache: ActivationCache) -> Check:
    batch, pos = cache.tokens.shape
    wrong: list[str] = []
    n_sites = 0
    for site, layers in model.sites.items():
        for layer in layers if layers is not None else (None,):
            n_sites += 1
            key = SiteKey(site, layer)
            sizes = {**site_sizes(model, site, layer), "batch": batch, "pos": pos, "key": pos}
            wanted = tuple(sizes[axis] for axis in SITES[site].axes)
            if key not in cache or cache[key].shape != wanted:
                wrong.append(site)
    sites = tuple(dict.fromkeys(wrong))
    return Check("every site fires, with its shape", not wrong, len(wrong), f"of {n_sites}", sites)


def _residual(model: HookedModel, cache: ActivationCache) -> Iterator[Check]:
    dtype = model.cfg.dtype
    if model.has_site("embed", None):
        embedded, resid = cache["embed"], cache["resid_pre", 0]
        if model.has_site("pos_embed", None):
            embedded = embedded + cache["pos_embed"]
        sites = ("embed", "pos_embed")
        yield _close(embedded, resid, "embeddings = resid_pre[0]", sites, dtype, resid)
    joined = [
        _same(
            cache["resid_post", n - 1],
            cache["resid_pre", n],
            "resid_post[l] = resid_pre[l + 1]",
            "",
        )
        for n in range(1, model.cfg.n_layers)
    ]
    yield from _worst(joined)
    rows = list(range(cache.tokens.shape[0]))
    for total in ("resid_mid", "resid_post"):
        yield from _sums(model, cache, total, rows)


def _sums(
    model: HookedModel, cache: ActivationCache, total: str, rows: list[int]
) -> Iterator[Check]:
    """Whether what attention and MLP add makes up resid_mid, or resid_post, in some rows."""
    checks: dict[str, list[Check]] = {}
    for n in range(model.cfg.n_layers):
        terms = _TERMS[total, ("resid_mid", n) in cache]
        if not terms or any((site, n) not in cache for site in terms):
            continue
        expected = torch.stack([cache[site, n][rows] for site in terms]).sum(dim=0)
        actual = cache[total, n][rows]
        name = f"{' + '.join(terms)} = {total}"
        sites = tuple(site for site in (*terms, total) if site not in ("resid_pre", "resid_post"))
        check = _close(expected, actual, name, sites, model.cfg.dtype, actual)
        checks.setdefault(name, []).append(check)
    for same in checks.values():
        yield from _worst(same)


# What adds up to a residual stream, in blocks with a resid_mid and in parallel ones.
_TERMS = {
    ("resid_mid", True): ("resid_pre", "attn_out"),
    ("resid_mid", False): (),
    ("resid_post", True): ("resid_mid", "mlp_out"),
    ("resid_post", False): ("resid_pre", "attn_out", "mlp_out"),
}


def _attention(model: HookedModel, cache: ActivationCache) -> Iterator[Check]:
    dtype, group = model.cfg.dtype, model.cfg.n_heads // model.cfg.n_kv_heads
    softmaxes: list[Check] = []
    mixtures: list[Check] = []
    sums: list[Check] = []
    for n in range(model.cfg.n_layers):
        if ("pattern", n) not in cache:
            continue
        pattern, scores = cache["pattern", n].float(), cache["scores", n].float()
        kept = pattern.sum(dim=-1, keepdim=True)  # less than 1 where a sink takes the rest
        expected = scores.softmax(dim=-1) * kept
        name, sites = "softmax(scores) = pattern", ("scores", "pattern")
        softmaxes.append(_close(expected, pattern, name, sites, dtype, kept))
        z, v = cache["z", n], expand_kv(cache["v", n].float(), group)
        mixed = torch.einsum("bhqk,bkhd->bqhd", pattern, v)
        mixtures.append(_close(mixed, z, "pattern @ v = z", ("pattern", "v", "z"), dtype, z))
        layer = model.spec.layers[n]
        plain = layer.w_o is not None and layer.attn_out in (layer.w_o, layer.attn)
        if plain and not model.offloaded:
            total = cache["head_out", n].sum(dim=2) + layer.attn_scale * model.b_O[n]
            out = cache["attn_out", n]
            sums.append(_close(total, out, "sum of head_out + b_O = attn_out", (), dtype, out))
    for checks in (softmaxes, mixtures, sums):
        yield from _worst(checks)


def _head(model: HookedModel, cache: ActivationCache, logits: Tensor) -> Check:
    read = model.unembed(model.ln_final(cache["resid_post", model.cfg.n_layers - 1]))
    sites = ("ln_final",)
    return _close(read, logits, "lens at the last layer = logits", sites, model.cfg.dtype, logits)


def _perturbed(model: HookedModel, tokens: Tensor) -> Iterator[Check]:
    """Noise at each site, one row of a batch each: logits must move, and sums still hold."""
    places = [
        (site, layer)
        for site, layers in model.sites.items()
        for layer in ((None,) if layers is None else sorted({layers[0], layers[-1]}))
    ]
    batch = tokens[:1].repeat(len(places) + 2, 1)
    edits = [
        noise(site, layer, std=1.0, seed=1, rows=[row])
        for row, (site, layer) in enumerate(places, start=1)
    ]
    logits, cache = model.run_with_cache(batch, interventions=edits, last_logits_only=True)
    floor = float((logits[0] - logits[-1]).abs().max())
    moved = (logits[1:-1] - logits[:1]).float().abs().amax(dim=(1, 2))
    still = {
        f"{site}" if layer is None else f"{site}[{layer}]": site
        for row, ((site, layer), move) in enumerate(zip(places, moved.tolist(), strict=True), 1)
        if not move > 10 * floor and not _silenced(model, cache, site, layer, row)
    }
    yield Check(
        "noise at any site moves the logits",
        not still,
        float(moved.min()),
        f"smallest move; still: {', '.join(still)}"
        if still
        else f"smallest of {len(places)} moves",
        tuple(dict.fromkeys(still.values())),
    )
    # In a row where a sum itself was edited, its terms no longer add up to it, as they should not.
    edited = {site for site, _ in places}
    for total in {"resid_mid", "resid_post"} & edited:
        rows = [row for row, (site, _) in enumerate(places, start=1) if site != total]
        for check in _sums(model, cache, total, rows):
            name = f"{check.name}, with noise"
            yield Check(name, check.ok, check.value, check.detail, check.sites)


# What a block's two last projections read, in order.
_BEFORE = {
    "w_o": ("attn_in", "q", "k", "v", "scores", "pattern", "z"),
    "w_out": ("mlp_in", "mlp_pre", "mlp_gate", "mlp_post"),
}


def _silenced(
    model: HookedModel, cache: ActivationCache, site: str, layer: int | None, row: int
) -> bool:
    """Whether the projection after a site is all zeros, so that noise moves what it can reach.

    That is any later site before the projection; the last of them has none, and is let pass.
    """
    for writer, sites in _BEFORE.items():
        if layer is None or site not in sites or getattr(model.spec.layers[layer], writer) is None:
            continue
        if model.offloaded or bool((model.W_O if writer == "w_o" else model.W_out)[layer].any()):
            return False
        later = [s for s in sites[sites.index(site) + 1 :] if (s, layer) in cache]
        return not later or any(
            not torch.equal(cache[s, layer][row], cache[s, layer][0]) for s in later
        )
    return False
