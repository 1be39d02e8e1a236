"""Reading one block from a probe run: which module plays which part."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from lens_core.model.probe import Call, fit, rounding
from lens_core.model.scales import named_scale
from lens_core.model.sites import LAYER_SITES
from lens_core.model.spec import FusedQKV, LayerSpec

_LINEAR = re.compile(r"linear|conv1d", re.IGNORECASE)
_NORM = re.compile(r"norm", re.IGNORECASE)
_EXPERTS = re.compile(r"moe|expert|sparse|router", re.IGNORECASE)
Heads = tuple[int, int, int]


@dataclass
class BlockReader:
    """One block's calls, and what has been found out about it."""

    block: Call
    calls: list[Call]
    core: str | None
    inner: dict[str, Tensor]
    heads: Heads
    config: Any
    parts: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    copied: set[str] = field(default_factory=set)

    def relative(self, call: Call) -> str:
        """A call's path from the block down."""
        return call.path[len(self.block.path) + 1 :]

    def below(self, path: str) -> list[Call]:
        """The calls at and below a path, in the order in which they began."""
        full = f"{self.block.path}.{path}"
        found = [c for c in self.calls if c.path == full or c.path.startswith(f"{full}.")]
        return sorted(found, key=lambda c: c.started)

    @property
    def children(self) -> list[Call]:
        """The calls of the block's direct children, in order."""
        direct = [c for c in self.calls if "." not in self.relative(c)]
        return sorted(direct, key=lambda c: c.started)


def read_block(
    block: Call,
    calls: list[Call],
    core: str | None,
    inner: dict[str, Tensor],
    heads: Heads,
    config: Any,
) -> tuple[LayerSpec, set[str]]:
    """The parts of one block, and the sites whose tensors it changes in place afterwards."""
    reader = BlockReader(block, calls, core, inner, heads, config)
    attn = _read_attention(reader)
    mlp, w_out = _read_mlp(reader, attn)
    _read_residual(reader, attn, mlp, w_out)
    if block.output_changed_later:
        reader.copied.add("resid_post")
    for site in LAYER_SITES:
        if site in ("resid_pre", "resid_post") or site in reader.missing:
            continue
        if not _found(reader, site):
            reader.missing[site] = "the block has no such part"
    return LayerSpec(**reader.parts, missing=reader.missing), reader.copied


def _found(reader: BlockReader, site: str) -> bool:
    parts = reader.parts
    if site in ("q", "k", "v", "scores", "pattern", "z"):
        return site in reader.inner
    if site in ("attn_out", "mlp_out", "resid_mid", "mlp_in"):
        return parts.get(site) is not None
    if site == "attn_in":
        return parts.get("attn") is not None
    if site == "mlp_pre":
        return parts.get("w_in") is not None
    if site == "mlp_gate":
        return parts.get("w_gate") is not None
    return parts.get("w_out") is not None


def _is_linear(call: Call) -> bool:
    weight = getattr(call.module, "weight", None)
    return (
        isinstance(weight, Tensor)
        and weight.ndim == 2
        and bool(_LINEAR.search(type(call.module).__name__))
    )


def _read_attention(reader: BlockReader) -> Call | None:
    """The attention module, its projections and the norm before it."""
    if reader.core is None or not reader.inner:
        for site in ("attn_in", "q", "k", "v", "scores", "pattern", "z", "attn_out"):
            reader.missing[site] = "this block has no softmax attention"
        return None
    outer = reader.core.split(".")[0]
    attn = next((c for c in reader.children if reader.relative(c) == outer), None)
    if attn is None:
        return None
    reader.parts |= {"attn": outer, "attn_core": reader.core}
    norm = next((c for c in reader.children if attn.reads(c) and _is_norm(c)), None)
    reader.parts["ln1"] = None if norm is None else reader.relative(norm)
    linears = [c for c in reader.below(reader.core) if _is_linear(c)]
    z = reader.inner.get("z")
    if linears and z is not None:
        last = linears[-1]
        # A gate between z and the projection would make per-head outputs meaningless.
        if last.inp.numel() == z.numel() and _close(last.inp, z):
            reader.parts["w_o"] = reader.relative(last)
            reader.parts["qkv"] = _read_qkv(reader, linears[:-1])
    return attn


def _is_norm(call: Call) -> bool:
    return bool(_NORM.search(type(call.module).__name__))


def _close(a: Tensor, b: Tensor) -> bool:
    tolerance = 1e-5 if a.dtype == torch.float32 else 1e-2
    return torch.allclose(a.reshape(-1).float(), b.reshape(-1).float(), rtol=tolerance, atol=1e-6)


def _read_qkv(reader: BlockReader, linears: list[Call]) -> FusedQKV | tuple[str, str, str] | None:
    """How q, k and v are stored, judged by which columns turn out to be v."""
    v = reader.inner.get("v")
    if v is None:
        return None
    n_heads, n_kv, d_head = reader.heads
    if v.shape[2] != n_kv:
        v = v[:, :, :: v.shape[2] // n_kv]
    if len(linears) == 1 and linears[0].out.shape[-1] == (n_heads + 2 * n_kv) * d_head:
        out = linears[0].out.reshape(*v.shape[:2], -1)
        for layout in ("concat", "interleaved"):
            if _close(split_qkv(out, layout, reader.heads)[2], v):
                return FusedQKV(reader.relative(linears[0]), layout)
        return None
    paths = {}
    for call in linears:
        name = reader.relative(call).split(".")[-1].lower().removeprefix("w")
        letter = name[:1] if name[:1] in "qkv" else ""
        sizes = {"q": n_heads * d_head, "k": n_kv * d_head, "v": n_kv * d_head}
        if letter and letter not in paths and call.out.shape[-1] == sizes[letter]:
            paths[letter] = call
    if set(paths) != {"q", "k", "v"} or not _close(paths["v"].out, v):
        return None
    return reader.relative(paths["q"]), reader.relative(paths["k"]), reader.relative(paths["v"])


def split_qkv(
    x: Tensor, layout: Literal["concat", "interleaved"], heads: Heads
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut a fused [..., q k v] into [..., head, d_head] and twice [..., kv_head, d_head]."""
    n_heads, n_kv, d_head = heads
    lead = x.shape[:-1]
    if layout == "concat":
        q, k, v = x.split([n_heads * d_head, n_kv * d_head, n_kv * d_head], dim=-1)
        return (
            q.reshape(*lead, n_heads, d_head),
            k.reshape(*lead, n_kv, d_head),
            v.reshape(*lead, n_kv, d_head),
        )
    group = n_heads // n_kv
    grouped = x.reshape(*lead, n_kv, group + 2, d_head)
    q = grouped[..., :group, :].reshape(*lead, n_heads, d_head)
    return q, grouped[..., group, :], grouped[..., group + 1, :]


def _read_mlp(reader: BlockReader, attn: Call | None) -> tuple[Call | None, Call | None]:
    """The MLP (None where its projections lie bare in the block) and its last projection."""
    candidates = [
        c
        for c in reader.children
        if c is not attn and not _is_norm(c) and any(p.ndim >= 2 for p in c.module.parameters())
    ]
    neurons = ("mlp_pre", "mlp_gate", "mlp_post")
    if len(candidates) >= 2 and all(_is_linear(c) for c in candidates):
        first = candidates[0]
        reader.parts["mlp_in"] = reader.relative(first)
        _read_ln2(reader, first)
        return None, _read_projections(reader, candidates, first)
    if len(candidates) != 1:
        why = f"the block has {len(candidates)} feed-forward parts"
        reader.missing |= dict.fromkeys(("mlp_in", "mlp_out", *neurons), why)
        return None, None
    mlp = candidates[0]
    reader.parts["mlp_in"] = reader.relative(mlp)
    _read_ln2(reader, mlp)
    below = reader.below(reader.relative(mlp))
    if any(_EXPERTS.search(type(m).__name__) for m in mlp.module.modules()):
        why = "the neurons are spread over experts"
        reader.missing |= dict.fromkeys(neurons, why)
        return mlp, None
    return mlp, _read_projections(reader, [c for c in below if _is_linear(c)], mlp)


def _read_ln2(reader: BlockReader, mlp: Call) -> None:
    norm = next((c for c in reader.children if mlp.reads(c) and _is_norm(c)), None)
    reader.parts["ln2"] = None if norm is None else reader.relative(norm)


def _read_projections(reader: BlockReader, linears: list[Call], mlp: Call) -> Call | None:
    """W_in, W_gate and W_out, judged by what reads what."""
    neurons = ("mlp_pre", "mlp_gate", "mlp_post")
    if len(linears) < 2:
        reader.missing |= dict.fromkeys(neurons, "the MLP is not made of linear projections")
        return None
    last = linears[-1]
    d_mlp = last.inp.shape[-1]
    first = [c for c in linears[:-1] if c.reads_same_as(mlp)]
    widths = [c.out.shape[-1] for c in first]
    gate = _gate(reader, first)
    if widths == [d_mlp]:
        reader.parts["w_in"] = reader.relative(first[0])
    elif widths == [2 * d_mlp] and (order := _fused_gate(reader, first[0])) is not None:
        path = reader.relative(first[0])
        reader.parts |= {"w_in": path, "w_gate": path, "fused_gate": order}
    elif widths == [d_mlp, d_mlp] and gate is not None:
        other = first[0] if gate is first[1] else first[1]
        reader.parts |= {"w_in": reader.relative(other), "w_gate": reader.relative(gate)}
    else:
        why = f"the MLP's projections have the widths {widths}, which are not understood"
        reader.missing |= dict.fromkeys(neurons, why)
        return last
    reader.parts |= {"w_out": reader.relative(last), "d_mlp": d_mlp}
    if "w_gate" not in reader.parts:
        reader.missing["mlp_gate"] = "the MLP has no gate"
    return last


def _gate(reader: BlockReader, first: list[Call]) -> Call | None:
    """Of two projections the one that goes through the non-linearity."""
    for call in first:
        if any(other.reads(call) and not _is_linear(other) for other in reader.calls):
            return call
    named = [c for c in first if "gate" in c.path.split(".")[-1]]
    return named[0] if len(named) == 1 else None


def _fused_gate(reader: BlockReader, fused: Call) -> Literal["gate first", "gate last"] | None:
    """Which half of a fused projection goes through the non-linearity."""
    start = fused.out_ref.data_ptr()
    half = fused.out_ref.shape[-1] // 2 * fused.out_ref.element_size()
    for call in reader.calls:
        if call is fused or call.inp_ref.numel() * 2 != fused.out_ref.numel():
            continue
        if call.inp_ref.data_ptr() == start:
            return "gate first"
        if call.inp_ref.data_ptr() == start + half:
            return "gate last"
    return None


def _read_residual(
    reader: BlockReader, attn: Call | None, mlp: Call | None, w_out: Call | None
) -> None:
    """Which outputs add up to the residual stream: attn_out, resid_mid, mlp_out."""
    before, after = reader.block.inp, reader.block.out
    noise = rounding(before, after)
    attn_parts = _candidates(reader, attn, reader.parts.get("w_o"))
    mlp_parts = _candidates(reader, mlp, None if w_out is None else reader.relative(w_out))
    for call in reader.children:
        if attn is None or call.started < attn.ended or call.inp.numel() != before.numel():
            continue
        middle = call.inp.reshape(before.shape).double()
        for part in attn_parts:
            factors = fit(middle - before.double(), [part.out], noise)
            if factors is None:
                continue
            _add_part(reader, "attn", part, factors[0])
            reader.parts["resid_mid"] = reader.relative(call)
            _fit_mlp(reader, after.double() - middle, mlp_parts, noise)
            return
    for part in attn_parts:
        for other in mlp_parts:
            factors = fit(after.double() - before.double(), [part.out, other.out], noise)
            if factors is not None:
                _add_part(reader, "attn", part, factors[0])
                _add_part(reader, "mlp", other, factors[1])
                reader.parts["parallel"] = True
                reader.missing["resid_mid"] = "attention and MLP read the same residual stream"
                return
    why = "no module's output, with or without a factor, accounts for what the block adds"
    for site in ("attn_out", "resid_mid", "mlp_out"):
        reader.missing.setdefault(site, why)


def _fit_mlp(reader: BlockReader, added: Tensor, parts: list[Call], noise: float) -> None:
    for part in parts:
        factors = fit(added, [part.out], noise)
        if factors is not None:
            _add_part(reader, "mlp", part, factors[0])
            return
    reader.missing.setdefault("mlp_out", "no module's output accounts for what the MLP adds")


def _candidates(reader: BlockReader, part: Call | None, projection: str | None) -> list[Call]:
    """What may be the thing that is added: a norm after the part, the part, its last projection."""
    found = []
    if part is not None:
        found += [c for c in reader.children if c.reads(part) and _is_norm(c)]
        found.append(part)
    if projection is not None:
        found += [c for c in reader.calls if reader.relative(c) == projection]
    return [c for c in found if c.out.numel() == reader.block.inp.numel()]


def _add_part(reader: BlockReader, name: str, call: Call, factor: float) -> None:
    reader.parts[f"{name}_out"] = reader.relative(call)
    reader.parts[f"{name}_scale"] = named_scale(factor, reader.config, "block")
    if call.output_changed_later:
        reader.copied.add(f"{name}_out")
