"""The lab's controls: the new answer, the method, the layer with what tracing says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go
import streamlit as st

from app import answer_controls
from app.attention_cache import Answer, ask, begin
from app.attention_lab.measured import settled
from app.editing_lab.settings import (
    FT,
    FT_L,
    IN_CONTEXT,
    KL_PROMPTS,
    MEMIT,
    METHODS,
    Settings,
)
from app.errors import plain
from app.place_controls import one_of
from app.theme import is_dark
from lens_core.plots import palette, template, visible
from lens_core.tracing import CausalTrace, GaussianNoise, causal_trace, default_window

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from lens_core import HookedModel

_LEAST_SHOWN = 1e-3
NEW, FIRST_ANSWER = "new", "Rome"
_SAMPLES, _HEIGHT_PX = 4, 250
# Of what the noise took, so much and less is shown as nothing.
_LITTLE = 0.05
_CAVEAT = (
    "Tracing does not tell where to edit: over many facts, how well an edit in a layer worked had "
    "almost nothing to do with what tracing said of that layer (Hase and others, 2023)."
)


def choice(label: str, options: Mapping[str, str], key: str) -> str:
    """A row of choices that begins as the settings do."""
    return answer_controls.choice(label, options, key, str(getattr(Settings(), key)))


def new_answer(alike: tuple[str, ...]) -> str:
    """The answer that the model shall give; ``alike`` are answers of the same kind."""
    said = f" Others of its kind: {', '.join(alike)}." if alike else ""
    return (
        st.text_input(
            "The new answer",
            value=FIRST_ANSWER,
            key=NEW,
            bind="query-params",
            max_chars=200,
            placeholder="what the model shall say instead",
            help=f"Of one token or several.{said}",
        )
        or ""
    )


def choose_method() -> str:
    """How the edit is made."""
    return choice("Method", METHODS, "method")


def choose_layer(model: HookedModel, settings: Settings, start: int) -> None:
    """The layer that is changed, beside the trace of this very fact."""
    left, right = st.columns([1, 2])
    with left:
        if settings.method == IN_CONTEXT:
            st.caption("No layer is changed: the new fact is written before the prompt.")
            return
        if st.session_state.get("edit_layer") is None:
            st.session_state["edit_layer"] = str(start)
        one_of(
            "Layer (block)" if settings.method != MEMIT else "Last of its layers",
            "edit_layer",
            model.cfg.n_layers,
            help="The MLP whose second matrix is changed. It begins at the one that did best on "
            "development facts, or at the depth that the papers use.",
        )
        st.caption(_CAVEAT)
    with right:
        chosen = int(st.session_state["edit_layer"])
        job = begin(
            model,
            causal_trace,
            prompt=settings.prompt,
            subject=settings.subject,
            kinds=("state", "mlp"),
            corruption=GaussianNoise(3.0, samples=_SAMPLES, seed=0),
            window=default_window(model.cfg.n_layers),
        )
        settled(job, "Tracing this fact", lambda answer: _traced(answer, chosen))


def _traced(answer: Answer[CausalTrace], layer: int) -> None:
    found = answer.result
    at = found.subject[1]
    states, effect = (found.indirect_effect(kind)[:, at] for kind in ("state", "mlp"))
    colors = palette(dark=is_dark())
    layers = [str(n) for n in range(len(effect))]
    fig = go.Figure()
    for name, values, color in (
        ("one state", states, colors.muted),
        (f"MLPs, {found.windows['mlp']} layers", effect, colors.accent),
    ):
        fig.add_bar(
            x=layers,
            y=values,
            name=name,
            marker={"color": color},
            hovertemplate="block %{x}: %{y:.3f}<extra></extra>",
        )
    # What edits the model is marked on the axis and not by colour alone.
    fig.add_vline(x=layer, line={"color": colors.categorical[1], "width": 2, "dash": "dot"})
    fig.update_layout(
        template=template(dark=is_dark()),
        title="Causal trace of this fact, at the subject’s last token",
        height=_HEIGHT_PX,
        bargap=0.2,
        legend={"orientation": "h", "yanchor": "top", "y": -0.35, "x": 0},
    )
    fig.update_xaxes(title="block (dotted: the edit)", type="category")
    top = max(0.1, found.total_effect, float(states.max()), float(effect.max()))
    low = min(0.0, float(states.min()), float(effect.min()))
    fig.update_yaxes(title="wins back", range=[low, 1.05 * top])
    best = int(effect.argmax())
    st.plotly_chart(
        fig,
        theme=None,
        key="edit_trace",
        config={"displayModeBar": False},
        alt=f"Restored MLPs win back most around block {best}, {effect[best]:.2f} of "
        f"{found.total_effect:.2f}; a single state most after block {int(states.argmax())}. The "
        f"edit goes to block {layer}",
    )
    if max(float(states.max()), float(effect.max())) < _LITTLE * found.total_effect:
        st.caption(
            "Next to nothing of this answer comes back at the subject's last token. The edit is "
            "made there all the same: see whether it works."
        )


def more_settings(settings: Settings) -> None:
    """What shapes the optimisation; empty is the preset's value."""
    if settings.method == IN_CONTEXT:
        return
    for name in ("kl_factor", "clamp"):
        if isinstance(st.session_state.get(name), int):
            st.session_state[name] = float(st.session_state[name])  # a lesson gives whole numbers
    with st.expander("More settings"):
        left, middle, right = st.columns(3)
        left.number_input(
            "Steps", 1, 200, None, key="steps", bind="query-params", persist_state="page",
            placeholder="preset", help="Most steps of the optimisation.",
        )  # fmt: skip
        if settings.method not in (FT, FT_L):
            middle.number_input(
                "KL factor", 0.0, 100.0, None, 0.25, key="kl_factor", bind="query-params",
                persist_state="page", placeholder="preset",
                help="How strongly other answers about the subject are held where they are.",
            )  # fmt: skip
            right.number_input(
                "Clamp", 0.1, 50.0, None, 0.5, key="clamp", bind="query-params",
                persist_state="page", placeholder="preset",
                help="Largest size of the change of the value, in sizes of the value itself.",
            )  # fmt: skip
            choice("Held where they are", KL_PROMPTS, "kl_prompts")
            st.checkbox(
                "Weigh keys by their covariance", True, key="covariance", bind="query-params",
                persist_state="page",
                help="The change then goes where other keys seldom are. Without it the key itself "
                "is the direction; a popular library ships that as its default.",
            )  # fmt: skip
        st.number_input(
            "Seed of the contexts", 0, 9999, 0, key="edit_seed", bind="query-params",
            persist_state="page",
        )  # fmt: skip


def belief(model: HookedModel, prompt: str) -> str:
    """What the model says now, the likeliest tokens with their probabilities."""
    top = ask(model, _likeliest, tuple(model.to_tokens(prompt)[0].tolist())).result
    shown = [(text, p) for n, (text, p) in enumerate(top) if n == 0 or p >= _LEAST_SHOWN]
    return ", ".join(f"**{plain(text)}** {p:.1%}" for text, p in shown)


def _likeliest(model: HookedModel, tokens: torch.Tensor) -> tuple[tuple[str, float], ...]:
    best = model.run(tokens, last_logits_only=True)[0, -1].softmax(-1).topk(5)
    texts = model.to_str_tokens(best.indices)
    return tuple((visible(t), float(p)) for t, p in zip(texts, best.values, strict=True))
