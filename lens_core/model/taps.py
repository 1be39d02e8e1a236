"""Taps: installed in a model once, inert unless this thread has a run.

Nothing is added to or removed from a module after installation. Hooks hold no module, and the
wrapped forwards are bound methods, so a deep copy of a hooked model is a hooked model of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import NewGELUActivation

from lens_core.model.attention import LAYER_ATTRIBUTE, AttentionWindow
from lens_core.model.run import Run, StopRun, current_run
from lens_core.model.spec import LayerSpec, ModelSpec, module_at

_TAP_ATTRIBUTE = "_lens_tap"
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def install(model: nn.Module, spec: ModelSpec) -> None:
    """Put every tap of the spec into the model."""
    base = module_at(model, spec.base)
    _wrap(base, _base_forward, _BaseTap(spec.output_class))
    if "embed" not in spec.missing:
        _tap_output(module_at(model, spec.embed), "embed", None, spec.embed_scale)
    if spec.pos_embed is not None:
        module_at(model, spec.pos_embed).register_forward_hook(_pos_embed_hook)
    if spec.final:
        stop = len(spec.layers)
        module_at(model, spec.final[0]).register_forward_pre_hook(_stop_hook(stop))
        _tap_output(module_at(model, spec.final[-1]), "ln_final", None)
    blocks = module_at(model, spec.blocks)
    for n, layer in enumerate(spec.layers):
        block = module_at(blocks, str(n))
        _wrap(block, _block_forward, _BlockTap(n, spec.block_outputs))
        _install_attention(block, layer, n, spec)
        _install_mlp(block, layer, n)
        for module in block.modules():
            if type(module) is NewGELUActivation:
                _wrap(module, _gelu_forward, None)
    last = spec.layers[-1]
    if last.mlp_in is not None:
        _wrap(module_at(blocks, f"{len(spec.layers) - 1}.{last.mlp_in}"), _last_mlp_forward, None)


def open_window(core: nn.Module, layer: int, n_kv_heads: int | None) -> None:
    """Let a run look into an attention module that does not go through the registry."""
    _wrap(core, _window_forward, _WindowTap(layer, n_kv_heads))


def _install_attention(block: nn.Module, layer: LayerSpec, n: int, spec: ModelSpec) -> None:
    if layer.attn is not None:
        _tap_input(module_at(block, layer.attn), "attn_in", n)
    if layer.attn_core is not None:
        core = module_at(block, layer.attn_core)
        setattr(core, LAYER_ATTRIBUTE, n)
        if not spec.registry:
            open_window(core, n, spec.n_kv_heads)
    if layer.w_o is not None:
        module_at(block, layer.w_o).register_forward_hook(_projection_hook("attn_out", n))
    if layer.attn_out is not None:
        _tap_output(module_at(block, layer.attn_out), "attn_out", n, layer.attn_scale)
    if layer.resid_mid is not None:
        module = module_at(block, layer.resid_mid)
        module.register_forward_pre_hook(_resid_mid_hook(n), with_kwargs=True)


def _install_mlp(block: nn.Module, layer: LayerSpec, n: int) -> None:
    if layer.mlp_in is not None:
        _tap_input(module_at(block, layer.mlp_in), "mlp_in", n)
    if layer.w_in is not None:
        w_in = module_at(block, layer.w_in)
        if layer.fused_gate is not None:
            w_in.register_forward_hook(_fused_gate_hook(n, layer.fused_gate == "gate first"))
        else:
            w_in.register_forward_hook(_projection_hook("mlp_pre", n, visit=True))
            if layer.w_gate is not None:
                w_gate = module_at(block, layer.w_gate)
                w_gate.register_forward_hook(_projection_hook("mlp_gate", n, visit=True))
    if layer.w_out is not None:
        w_out = module_at(block, layer.w_out)
        _tap_input(w_out, "mlp_post", n)
        w_out.register_forward_hook(_projection_hook("mlp_out", n))
    if layer.mlp_out is not None:
        _tap_output(module_at(block, layer.mlp_out), "mlp_out", n, layer.mlp_scale)


# --- hooks ---------------------------------------------------------------------------------------


def _tap_output(module: nn.Module, site: str, layer: int | None, factor: float = 1.0) -> None:
    place = (site, layer)

    def hook(module: nn.Module, args: Args, output: Any) -> Any:
        run = current_run()
        if run is None or place not in run.plan:
            return None
        if isinstance(output, tuple):
            return (run.visit_flat(site, layer, output[0], factor), *output[1:])
        return run.visit_flat(site, layer, output, factor)

    module.register_forward_hook(hook)


def _tap_input(module: nn.Module, site: str, layer: int) -> None:
    place = (site, layer)

    def hook(module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        run = current_run()
        if run is None or place not in run.plan:
            return None
        return _with_hidden(args, kwargs, run.visit_flat(site, layer, _hidden(args, kwargs)))

    module.register_forward_pre_hook(hook, with_kwargs=True)


def _pos_embed_hook(module: nn.Module, args: Args, output: Tensor) -> Tensor | None:
    """Position embeddings are the same for all rows; they are shown, and edited, row by row."""
    run = current_run()
    if run is None or ("pos_embed", None) not in run.plan:
        return None
    return run.visit("pos_embed", None, output.expand(run.batch, -1, -1))


def _resid_mid_hook(layer: int) -> Callable[[nn.Module, Args, Kwargs], None]:
    """Edits in place: the very tensor that the norm reads is also the one the block adds to."""

    def hook(module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        run = current_run()
        if run is None or ("resid_mid", layer) not in run.plan:
            return
        x = _hidden(args, kwargs)
        if run.grad and x.ndim == 2:
            x.copy_(run.visit_flat("resid_mid", layer, x.clone()))
            return
        seen = run.visit_flat("resid_mid", layer, x)
        if seen is not x and seen.data_ptr() != x.data_ptr():
            x.copy_(seen)

    return hook


def _stop_hook(layer: int) -> Callable[[nn.Module, Args], None]:
    def hook(module: nn.Module, args: Args) -> None:
        run = current_run()
        if run is not None and run.stop == layer:
            raise StopRun(args[0])

    return hook


def _projection_hook(
    site: str, layer: int, *, visit: bool = False
) -> Callable[[nn.Module, Args, Tensor], Tensor | None]:
    """Add low-rank edits to a projection's output; with `visit`, that output is the site itself."""
    place = (site, layer)

    def hook(module: nn.Module, args: Args, output: Tensor) -> Tensor | None:
        run = current_run()
        if run is None:
            return None
        if place in run.low_rank:
            output = _add_low_rank(run, site, layer, args[0], output)
        elif not visit or place not in run.plan:
            return None
        return run.visit_flat(site, layer, output) if visit else output

    return hook


def _fused_gate_hook(
    layer: int, gate_first: bool
) -> Callable[[nn.Module, Args, Tensor], Tensor | None]:
    """One projection makes the gate and the linear branch: show its halves as two sites."""
    names = ("mlp_gate", "mlp_pre") if gate_first else ("mlp_pre", "mlp_gate")

    def hook(module: nn.Module, args: Args, output: Tensor) -> Tensor | None:
        run = current_run()
        if run is None:
            return None
        if not any((site, layer) in run.plan or (site, layer) in run.low_rank for site in names):
            return None
        halves, changed = [], run.grad
        for site, half in zip(names, output.chunk(2, dim=-1), strict=True):
            new = half
            if (site, layer) in run.low_rank:
                new = _add_low_rank(run, site, layer, args[0], half)
            new = run.visit_flat(site, layer, new)
            changed |= new is not half
            halves.append(new)
        return torch.cat(halves, dim=-1) if changed else None

    return hook


def _add_low_rank(run: Run, site: str, layer: int, x: Tensor, y: Tensor) -> Tensor:
    shape = (run.batch, -1)
    rows_x, rows_y = x.reshape(*shape, x.shape[-1]), y.reshape(*shape, y.shape[-1])
    for edit in run.low_rank[site, layer]:
        rows_y = edit.apply(rows_x, rows_y, run.offset)
    return rows_y.reshape(y.shape)


# --- wrapped forwards ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _BaseTap:
    output_class: type


@dataclass(frozen=True)
class _BlockTap:
    layer: int
    n_outputs: int


@dataclass(frozen=True)
class _WindowTap:
    layer: int
    n_kv_heads: int | None


def _base_forward(module: Any, *args: Any, **kwargs: Any) -> Any:
    """The decoder; skipped when a run only wants the head that comes after it."""
    run = current_run()
    if run is None or run.head_input is None:
        return module._lens_inner(*args, **kwargs)
    return module._lens_tap.output_class(last_hidden_state=run.head_input)


def _block_forward(module: Any, *args: Any, **kwargs: Any) -> Any:
    """A block between resid_pre and resid_post; may be skipped, or be where a run ends."""
    run = current_run()
    if run is None:
        return module._lens_inner(*args, **kwargs)
    tap: _BlockTap = module._lens_tap
    hidden = _hidden(args, kwargs)
    if tap.layer < run.start:
        return (hidden, *[None] * (tap.n_outputs - 1)) if tap.n_outputs else hidden
    if tap.layer == run.start and run.resid is not None:
        hidden = run.resid
    if run.enter is not None:
        hidden = run.enter(tap.layer, hidden)
    if run.stop == tap.layer:
        raise StopRun(hidden)
    if run.grad and not hidden.requires_grad:
        # Without a leaf here there would be no graph, since the weights want no gradient.
        hidden = hidden.detach().requires_grad_()
    hidden = run.visit("resid_pre", tap.layer, hidden)
    args, kwargs = _with_hidden(args, kwargs, hidden)
    output = module._lens_inner(*args, **kwargs)
    if isinstance(output, tuple):
        return (run.visit("resid_post", tap.layer, output[0]), *output[1:])
    return run.visit("resid_post", tap.layer, output)


def _window_forward(module: Any, *args: Any, **kwargs: Any) -> Any:
    """Attention outside the registry, with the window open if this run looks inside."""
    run = current_run()
    tap: _WindowTap = module._lens_tap
    if run is None or not any((site, tap.layer) in run.plan for site in _WINDOW_SITES):
        return module._lens_inner(*args, **kwargs)
    with AttentionWindow(run, tap.layer, tap.n_kv_heads):
        return module._lens_inner(*args, **kwargs)


def _last_mlp_forward(module: Any, *args: Any, **kwargs: Any) -> Any:
    """The last block's MLP; for the last position alone where no other is read after it."""
    run = current_run()
    if run is None or not run.narrow or _hidden(args, kwargs).ndim != 3:
        return module._lens_inner(*args, **kwargs)
    hidden = _hidden(args, kwargs)

    def last(x: Any) -> Any:  # some MLPs are handed the residual stream too, to add to
        same = isinstance(x, Tensor) and x.shape[:2] == hidden.shape[:2]
        return x[:, -1:] if same else x

    named = {name: last(x) for name, x in kwargs.items()}
    output = module._lens_inner(*(last(x) for x in args), **named)
    if not isinstance(output, Tensor):
        return (_at_the_end(output[0], hidden), *output[1:])
    return _at_the_end(output, hidden)


def _gelu_forward(module: Any, x: Tensor) -> Tensor:
    """GPT-2's activation, which its code computes in eight steps through the whole memory."""
    run = current_run()
    if run is not None and run.fused:
        return nn.functional.gelu(x, approximate="tanh")
    return module._lens_inner(x)


def _at_the_end(last: Tensor, hidden: Tensor) -> Tensor:
    full = last.new_zeros(*hidden.shape[:-1], last.shape[-1])
    full[:, -1:] = last
    return full


_WINDOW_SITES = ("q", "k", "v", "scores", "pattern", "z")


def _inner_forward(module: Any, *args: Any, **kwargs: Any) -> Any:
    return type(module).forward(module, *args, **kwargs)


def _wrap(module: nn.Module, forward: Callable[..., Any], tap: object) -> None:
    """Put `forward` before a module's own, which is the class's or what a library put before it."""
    if _TAP_ATTRIBUTE in module.__dict__:
        module.__dict__[_TAP_ATTRIBUTE] = tap
        return
    own = module.__dict__.get("forward")
    inner = MethodType(_inner_forward, module) if own is None else own
    # Plain attributes: nn.Module would otherwise look for parameters and buffers in them.
    module.__dict__.update(_lens_inner=inner, _lens_tap=tap, forward=MethodType(forward, module))


def _hidden(args: Args, kwargs: Kwargs) -> Tensor:
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def _with_hidden(args: Args, kwargs: Kwargs, hidden: Tensor) -> tuple[Args, Kwargs]:
    if args:
        return (hidden, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": hidden}
