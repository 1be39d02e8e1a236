"""One head: its pattern, the products behind a score, its weights, its mean over prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st
import torch

from app.attention_cache import ask
from app.attention_lab import circuitsvis_view, kept, weights_view
from app.attention_lab.asked import Scene
from app.attention_lab.grid_view import drawn_values, keep_options, shown, zoom
from app.attention_lab.maps import choice
from app.attention_lab.offers import offer_block
from app.attention_lab.selection import take_edge
from app.attention_lab.settings import DRAWN, SHOWS
from app.components.head_view import HeadView, ValueKind, head_view
from app.components.neuron_view import NeuronView, neuron_view
from app.errors import plain
from app.lens_cache import tokens_of
from lens_core.attention import MeanAttention, mean_attention, query_key
from lens_core.model.errors import TokenError
from lens_core.plots import visible

if TYPE_CHECKING:
    from lens_core import HookedModel

MOST_PROMPTS = 64
VIEW_KEY, NEURON_KEY, MEAN_KEY = "head_view", "neuron_view", "head_mean"


def controls() -> None:
    """How the head is drawn, and of its pattern what."""
    drawn = choice("Draw", DRAWN, "drawn")
    if drawn == "pattern":
        choice("Show", SHOWS, "shows")


def more_controls() -> None:
    """The token for the weights, and the prompts of the mean."""
    drawn = st.session_state.get("drawn")
    if drawn == "weights":
        weights_view.controls()
    if drawn == "averaged":
        _prompts()


def draw(scene: Scene) -> None:
    """The chosen drawing of the chosen head, and the offers."""
    drawings = {
        "pattern": _pattern,
        "neuron view": _neurons,
        "weights": weights_view.draw,
        "averaged": _averaged,
        "CircuitsVis": circuitsvis_view.draw,
    }
    drawings[scene.settings.drawn](scene)
    offer_block(scene, opened=True)


def _pattern(scene: Scene) -> None:
    kinds: dict[str, ValueKind] = {"scores": "scores", "value-weighted": "value-weighted"}
    kind = kinds.get(scene.settings.shows, "pattern")
    zoom(scene, drawn_values(shown(scene), scene.settings), kind, VIEW_KEY, link="")
    st.caption(edge_line(scene))


def edge_line(scene: Scene) -> str:
    """The chosen edge in words."""
    edge, attention = scene.edge, scene.attention
    dest, src = (plain(visible(attention.tokens[edge[end]])) for end in ("dest", "src"))
    row = attention.pattern[edge["layer"], edge["head"], edge["dest"]]
    strongest = int(row[: edge["dest"] + 1].argmax())
    said = f"From **{dest}** this head looks at **{src}** with {row[edge['src']]:.0%}"
    if strongest != edge["src"]:
        most = plain(visible(attention.tokens[strongest]))
        said += f"; at {most} most of all, with {row[strongest]:.0%}"
    return said + "."


def _neurons(scene: Scene) -> None:
    found = ask(scene.model, query_key, scene.token_ids, **scene.edge).result
    neuron_view(
        NeuronView(
            tokens=found.tokens,
            layer=found.layer,
            head=found.head,
            dest=found.dest,
            src=found.src,
            query=found.q,
            key=found.k,
            scale=found.scale,
            remainder=found.remainder,
            score=found.score,
            weights=found.row[: found.dest + 1],
        ),
        key=NEURON_KEY,
        on_choose=lambda: take_edge(NEURON_KEY, scene.attention),
    )
    shared = "" if found.kv_head == found.head else f" Its keys are those of head {found.kv_head}."
    st.caption(
        "Query and key as the model multiplies them, entry by entry. The products add up, times "
        f"the scale, to the score; the softmax of the row makes the attention.{shared}"
    )


def _prompts() -> None:
    st.text_area(
        "Prompts to average over, one a line",
        key="prompts",
        bind="query-params",
        persist_state="page",
        max_chars=4000,
        placeholder="The capital of France is\nThe capital of Japan is",
        help="All need as many tokens as your prompt, which is one of them: only then is the same "
        "column the same place.",
    )


def averaged_prompts(scene: Scene) -> tuple[str, ...]:
    """The prompt and the others, each once."""
    lines = [scene.settings.prompt, *scene.settings.prompts.splitlines()]
    return tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))[:MOST_PROMPTS]


def averaged(scene: Scene) -> MeanAttention:
    """The mean over the prompts. Raises TokenError where they differ in length."""
    prompts = averaged_prompts(scene)
    rows = tuple(tokens_of(scene.model, prompt, scene.settings.bos) for prompt in prompts)
    if len({len(row) for row in rows}) > 1:
        lengths = ", ".join(
            f"{len(row)} ({prompt[:30]})" for row, prompt in zip(rows, prompts, strict=True)
        )
        raise TokenError(f"The mean needs prompts of equally many tokens; these have {lengths}.")
    return ask(scene.model, mean_of_rows, rows=rows, heavy=True).result


def mean_of_rows(model: HookedModel, *, rows: tuple[tuple[int, ...], ...]) -> MeanAttention:
    """`mean_attention` of prompts given as plain token ids."""
    return mean_attention(model, torch.tensor(rows))


def _averaged(scene: Scene) -> None:
    n_prompts = len(averaged_prompts(scene))
    if n_prompts < 2:
        st.info("Type more prompts under More settings, one a line, of as many tokens as yours.")
        return
    found, edge = averaged(scene), scene.edge
    head_view(
        HeadView(
            title=f"Mean over {n_prompts} prompts",
            prompt=scene.settings.prompt,
            tokens=found.labels,
            layer=edge["layer"],
            head=edge["head"],
            values=found.pattern[edge["layer"]],
            has_bos=scene.has_bos,
            options=kept.head_options(scene.settings, scene.attention.n_heads),
            link="",
        ),
        selected=edge,
        key=MEAN_KEY,
        on_choose=lambda: take_edge(MEAN_KEY, scene.attention),
        on_options=lambda: keep_options(MEAN_KEY, scene.attention.n_heads),
    )
    cell = (edge["layer"], edge["head"], edge["dest"], edge["src"])
    st.caption(
        f"The chosen edge: {found.pattern[cell]:.0%} on average, with a standard deviation of "
        f"{found.std[cell]:.0%} over the prompts. What is left of a pattern here belongs to "
        "places, not to words."
    )
