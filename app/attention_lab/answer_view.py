"""Who wrote the answer: its logit taken apart, with what the parts leave unexplained on screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.attention_cache import ask
from app.attention_lab.asked import Scene
from app.attention_lab.maps import choice, head_map
from app.attention_lab.offers import offer_block
from app.attention_lab.parts import head_label
from app.attention_lab.selection import take_head
from app.attention_lab.settings import ANSWER_AS, PARTS
from app.errors import plain
from app.theme import is_dark
from lens_core.attribution import (
    Accumulated,
    DirectAttribution,
    NeuronAttribution,
    SourceAttribution,
    accumulated,
    direct_logit_attribution,
    neuron_attribution,
    source_attribution,
)
from lens_core.plots import visible
from lens_core.plots.attribution import (
    accumulated_lines,
    component_bars,
    neuron_bars,
    source_bars,
    waterfall,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

HEADS_KEY, BARS_KEY = "answer_map", "answer_components"
_QUIET = {"displayModeBar": False}


def controls() -> None:
    """How the answer is taken apart, and which number of it."""
    choice("By", PARTS, "parts")
    choice("The answer is", ANSWER_AS, "answer_as")


def draw(scene: Scene) -> None:
    """What is asked, the parts, and how well they add up."""
    direct = direct_parts(scene)
    st.markdown(_asked(scene, direct))
    drawings = {
        "components": _components,
        "heads": _heads,
        "sources": _sources,
        "neurons": _neurons,
        "accumulated": _accumulated,
    }
    drawings[scene.settings.parts](scene, direct)
    st.markdown(_sum_line(direct))
    st.caption(
        "What a part writes straight into the answer, with the final norm's scale held fixed. What "
        "later parts make of what it wrote counts as theirs: only blocking it shows that."
    )
    offer_block(scene)


def direct_parts(scene: Scene) -> DirectAttribution:
    """The answer taken apart into all components and heads."""
    return ask(scene.model, direct_logit_attribution, scene.token_ids, **scene.question).result


def sources(scene: Scene) -> SourceAttribution:
    """The chosen head's part by source token."""
    asked = scene.where | scene.question
    return ask(scene.model, source_attribution, scene.token_ids, **asked).result


def neurons(scene: Scene) -> NeuronAttribution:
    """The chosen layer's MLP by neuron."""
    layer = scene.edge["layer"]
    asked = scene.question
    return ask(scene.model, neuron_attribution, scene.token_ids, layer=layer, **asked).result


def along(scene: Scene) -> Accumulated:
    """The answer's value after each component."""
    return ask(scene.model, accumulated, scene.token_ids, **scene.question).result


def _asked(scene: Scene, direct: DirectAttribution) -> str:
    target = plain(visible(direct.question.target_text))
    at = plain(visible(scene.attention.tokens[scene.position]))
    what = f"the logit of **{target}**"
    if direct.question.foil_text is not None:
        what += f" minus that of **{plain(visible(direct.question.foil_text))}**"
    return f"After *{at}*, {what} is **{direct.value:.2f}**. Its parts:"


def _sum_line(direct: DirectAttribution) -> str:
    color, icon = ("green", "check") if direct.ok else ("red", "warning")
    return (
        f":{color}-badge[:material/{icon}: the parts sum to {direct.total:.4f}] "
        f"{direct.residual:+.1e} is left of the model's own {direct.value:.4f} "
        f"({direct.relative_residual:.0e} relative)"
    )


def _chart(figure: go.Figure, key: str, alt: str) -> None:
    st.plotly_chart(figure, theme=None, key=key, config=_QUIET, alt=alt)


def _components(scene: Scene, direct: DirectAttribution) -> None:
    st.plotly_chart(
        component_bars(direct, dark=is_dark()),
        theme=None,
        key=BARS_KEY,
        config=_QUIET,
        alt="Bars: what embedding, attention and MLP of each block add to the answer's logit",
        on_select=lambda: _take_bar(scene),
        selection_mode="points",
    )
    st.caption("A click on a head's piece opens the head.")


def _take_bar(scene: Scene) -> None:
    attention = scene.attention
    for point in st.session_state[BARS_KEY].selection.points:
        match point.get("customdata"):
            case [_, int(layer), int(head)] if (
                0 <= layer < attention.n_layers and 0 <= head < attention.n_heads
            ):
                take_head(layer, head, opens=True)


def _heads(scene: Scene, direct: DirectAttribution) -> None:
    head_map(
        direct.by_head,
        scene.edge,
        key=HEADS_KEY,
        label="What each head adds to the answer, in logits",
        note=lambda layer, head: "A click opens the head.",
    )
    st.caption(
        "In logits: the one colour for, the other against the answer. A cell opens its head."
    )


def _sources(scene: Scene, direct: DirectAttribution) -> None:
    found = sources(scene)
    _chart(
        source_bars(found, dark=is_dark()),
        "answer_sources",
        "Bars: what the chosen head takes from each token for the answer",
    )
    st.caption(
        f"{head_label(found.layer, found.head)} adds {found.value:+.2f} in all; "
        f"{found.residual:+.1e} is left by its sources. Attention alone does not say this: a token "
        "may be looked at hard and give nothing."
    )


def _neurons(scene: Scene, direct: DirectAttribution) -> None:
    found = neurons(scene)
    _chart(
        neuron_bars(found, dark=is_dark()),
        "answer_neurons",
        "Bars: what single neurons of the chosen layer's MLP add to the answer",
    )
    st.caption(
        f"The MLP of layer {found.layer} adds {found.value:+.2f} in all; {found.residual:+.1e} is "
        "left by its neurons. Choose another layer above."
    )


def _accumulated(scene: Scene, direct: DirectAttribution) -> None:
    _chart(
        waterfall(direct, dark=is_dark()),
        "answer_waterfall",
        "Waterfall: the answer's logit component by component, up to its value",
    )
    _chart(
        accumulated_lines(along(scene), dark=is_dark()),
        "answer_lines",
        "Lines: the answer's logit after each attention and MLP, through two norms",
    )
    st.caption(
        "Each step is what a component writes, read through the last state's norm. The logit lens "
        "reads every state through its own norm instead; the two meet at the end."
    )
