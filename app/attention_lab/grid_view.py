"""The grid of all heads with the chosen one large below it."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.attention_cache import ask
from app.attention_lab import kept
from app.attention_lab.asked import Scene
from app.attention_lab.maps import choice
from app.attention_lab.measured import standard_scores
from app.attention_lab.offers import offer_block
from app.attention_lab.selection import take_edge, take_thumbnail
from app.attention_lab.settings import SHOWS, Settings
from app.components.head_grid import (
    HeadGridView,
    HeadPrompt,
    HeadScoreColumn,
    head_grid,
    read_grid_options,
)
from app.components.head_view import HeadView, ValueKind, head_view, read_head_options
from app.errors import plain
from app.lens_cache import tokens_of
from lens_core.attention import AttentionResult, read_attention
from lens_core.model.errors import LensError

GRID_KEY, ZOOM_KEY = "head_grid", "head_zoom"
_LINK = "heads"


def controls() -> None:
    """What the thumbnails show."""
    choice("Show", {name: SHOWS[name] for name in ("pattern", "value-weighted")}, "shows")


def more_controls() -> None:
    """A second prompt."""
    st.text_input(
        "Second prompt, beside the first",
        key="other_prompt",
        bind="query-params",
        persist_state="page",
        max_chars=2000,
        placeholder="another sentence, of any length",
        help="Each thumbnail then has two halves: your prompt, and this one.",
    )


def draw(scene: Scene) -> None:
    """The grid, the chosen head, and the offers."""
    settings, attention = scene.settings, shown(scene)
    values = drawn_values(attention, settings)
    prompts = [HeadPrompt(settings.prompt, attention.tokens, values)]
    other = _other(scene)
    if other is not None:
        prompts.append(
            HeadPrompt(settings.other_prompt, other.tokens, drawn_values(other, settings))
        )
    columns = _columns(scene)
    orders = [column.name for column in columns]
    kind = _kind(settings)
    head_grid(
        HeadGridView(
            title=f"Every head of {scene.model.cfg.name}",
            prompts=tuple(prompts),
            scores=columns,
            kind=kind,
            options=kept.grid_options(settings, orders),
            link=_LINK,
        ),
        selected=scene.edge,
        key=GRID_KEY,
        on_choose=lambda: take_thumbnail(GRID_KEY, attention),
        on_options=lambda: _keep_grid(orders),
    )
    if not columns:
        # Nothing polls here: a rerun that the page asks for by itself may cross a click on a head,
        # and brings the browser's older choice with it.
        st.caption(
            ":material/hourglass_empty: The heads are being scored, once for this model; from your "
            "next click on the grid can be sorted by what they do."
        )
    zoom(scene, values, kind, ZOOM_KEY, link=_LINK)
    offer_block(scene)


def zoom(scene: Scene, values: np.ndarray, kind: ValueKind, key: str, *, link: str) -> None:
    """The chosen head large, its options kept."""
    attention, edge = scene.attention, scene.edge
    guesses = attention.top_tokens
    head_view(
        HeadView(
            title=scene.model.cfg.name,
            prompt=scene.settings.prompt,
            tokens=attention.tokens,
            layer=edge["layer"],
            head=edge["head"],
            values=values[edge["layer"]],
            kind=kind,
            has_bos=scene.has_bos,
            next_tokens=[row[0] for row in guesses],
            next_probs=attention.top_probs[:, 0].tolist(),
            options=kept.head_options(scene.settings, attention.n_heads),
            link=link,
        ),
        selected=edge,
        key=key,
        on_choose=lambda: take_edge(key, attention),
        on_options=lambda: keep_options(key, attention.n_heads),
    )


def shown(scene: Scene) -> AttentionResult:
    """The prompt's attention with what the settings want drawn of it."""
    return attention_with(scene, scene.token_ids)


def attention_with(scene: Scene, token_ids: tuple[int, ...]) -> AttentionResult:
    """Attention on these tokens, with scores or value norms where they are to be drawn."""
    shows = scene.settings.shows
    if shows == "pattern":
        return ask(scene.model, read_attention, token_ids, heavy=True).result
    wanted = {"scores": True} if shows == "scores" else {"value_weighted": True}
    return ask(scene.model, read_attention, token_ids, heavy=True, **wanted).result


def drawn_values(attention: AttentionResult, settings: Settings) -> np.ndarray:
    """[L, H, T, T] of what the settings want drawn."""
    by_name = {"scores": attention.scores, "value-weighted": attention.value_weighted}
    values = by_name.get(settings.shows)
    return attention.pattern if values is None else values


def _kind(settings: Settings) -> ValueKind:
    return "value-weighted" if settings.shows == "value-weighted" else "pattern"


def _other(scene: Scene) -> AttentionResult | None:
    prompt = scene.settings.other_prompt
    if not prompt.strip():
        return None
    try:
        return attention_with(scene, tokens_of(scene.model, prompt, scene.settings.bos))
    except LensError as error:
        st.warning(plain(f"The second prompt: {error}"), icon=":material/info:")
        return None


def _columns(scene: Scene) -> tuple[HeadScoreColumn, ...]:
    job = standard_scores(scene.model)
    if not job.finished.is_set():
        return ()
    if job.error is not None:
        raise job.error
    assert job.result is not None
    return tuple(
        HeadScoreColumn(score.kind.label, score.value, score.kind.definition)
        for score in job.result.result.values()
    )


def _keep_grid(orders: list[str]) -> None:
    options = read_grid_options(st.session_state[GRID_KEY].options, orders)
    if options is not None:
        kept.keep_grid(options)


def keep_options(key: str, n_heads: int) -> None:
    """Keep what was set in a head's view; for its callback."""
    options = read_head_options(st.session_state[key].options, n_heads)
    if options is not None:
        kept.keep_head(options)
