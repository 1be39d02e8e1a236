"""Carrying out one run: check the request, plan the taps, call the model, check what applied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lens_core.interventions.bind import BoundEdit, BoundLowRank, Frame
from lens_core.interventions.edit import Intervention
from lens_core.model.cache import ActivationCache
from lens_core.model.errors import (
    InterventionError,
    InterventionNotAppliedError,
    TokenError,
    UnknownSiteError,
)
from lens_core.model.run import Run, StopRun, active
from lens_core.model.sites import DERIVED, SiteName, has_layers, parse_site, site_names

if TYPE_CHECKING:
    from lens_core.model.hooked_model import HookedModel
    from lens_core.model.tokens import Tokens

_AFTER_BLOCKS = ("ln_final", "logits")


@dataclass(frozen=True)
class Request:
    """Everything that one run was asked for; `names` None means every site."""

    tokens: Tokens
    interventions: Sequence[Intervention] = ()
    names: Iterable[SiteName] | str | None = ()
    stop_at_layer: int | None = None
    start_at_layer: int = 0
    resid: Tensor | None = None
    attention_mask: Tensor | None = None
    last_logits_only: bool = False
    grad: bool = False


def execute(model: HookedModel, request: Request) -> tuple[Tensor, ActivationCache]:
    """Run the model as requested."""
    tokens = model._as_tokens(request.tokens)
    mask = check_mask(model, tokens, request.attention_mask)
    run = _prepare(model, request, tokens)
    plan_interventions(model, run, request.interventions, tokens.shape, tokens.shape[1])
    _plan_records(model, run, request.names)
    with torch.set_grad_enabled(request.grad), active(None if run.idle else run):
        try:
            logits = forward(model, tokens, mask, last_only=request.last_logits_only)
            run.offset = tokens.shape[1] - logits.shape[1]
            output = run.visit("logits", None, logits)
        except StopRun as stopped:
            output = stopped.resid
    check_applied(run)
    return output, ActivationCache(model, run.cache, tokens, mask)


def forward(
    model: HookedModel,
    tokens: Tensor,
    mask: Tensor | None,
    *,
    last_only: bool = False,
    past: Any = None,
    offset: int = 0,
) -> Tensor:
    """Call the Hugging Face model; with left padding, positions count from the first real token."""
    options: dict[str, Any] = {"use_cache": past is not None}
    if past is not None:
        options["past_key_values"] = past
    if mask is not None:
        options["attention_mask"] = mask
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        options["position_ids"] = positions[:, offset : offset + tokens.shape[1]]
    if last_only:
        options["logits_to_keep"] = 1
    logits: Tensor = model.hf_model(input_ids=tokens, **options).logits
    return logits


def check_mask(model: HookedModel, tokens: Tensor, mask: Tensor | None) -> Tensor | None:
    """The attention mask to use, the one given or what pad tokens say; None without padding."""
    if mask is None:
        return model.attention_mask(tokens)
    if mask.shape != tokens.shape:
        raise TokenError(
            f"The attention mask has the shape {list(mask.shape)}, the tokens {list(tokens.shape)}."
        )
    mask = mask.to(tokens.device, torch.long)
    if bool((mask.diff(dim=1) < 0).any()):
        raise TokenError("Pad on the left: the attention mask of each row is zeros, then ones.")
    return None if bool(mask.all()) else mask


def _prepare(model: HookedModel, request: Request, tokens: Tensor) -> Run:
    n_layers = model.cfg.n_layers
    stop = request.stop_at_layer
    if stop is not None:
        if not -n_layers <= stop <= n_layers:
            raise UnknownSiteError(f"A run can stop at layers 0 to {n_layers}, not at {stop}.")
        stop = stop % n_layers if stop < 0 else stop
    start, resid = request.start_at_layer, request.resid
    if not 0 <= start < n_layers or (stop is not None and stop < start):
        raise UnknownSiteError(
            f"A run can start at layers 0 to {n_layers - 1} and not after it stops, not at {start}."
        )
    if start > 0 and resid is None:
        raise UnknownSiteError(
            "start_at_layer needs resid, the residual stream in front of that layer."
        )
    if resid is not None:
        wanted = (*tokens.shape, model.cfg.d_model)
        if resid.shape != wanted:
            raise UnknownSiteError(f"resid has the shape {list(resid.shape)}, not {list(wanted)}.")
        if request.grad and not resid.requires_grad:
            resid = resid.detach().requires_grad_()
    return Run(
        batch=tokens.shape[0],
        start=start,
        resid=resid,
        stop=stop,
        grad=request.grad,
        copied=model.spec.copied,
        standing=model._standing_terms,
    )


def site_sizes(model: HookedModel, site: str, layer: int | None) -> dict[str, int]:
    """The sizes of a site's axes other than batch and positions."""
    cfg, spec = model.cfg, model.spec
    return {
        "head": cfg.n_heads,
        "kv_head": cfg.n_kv_heads,
        "d_head": cfg.d_head,
        # A projection in front of the head may change the width (OPT-350m).
        "d_model": spec.d_final if site == "ln_final" else cfg.d_model,
        "d_vocab": cfg.d_vocab,
        "neuron": (spec.layers[layer].d_mlp if layer is not None else None) or 0,
    }


def plan_interventions(
    model: HookedModel,
    run: Run,
    interventions: Sequence[Intervention],
    shape: Sequence[int],
    n_total: int,
) -> None:
    """Bind interventions to a run, in order.

    Raises:
        InterventionError: one of them cannot apply; the sentence says why.
    """
    for edit in interventions:
        if not isinstance(edit, Intervention):
            raise InterventionError(f"{edit!r:.60} is not an intervention.")
        layer = None if edit.layer is None else _resolve_layer(model, edit)
        if not model.has_site(edit.site, layer):
            why = model.why_missing(edit.site, layer)
            raise InterventionError(f"{edit}: {model.cfg.name} has no such site there: {why}.")
        _check_reached(edit, layer, run)
        sizes = {"batch": shape[0], "pos": n_total, "key": n_total}
        frame = Frame(sizes | site_sizes(model, edit.site, layer), shape[1], n_total)
        if edit.op == "low_rank":
            assert layer is not None
            d_in, d_out = model._projection_sizes(edit.site, layer)
            bound = BoundLowRank(edit, frame, d_in, d_out)
            run.low_rank.setdefault((edit.site, layer), []).append(bound)
        else:
            run.at(edit.site, layer).edits.append(BoundEdit(edit, frame))


def _resolve_layer(model: HookedModel, edit: Intervention) -> int:
    assert edit.layer is not None
    try:
        return model.resolve_layer(edit.layer)
    except UnknownSiteError as error:
        raise InterventionError(f"{edit}: {error}") from None


def _check_reached(edit: Intervention, layer: int | None, run: Run) -> None:
    if layer is None:
        missed = run.stop is not None if edit.site in _AFTER_BLOCKS else run.resid is not None
    else:
        missed = layer < run.start or (run.stop is not None and layer >= run.stop)
    if missed:
        raise InterventionError(f"{edit}: this run starts after it or stops before it.")


def _plan_records(model: HookedModel, run: Run, names: Iterable[SiteName] | str | None) -> None:
    cfg = model.cfg
    if names is None:
        for site, layers in model.sites.items():
            for layer in layers if layers is not None else (None,):
                run.at(site, layer).record = True
        return
    for name in site_names(names):
        key = parse_site(name, gated=cfg.gated, rotary=cfg.position_kind == "rotary")
        for site in _recorded_for(model, key.site):
            if not has_layers(site):
                wanted: tuple[int | None, ...] = (None,)
            elif key.site == "ln_final_scale":
                wanted = (cfg.n_layers - 1,)
            elif key.layer is None:
                wanted = tuple(n for n in range(cfg.n_layers) if model.has_site(site, n))
            else:
                wanted = (model.resolve_layer(key.layer),)
            if not wanted or not model.has_site(site, wanted[0]):
                why = model.why_missing(site, wanted[0] if wanted else 0)
                raise UnknownSiteError(f"{cfg.name} has no {key.site}: {why}.")
            for layer in wanted:
                run.at(site, layer).record = True


def _recorded_for(model: HookedModel, site: str) -> tuple[str, ...]:
    """The sites to record for a name: itself, or what it is derived from."""
    needs = DERIVED.get(site, (site,))
    if site == "ln2_scale":
        return needs[:1] if any(model.spec.layers_with("resid_mid")) else needs[1:]
    return needs


def check_applied(run: Run) -> None:
    """Refuse to return from a run in which an intervention did nothing."""
    for bound in run.bound_edits():
        if not bound.applied:
            raise InterventionNotAppliedError(
                f"{bound.edit} applied nowhere in this run, so the result says nothing about it."
            )
