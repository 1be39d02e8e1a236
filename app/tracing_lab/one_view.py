"""One fact: three maps of layers by tokens, and what the chosen cell restores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import streamlit as st

from app.attention_cache import Answer
from app.attention_lab.measured import settled
from app.errors import plain
from app.layer_map import LayerMap, layer_map, written
from app.tracing_lab.asked import Asked, place, trace_job
from app.tracing_lab.selection import take_place
from lens_core.plots import visible
from lens_core.tracing import CausalTrace, TraceKind
from lens_core.tracing.maps import window_layers

# What three maps of the shipped model take, and a little more.
_USUAL_S = 1.6
TITLES: Mapping[TraceKind, str] = {
    "state": "Single states",
    "state_mlp_severed": "Single states, later MLPs cut off",
    "state_attn_severed": "Single states, later attentions cut off",
    "mlp": "MLP outputs, a window of layers",
    "attn": "Attention outputs, a window of layers",
}

CUT: Mapping[TraceKind, str] = {"state_mlp_severed": "MLPs", "state_attn_severed": "attentions"}


def draw(asked: Asked) -> None:
    """What corruption does, the three maps, the chosen cell."""
    settled(trace_job(asked), "Tracing", lambda answer: _draw(asked, answer), at_once_s=_USUAL_S)


def _draw(asked: Asked, answer: Answer[CausalTrace]) -> None:
    found = answer.result
    st.markdown(_question(asked, found))
    st.caption(_control(asked, found))
    if abs(found.total_effect) < 1e-3:
        st.warning(
            "The corruption leaves the answer as it was, so there is nothing to restore. Use more "
            "noise, or another subject.",
            icon=":material/info:",
        )
    full = max(abs(found.total_effect), 1e-9)
    for kind in asked.kinds:
        _map(asked, found, kind, full)
    _cell(asked, found)
    n_runs = sum(values.size for values in found.values.values())
    st.caption(f"{n_runs} values, one a cell and draw, in {answer.took_ms:.0f} ms.")


def _question(asked: Asked, found: CausalTrace) -> str:
    unit = f" {found.unit}" if found.unit else ""
    said = f"**{plain(visible(found.answer_text))}**"
    subject = _words(asked, found, found.subject)
    return (
        f"The {found.metric} of {said} is **{found.clean:.3f}**{unit}. With *{plain(subject)}* "
        f"corrupted it is **{found.corrupted.mean():.3f}**: a total effect of "
        f"**{found.total_effect:.3f}**."
    )


def _control(asked: Asked, found: CausalTrace) -> str:
    if found.control_effect is None or found.control_span is None:
        return "There is no other stretch of words here, or no noise, to corrupt as a control."
    words = _words(asked, found, found.control_span)
    return (
        f"Control: the same noise on *{plain(words)}*, which is not the subject, has a total "
        f"effect of {written(found.control_effect, 3)}."
    )


def _words(asked: Asked, found: CausalTrace, span: tuple[int, int]) -> str:
    return asked.model.to_string(list(found.token_ids[span[0] : span[1] + 1])).strip()


def _map(asked: Asked, found: CausalTrace, kind: TraceKind, full: float) -> None:
    effect = found.indirect_effect(kind)
    layer, at = place(asked, found)
    chosen = asked.kind == kind
    st.markdown(f"##### {TITLES[kind]}")
    st.caption(_explained(found, kind))
    first, last = found.subject
    layer_map(
        LayerMap(
            title=f"{TITLES[kind]}: indirect effect, {found.model_name}",
            label=f"{TITLES[kind]}: indirect effect, layers by tokens",
            values=effect,
            effects=effect / full,
            rows=[f"L{n}" for n in range(effect.shape[0])],
            columns=[
                f"{i} {visible(text)}{'*' if first <= i <= last else ''}"
                for i, text in enumerate(found.tokens)
            ],
            note=lambda r, c: _note(found, kind, r, c),
            chosen=(layer, at) if chosen else (-1, -1),
        ),
        key=f"trace_{kind}",
        on_choose=lambda r, c: take_place(kind, r, c),
    )


def _explained(found: CausalTrace, kind: TraceKind) -> str:
    done = "restored" if found.direction == "denoise" else "corrupted"
    if kind == "state":
        return (
            f"Each cell: the residual stream behind one block is {done} at one token. The number "
            "is the indirect effect; full colour is the whole total effect. Tokens with a star are "
            "the subject."
        )
    if kind in CUT:
        kept = "corrupted" if found.direction == "denoise" else "clean"
        return (
            f"The same, and the {CUT[kind]} of all later blocks write at this token what they "
            f"write in the {kept} run. What is lost against the map above goes through them."
        )
    width = found.windows[kind]
    layers = "one layer writes" if width == 1 else f"{width} layers around this one write"
    return f"Each cell: what {layers} is {done} at one token."


def _note(found: CausalTrace, kind: TraceKind, row: int, column: int) -> str:
    values = found.values[kind][row, column]
    spread = f", spread {values.std():.3f} over {len(values)} samples" if len(values) > 1 else ""
    return (
        f"{_where(found, kind, row)} at {visible(found.tokens[column])}: {found.metric} "
        f"{values.mean():.3f}{spread}"
    )


def _where(found: CausalTrace, kind: TraceKind, layer: int) -> str:
    if kind == "state":
        return f"state behind block {layer}"
    if kind in CUT:
        return f"state behind block {layer}, later {CUT[kind]} cut off"
    layers = window_layers(layer, found.windows[kind], found.values[kind].shape[0])
    what = "MLPs" if kind == "mlp" else "attentions"
    several = f"{layers[0]} to {layers[-1]}" if len(layers) > 1 else f"{layers[0]}"
    return f"{what} of layers {several}"


def _cell(asked: Asked, found: CausalTrace) -> None:
    kind = asked.kind
    layer, at = place(asked, found)
    effect = float(found.indirect_effect(kind)[layer, at])
    values = found.values[kind][layer, at]
    share = effect / found.total_effect if found.total_effect else float("nan")
    st.markdown(
        f"**Chosen: {_where(found, kind, layer)}, at {plain(visible(found.tokens[at]))} (position "
        f"{at}).** {'Restored' if found.direction == 'denoise' else 'Corrupted'}, the "
        f"{found.metric} is {values.mean():.3f}: an indirect effect of {written(effect, 3)}, "
        f"{written(100 * share, 0)}% of the total effect. {_best(found, kind)}"
        f"{_uncut(found, kind, layer, at)}"
    )


def _uncut(found: CausalTrace, kind: TraceKind, layer: int, at: int) -> str:
    """What the same state does with its paths left open."""
    if kind not in CUT:
        return ""
    effect = float(found.indirect_effect("state")[layer, at])
    return f" With nothing cut off the same state has {written(effect, 3)}."


def _best(found: CausalTrace, kind: TraceKind) -> str:
    effect = found.indirect_effect(kind)
    layer, at = np.unravel_index(int(np.argmax(effect)), effect.shape)
    return (
        f"The largest in this map is {written(float(effect[layer, at]), 3)}, at layer {layer} and "
        f"{plain(visible(found.tokens[int(at)]))}."
    )
