"""The lens lab: controls, grid, and what is in the chosen cell. A click reruns this part alone."""

from __future__ import annotations

import streamlit as st

from app.components.lens_grid import Chosen, lens_grid
from app.errors import plain, polite_errors
from app.lens_cache import cached_lens
from app.models import chosen_model
from app.snippets import logit_lens_code
from app.theme import is_dark
from lens_core import HookedModel
from lens_core.lens import LensResult
from lens_core.model.errors import TokenError
from lens_core.plots import QUANTITIES, Quantity, top_k_bars, trajectories, visible

SITES = {
    "resid_post": "the state after the block (the residual stream)",
    "resid_mid": "the state between attention and MLP",
    "attn_out": "what the attention adds, alone",
    "mlp_out": "what the MLP adds, alone",
}
_MOST_FOLLOWED = 4
_LAYER, _POSITION, _SEEN, _GRID = "layer", "position", "lens_seen", "lens_grid"


def lens_lab(prompt: str) -> None:
    """Draw the lab for this prompt on the model that the visitor chose."""
    model = chosen_model()
    _lab(model, prompt)


@st.fragment
def _lab(model: HookedModel, prompt: str) -> None:
    with polite_errors():
        quantity = _choose_quantity()
        grid_slot, figures_slot = st.container(), st.container()
        with st.expander("More settings"):
            site, bos = _choose_reading(model)
            followed = _choose_followed(model)
            lens = cached_lens(model, prompt, site=site, prepend_bos=bos, targets=followed)
            cell = _choose_cell(lens, prompt)
        with grid_slot:
            _grid(model, lens, quantity, prompt, cell)
        with figures_slot:
            _figures(lens, cell)
        _take_away(model, lens, quantity, prompt, bos, cell)


def _choose_quantity() -> Quantity:
    key = st.segmented_control(
        "Colour shows",
        list(QUANTITIES),
        default="probability",
        required=True,
        key="color",
        bind="query-params",
        help="  \n".join(f"**{q.key}**: {q.explain}" for q in QUANTITIES.values()),
    )
    return QUANTITIES[key or "probability"]


def _choose_reading(model: HookedModel) -> tuple[str, bool]:
    site = st.selectbox(
        "Read from",
        list(SITES),
        key="site",
        bind="query-params",
        help="  \n".join(f"`{site}`: {what}" for site, what in SITES.items()),
    )
    bos = st.checkbox(
        "Begin with the model's start token",
        value=model.default_prepend_bos,
        disabled=model.bos_id is None,
        key="bos",
        bind="query-params",
        help="Most models were trained with a token that marks the start of a text. Without it "
        "the first tokens are read as if they stood in the middle of one.",
    )
    return site, bos


def _choose_followed(model: HookedModel) -> tuple[int, ...]:
    """Tokens that the visitor wants to see from block to block, besides the rows' own guesses."""
    text = st.text_input(
        "Follow these words too",
        key="follow",
        bind="query-params",
        max_chars=200,
        placeholder="Rome, London",
        help="Words, with commas between, whose probability the lines below show as well.",
    )
    ids: list[int] = []
    for word in dict.fromkeys(w.strip() for w in text.split(",") if w.strip()):
        try:
            ids.append(_one_token(model, word))
        except TokenError as error:
            st.caption(f":material/info: {plain(str(error))}")
    if len(ids) > _MOST_FOLLOWED:
        st.caption(f"The lines show the first {_MOST_FOLLOWED} of these words.")
    return tuple(dict.fromkeys(ids[:_MOST_FOLLOWED]))


def _one_token(model: HookedModel, word: str) -> int:
    """The word as it stands inside a sentence, or failing that as it begins one."""
    try:
        return model.to_single_token(f" {word}")
    except TokenError:
        return model.to_single_token(word)


def _choose_cell(lens: LensResult, prompt: str) -> Chosen:
    """The chosen cell, by two plain controls that the grid's clicks and keys set as well."""
    state, labels = st.session_state, list(lens.row_labels)
    last = len(lens.tokens) - 1
    if state.get(_LAYER) not in labels:
        state.pop(_LAYER, None)
    moved_on = state.get(_SEEN, prompt) != prompt
    if moved_on or not 0 <= state.get(_POSITION, last) <= last:
        state[_POSITION] = last
    state[_SEEN] = prompt
    left, right = st.columns(2)
    layer = left.selectbox(
        "Chosen row (block)",
        labels,
        index=len(labels) - 1,
        key=_LAYER,
        bind="query-params",
        help="The same choice as a click on the grid.",
    )
    position = right.number_input(
        "Chosen token (position, from 0)",
        min_value=0,
        max_value=last,
        value=last,
        step=1,
        key=_POSITION,
        bind="query-params",
        help="The same choice as a click on the grid.",
    )
    return Chosen(row=labels.index(layer), column=int(position))


def _grid(
    model: HookedModel, lens: LensResult, quantity: Quantity, prompt: str, cell: Chosen
) -> None:
    lens_grid(
        lens,
        quantity,
        prompt=prompt,
        has_bos=model.bos_id == int(lens.token_ids[0]),
        selected=cell,
        key=_GRID,
        on_choose=lambda: _take_cell(lens),
    )
    st.markdown(_verdict(lens, cell["column"]))
    st.markdown(_parity_note(lens))


def _take_cell(lens: LensResult) -> None:
    chosen = st.session_state[_GRID].chosen
    # What the browser sends is a visitor's text like any other.
    row, column = int(chosen["row"]), int(chosen["column"])
    if 0 <= row < len(lens.row_labels) and 0 <= column < len(lens.tokens):
        st.session_state[_LAYER] = lens.row_labels[row]
        st.session_state[_POSITION] = column


def _verdict(lens: LensResult, position: int) -> str:
    """What there is to see in the chosen column, computed from it."""
    token, answer = lens.tokens[position], lens.texts[int(lens.final_ids[position])]
    said = f"After **{_code(token)}** the model says **{_code(answer)}**"
    if lens.site != "resid_post":
        return f"{said}. The rows show what one part adds on its own, so none of them need agree."
    prob = float(lens.top_probs[-1, position, 0])
    first, stays = lens.first_hit(position), lens.prediction_depth(position)
    if first is None or stays is None:
        return f"{said} ({prob:.0%})."
    when = f"In the lens it is first the best guess {_after(first)}"
    kept = "and stays so" if first == stays else f"and for good {_after(stays)}"
    return f"{said} ({prob:.0%}). {when}, {kept}."


def _after(layer: int) -> str:
    return "in the embedding already" if layer < 0 else f"after block {layer}"


def _code(token: str) -> str:
    return plain(visible(token))


def _parity_note(lens: LensResult) -> str:
    parity = lens.parity
    figure = (
        f"largest difference {parity.max_abs:.1g} (logits up to {parity.scale:.0f}), "
        f"same best guess at {parity.n_same_top1} of {parity.n_positions} tokens"
    )
    if parity.ok:
        return f":green-badge[:material/check: last row = the model's own logits] {figure}"
    return f":red-badge[:material/warning: the last row is not the model's own logits] {figure}"


def _figures(lens: LensResult, cell: Chosen) -> None:
    row, position = cell["row"], cell["column"]
    where = f"row {lens.row_labels[row]}, at {visible(lens.tokens[position])}"
    left, right = st.columns(2)
    with left:
        st.plotly_chart(
            top_k_bars(lens, row, position, dark=is_dark()),
            theme=None,
            key="lens_bars",
            config={"displayModeBar": False},
            alt=f"Bars: the ten best guesses of {where}",
        )
        st.caption("The chosen cell. The bar in the accent colour is the final answer.")
    with right:
        st.plotly_chart(
            trajectories(lens, position, row=row, dark=is_dark()),
            theme=None,
            key="lens_paths",
            config={"displayModeBar": False},
            alt="Lines: probability of tokens from block to block, at "
            + visible(lens.tokens[position]),
        )
        st.caption(
            "Every token that is the best guess of some row here, and the words that you follow "
            "(More settings). Each line up is ten times as likely; watch the answer climb."
        )


def _take_away(
    model: HookedModel,
    lens: LensResult,
    quantity: Quantity,
    prompt: str,
    bos: bool,
    cell: Chosen,
) -> None:
    st.download_button(
        "Table (CSV)",
        lambda: lens.to_frame().to_csv(index=False),
        file_name="logit_lens.csv",
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
    )
    with st.expander("Show the code"):
        st.code(
            logit_lens_code(
                model=model.cfg.name,
                prompt=prompt,
                prepend_bos=bos,
                site=lens.site,
                quantity=quantity.key,
                row=cell["row"],
                position=cell["column"],
                targets=lens.target_ids,
            ),
            language="python",
        )
