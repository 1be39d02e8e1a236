"""The logit lens of both models on one prompt, and where the two part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.components.lens_grid import GridView, lens_grid
from app.editing_lab.answers_view import AFTER, BEFORE
from app.editing_lab.asked import Scene
from app.errors import plain
from app.lens_cache import cached_lens
from lens_core.plots import QUANTITIES

if TYPE_CHECKING:
    import pandas as pd

    from lens_core.lens import LensResult

_CHOSEN = "editing_lens_cell"


def draw(scene: Scene) -> None:
    """Two grids, and a sentence on the first block after which their guesses differ."""
    if scene.prefix:
        st.caption(
            ":material/info: An in-context edit is a text before the prompt and changes no weight; "
            "the second grid leaves that text out."
        )
    before, after = (cached_lens(m, scene.question) for m in (scene.before, scene.after))
    st.markdown(_parting(before, after))
    _grid(scene, before, BEFORE, "editing_lens_before")
    _grid(scene, after, AFTER, "editing_lens_after")


def _grid(scene: Scene, lens: LensResult, title: str, key: str) -> None:
    n_rows, n_columns = len(lens.row_labels), len(lens.tokens)
    row, column = st.session_state.get(_CHOSEN, (-1, -1))
    inside = row < n_rows and column < n_columns
    lens_grid(
        GridView(
            lens=lens,
            quantity=QUANTITIES["probability"],
            prompt=scene.question,
            title=f"{title}: logit lens",
            has_bos=scene.before.bos_id == int(lens.token_ids[0]),
            rows=tuple(range(n_rows)),
            main=False,
        ),
        selected={"row": row if inside else -1, "column": column if inside else -1},
        key=key,
        on_choose=lambda: _take(key, n_rows, n_columns),
    )


def _take(key: str, n_rows: int, n_columns: int) -> None:
    sent = st.session_state[key].chosen
    # What the browser sends is a visitor's text like any other.
    row, column = int(sent["row"]), int(sent["column"])
    if 0 <= row < n_rows and 0 <= column < n_columns:
        st.session_state[_CHOSEN] = (row, column)


def _parting(before: LensResult, after: LensResult) -> str:
    differ = before.top_ids[:, :, 0] != after.top_ids[:, :, 0]
    if not differ.any():
        return "The best guesses of both models are the same everywhere."
    column = differ.shape[1] - 1
    rows = np.flatnonzero(differ[:, column])
    where = f"{int(differ.sum())} of {differ.size} best guesses differ."
    if not rows.size:
        return f"{where} None of them is at the last token."
    guesses = [
        plain(lens.texts[int(lens.top_ids[-1, column, 0])].strip()) for lens in (before, after)
    ]
    return (
        f"{where} At the last token they part {_behind(before.row_layers[int(rows[0])])}; in the "
        f"end the original says **{guesses[0]}** and the edited model **{guesses[1]}**."
    )


def _behind(layer: int) -> str:
    return "in the embedding" if layer < 0 else f"after block {layer}"


def table(scene: Scene) -> pd.DataFrame:
    """Both grids, one line a state and token."""
    import pandas as pd

    frames = [
        cached_lens(model, scene.question).to_frame().assign(model=title.lower())
        for title, model in ((BEFORE, scene.before), (AFTER, scene.after))
    ]
    return pd.concat(frames, ignore_index=True)
