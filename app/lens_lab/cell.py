"""The chosen cell and its column: best guesses, lines from block to block, the arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
import streamlit as st
import torch

from app.components.lens_grid import Chosen
from app.errors import plain
from app.lens_cache import Question
from app.lens_lab.lenses import find_lens
from app.lens_lab.reading import Reading
from app.lens_lab.request import Request
from app.theme import is_dark
from lens_core.lens import LensResult
from lens_core.lens.arithmetic import cell_arithmetic
from lens_core.plots import Aim, top_k_bars, trajectories, visible

if TYPE_CHECKING:
    from lens_core import HookedModel

_QUIET = {"displayModeBar": False}


def figures(wanted: Request, reading: Reading, cell: Chosen) -> None:
    """Bars and lines of the chosen cell, and of the second reading's below them."""
    key = (wanted.first, wanted.second)
    _pair(reading.lens, cell, (*key, 1))
    if reading.second is not None:
        st.markdown("**The same cell in the second reading**")
        _pair(reading.second.lens, cell, (*key, 2))


@st.cache_resource(max_entries=200, show_spinner=False)
def _drawn(
    key: tuple[Any, ...], weights: str, row: int, position: int, dark: bool, _lens: LensResult
) -> tuple[go.Figure, go.Figure]:
    """Both figures, kept: a change of colour does not change them, and drawing takes a while."""
    return (
        top_k_bars(_lens, row, position, dark=dark),
        trajectories(_lens, position, row=row, dark=dark),
    )


def _pair(lens: LensResult, cell: Chosen, key: tuple[Any, ...]) -> None:
    row, position = cell["row"], cell["column"]
    where = f"row {lens.row_labels[row]}, at {visible(lens.tokens[position])}"
    suffix = "" if key[-1] == 1 else "_second"
    # The last state's figures tell models of one name and other weights apart.
    weights = str(float(lens.state_norms[-1, -1]))
    bars, lines = _drawn(key, weights, row, position, is_dark(), lens)
    left, right = st.columns(2)
    with left:
        st.plotly_chart(
            bars,
            theme=None,
            key=f"lens_bars{suffix}",
            config=_QUIET,
            alt=f"Bars: the ten best guesses of {where}",
        )
        st.caption("The chosen cell. The bar in the accent colour is the final answer.")
    with right:
        st.plotly_chart(
            lines,
            theme=None,
            key=f"lens_paths{suffix}",
            config=_QUIET,
            alt="Lines: probability of tokens from block to block, at "
            + visible(lens.tokens[position]),
        )
        st.caption(
            "Every token that is the best guess of some row here, and the words that you follow. "
            "Each line up is ten times as likely; watch the answer climb."
        )


def arithmetic(
    model: HookedModel, question: Question, lens: LensResult, aim: Aim, cell: Chosen
) -> None:
    """The chosen cell's numbers from the state to the probability, to be recomputed by hand."""
    token = aim.target if isinstance(aim.target, int) else _column_target(lens, aim, cell["column"])
    work = cell_arithmetic(
        model,
        torch.tensor([question.token_ids]),
        find_lens(model, question.lens_key),
        layer=lens.row_layers[cell["row"]],
        position=cell["column"],
        token=token,
        site=question.site,
    )
    frame = work.to_frame()
    frame["number"] = [f"{number:.6g}" for number in frame["number"]]
    st.markdown(f"How this cell gives **{plain(visible(work.token))}** its probability:")
    st.table(frame.set_index("step"))
    parts = [f"{work.dot:.4f}", *(f"{x:+.4f}" for x in (work.bias, work.further) if x)]
    st.markdown(
        plain(f"{' '.join(parts)} = {work.dot + work.bias + work.further:.4f}")
        + f", the logit. {plain(f'exp({work.logit:.4f} - {work.log_normaliser:.4f})')} = "
        + f"**{work.probability:.4%}**."
    )


def _column_target(lens: LensResult, aim: Aim, column: int) -> int:
    if aim.target == "next" and column + 1 < len(lens.token_ids):
        return int(lens.token_ids[column + 1])
    return int(lens.final_ids[column])
