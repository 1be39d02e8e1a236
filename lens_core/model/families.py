"""Discovery: where a decoder-only model of transformers keeps its parts.

Structure is read from a probe run, by following tensors: which module read the tensor that another
returned, and which outputs add up to the residual stream. No family is named here; what cannot be
read from data is a row in `scales.SCALES`. A model whose structure cannot be read is refused with a
sentence that says what was missing.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lens_core.model.attention import LAYER_ATTRIBUTE, NAME
from lens_core.model.blocks import read_block
from lens_core.model.config import input_device
from lens_core.model.errors import NaNWeightsError, UnsupportedModelError
from lens_core.model.probe import Call, Recorder, fit, probe_tokens, rounding
from lens_core.model.run import Run, active
from lens_core.model.scales import named_scale
from lens_core.model.sites import SiteKey
from lens_core.model.spec import ModelSpec
from lens_core.model.taps import open_window

_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)
_INNER_SITES = ("q", "k", "v", "scores", "pattern", "z")


def discover(model: Any) -> tuple[ModelSpec, Tensor]:
    """Find a model's parts.

    Args:
        model: a causal language model of transformers, in eval mode, with eager attention.

    Returns:
        The spec, and the logits of the probe tokens before anything was installed.

    Raises:
        UnsupportedModelError: a part without which nothing can be tapped was not found.
        NaNWeightsError: the logits are not finite.
    """
    kind = type(model).__name__
    blocks_path, blocks = _find_blocks(model)
    tokens = probe_tokens(_vocab_size(model), input_device(model))
    _use_eager(model)
    with torch.no_grad(), active(None):
        reference = model(input_ids=tokens, use_cache=False).logits
    if not torch.isfinite(reference).all():
        raise NaNWeightsError(
            f"The logits of this {kind} are not finite numbers; its weights are damaged."
        )
    cores = [_attention_core(block) for block in blocks]
    registry = _use_registry(model)
    for n, (block, core) in enumerate(zip(blocks, cores, strict=True)):
        if core is None:
            continue
        module = block.get_submodule(core)
        setattr(module, LAYER_ATTRIBUTE, n)
        if not registry:
            open_window(module, n, None)
    recorder, run = Recorder(), Run(batch=tokens.shape[0])
    for n in range(len(blocks)):
        for site in _INNER_SITES:
            run.at(site, n).record = True
    with torch.no_grad(), active(run), recorder.watching(model):
        model(input_ids=tokens, use_cache=False)
    spec = _read_model(model, blocks_path, cores, recorder, run, registry)
    return replace(spec, d_vocab=reference.shape[-1]), reference


def _find_blocks(model: Any) -> tuple[str, nn.ModuleList]:
    """The list of transformer blocks: as many as the config says, with attention in them."""
    config = model.config.get_text_config()
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or len(module) != config.num_hidden_layers:
            continue
        if any(_attention_core(block) is not None for block in module):
            return path, module
    raise UnsupportedModelError(
        f"{type(model).__name__} cannot be opened: no list of {config.num_hidden_layers} blocks "
        "with attention was found in it."
    )


def _attention_core(block: nn.Module) -> str | None:
    """The innermost module named attention that has projections of its own."""
    found = None
    for path, module in block.named_modules():
        if path and _ATTENTION.search(type(module).__name__) and _has_projections(module):
            if found is not None and not path.startswith(f"{found}."):
                continue
            found = path
    return found


def _has_projections(module: nn.Module) -> bool:
    weights = [getattr(child, "weight", None) for child in module.children()]
    return sum(isinstance(w, Tensor) and w.ndim == 2 for w in weights) >= 2


def _use_eager(model: Any) -> None:
    """Make the family's plain attention run, which is the one that can be opened."""
    if model.config.get_text_config()._attn_implementation in ("eager", NAME):
        return
    if model._can_set_attn_implementation():
        model.set_attn_implementation("eager")
    else:
        # These families look the name up at every call; there is no public way to change it.
        model.config.get_text_config()._attn_implementation_internal = "eager"


def _use_registry(model: Any) -> bool:
    """Route attention through `lens_attention` if the family can; say whether it can."""
    if not model._can_set_attn_implementation():
        return False
    if getattr(model.config, "reorder_and_upcast_attn", False):
        return False  # GPT-2 takes this other path under the name "eager" only
    model.set_attn_implementation(NAME)
    return bool(model.config.get_text_config()._attn_implementation == NAME)


def _vocab_size(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def _read_model(
    model: Any,
    blocks_path: str,
    cores: list[str | None],
    recorder: Recorder,
    run: Run,
    registry: bool,
) -> ModelSpec:
    kind = type(model).__name__
    block_calls = []
    for n in range(len(cores)):
        found = [c for c in recorder.calls if c.path == f"{blocks_path}.{n}"]
        if len(found) != 1:
            raise UnsupportedModelError(
                f"{kind} cannot be opened: its block {n} hands on no tensor that can be followed."
            )
        block_calls.append(found[0])
    heads = _heads(model, run, kind)
    outside = [c for c in recorder.calls if not c.path.startswith(f"{blocks_path}.")]
    layers, copied = [], set()
    for n, call in enumerate(block_calls):
        inside = [c for c in recorder.calls if c.path.startswith(f"{call.path}.")]
        inner = {key.site: x.cpu() for key, x in run.cache.items() if key.layer == n}
        layer, changed = read_block(call, inside, cores[n], inner, heads, model.config)
        layers.append(layer)
        copied |= changed
    embed, embed_scale, pos_embed = _read_embedding(model, outside, block_calls[0])
    # What the head calls: the outermost module around the blocks (in OPT, the inner decoder).
    around = [path for path in recorder.output_classes if blocks_path.startswith(f"{path}.")]
    base = min(around, key=len)
    final = _read_final(outside, block_calls[-1], base)
    missing = {}
    if embed is None:
        missing["embed"] = "no module's output, with or without a factor, enters the first block"
    if pos_embed is None:
        missing["pos_embed"] = "the model has no learned position embedding"
    if not final:
        missing["ln_final"] = "the model has no final norm"
    return ModelSpec(
        base=base,
        blocks=blocks_path,
        embed=embed or "",
        embed_scale=embed_scale,
        pos_embed=pos_embed,
        final=final,
        registry=registry,
        block_outputs=block_calls[0].n_outputs,
        output_class=recorder.output_classes[base],
        d_model=block_calls[0].out.shape[-1],
        n_heads=heads[0],
        n_kv_heads=heads[1],
        d_head=heads[2],
        d_final=_width(outside, final, block_calls[-1]),
        d_vocab=0,
        layers=tuple(layers),
        copied=frozenset(copied),
        missing=missing,
    )


def _heads(model: Any, run: Run, kind: str) -> tuple[int, int, int]:
    """n_heads, n_kv_heads and d_head (of z), as seen in attention."""
    for key, z in run.cache.items():
        if key.site == "z":
            raw = run.cache[SiteKey("v", key.layer)].shape[2]
            config = model.config.get_text_config()
            # A family may repeat k and v for every query head before its attention product.
            claimed = getattr(config, "num_key_value_heads", None) or getattr(
                config, "num_kv_heads", None
            )
            n_kv = claimed if claimed and raw % claimed == 0 else raw
            return z.shape[2], int(n_kv), z.shape[3]
    raise UnsupportedModelError(
        f"{kind} cannot be opened: its attention goes neither through transformers' registry nor "
        "through one softmax between two matrix products."
    )


def _read_embedding(
    model: Any, outside: list[Call], first: Call
) -> tuple[str | None, float, str | None]:
    """What enters the first block: a token embedding times a factor, plus position embedding."""
    before = [c for c in outside if c.ended < first.started]
    tokens = model.get_input_embeddings()
    resid = first.inp
    same_shape = [c for c in before if c.out.shape == resid.shape]
    words = sorted(same_shape, key=lambda c: c.module is not tokens)
    places: list[Call | None] = [
        c
        for c in before
        if c.module is not tokens and c.out.ndim == 3 and c.out.shape[1:] == resid.shape[1:]
    ]
    # The token embedding first: a dropout after the sum would account for it all by itself.
    for word in words:
        for place in (None, *places):
            if word is place:
                continue
            rest = resid if place is None else resid.double() - place.out.double()
            factors = fit(rest, [word.out], rounding(resid))
            if factors is not None:
                factor = named_scale(factors[0], model.config, "embed")
                return word.path, factor, None if place is None else place.path
    return None, 1.0, None


def _read_final(outside: list[Call], last: Call, base: str) -> tuple[str, ...]:
    """The modules that the residual stream passes between the last block and the head."""
    after = [c for c in outside if c.started > last.ended and c.path.startswith(f"{base}.")]
    path, current = [], last
    for call in after:
        if call.reads(current):
            path.append(call.path)
            current = call
    return tuple(path)


def _width(outside: list[Call], final: tuple[str, ...], last: Call) -> int:
    """The width of what the head reads."""
    ends = [c for c in outside if final and c.path == final[-1]]
    return int((ends[0] if ends else last).out.shape[-1])
