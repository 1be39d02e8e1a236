"""Both models on any prompt: top tokens, the most likely continuation, free generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go
import streamlit as st

from app.attention_cache import ask
from app.editing_lab.asked import Scene
from app.errors import plain
from app.lens_cache import cached_lens
from app.theme import is_dark
from lens_core.plots import top_k_bars

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from lens_core import HookedModel
    from lens_core.lens import LensResult

MAX_CHARS, MOST_NEW = 1000, 60
BEFORE, AFTER = "Original", "Edited"


def draw(scene: Scene) -> None:
    """The prompt to ask, and the two models' answers side by side."""
    _controls(scene)
    for column, (title, model, prompt) in zip(st.columns(2), _asked(scene), strict=True):
        with column:
            _side(scene, title, model, prompt)


def _asked(scene: Scene) -> tuple[tuple[str, HookedModel, str], ...]:
    return (
        (BEFORE, scene.before, scene.question),
        (AFTER, scene.after, scene.prefix + scene.question),
    )


def _controls(scene: Scene) -> None:
    st.text_input(
        "Ask both models",
        key="ask",
        bind="query-params",
        persist_state="page",
        max_chars=MAX_CHARS,
        placeholder=scene.settings.prompt,
        help="Any beginning of a sentence. Empty: the sentence of the edit.",
    )
    left, middle, right = st.columns(3)
    left.slider(
        "New tokens", 1, MOST_NEW, 20, key="n_new", bind="query-params", persist_state="page"
    )
    middle.slider(
        "Temperature",
        0.0,
        1.5,
        0.0,
        0.1,
        key="temperature",
        bind="query-params",
        persist_state="page",
        help="0 takes the most likely token each time; above, both models draw with the same seed.",
    )
    right.number_input("Seed", 0, 9999, 0, key="draw", bind="query-params", persist_state="page")


def _side(scene: Scene, title: str, model: HookedModel, prompt: str) -> None:
    settings = scene.settings
    st.markdown(f"##### {title}")
    text = ask(
        model,
        continued,
        tuple(model.to_tokens(prompt)[0].tolist()),
        n_new=min(max(settings.n_new, 1), MOST_NEW),
        temperature=min(max(settings.temperature, 0.0), 2.0),
        seed=settings.draw,
    ).result
    st.markdown(f"{plain(prompt)} **{plain(text.strip()) or '(nothing more)'}**")
    lens = cached_lens(model, prompt)
    st.plotly_chart(
        bars(lens, title),
        theme=None,
        key=f"answers_{title}",
        config={"displayModeBar": False},
        alt=f"{title}: {top_words(lens)}",
    )


def continued(
    model: HookedModel, tokens: torch.Tensor, *, n_new: int, temperature: float, seed: int
) -> str:
    """What the model writes after the tokens."""
    room = max(1, min(n_new, (model.cfg.n_ctx or 10**6) - tokens.shape[1]))
    made = model.generate(tokens, room, temperature=temperature, seed=seed)
    ids = made[0, tokens.shape[1] :].tolist()
    ends = (model.bos_id, getattr(model.tokenizer, "eos_token_id", None))
    n = next((n for n, i in enumerate(ids) if i in ends), len(ids))
    return model.to_string(ids[:n]) if n else ""


def bars(lens: LensResult, title: str) -> go.Figure:
    """The best guesses after the last token."""
    fig = top_k_bars(lens, len(lens.row_layers) - 1, len(lens.tokens) - 1, dark=is_dark())
    fig.update_layout(title=f"{title}: what comes next")
    return fig


def top_words(lens: LensResult) -> str:
    """The best three guesses after the last token, in words."""
    ids, probs = lens.top_ids[-1, -1, :3], lens.top_probs[-1, -1, :3]
    return ", ".join(
        f"{lens.texts[int(i)].strip()} {p:.0%}" for i, p in zip(ids, probs, strict=True)
    )


def table(scene: Scene) -> pd.DataFrame:
    """Both models' best guesses after the prompt, one line a guess."""
    import pandas as pd

    rows = []
    for title, model, prompt in _asked(scene):
        lens = cached_lens(model, prompt)
        for rank, (i, p) in enumerate(
            zip(lens.top_ids[-1, -1], lens.top_probs[-1, -1], strict=True), 1
        ):
            rows.append(
                {
                    "model": title.lower(),
                    "prompt": prompt,
                    "rank": rank,
                    "token": lens.texts[int(i)],
                    "probability": float(p),
                }
            )
    return pd.DataFrame(rows)
