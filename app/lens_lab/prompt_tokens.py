"""*The prompt's tokens*: how well the chosen row expected each, by CircuitsVis and as a table."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.components.circuitsvis import TokenLogProbs, token_log_probs_html
from app.components.lens_grid import Chosen
from app.lens_lab.words import after
from lens_core.lens import LensResult
from lens_core.plots import visible

if TYPE_CHECKING:
    import pandas as pd

_TIP_PX, _LINE_PX, _TOKENS_A_LINE = 400, 30, 10


def prompt_tokens(lens: LensResult, cell: Chosen) -> None:
    """The tokens coloured by their log-probability in the chosen row, and the same as a table."""
    if len(lens.token_ids) < 2:
        st.caption("The prompt has one token, so nothing was expected before it.")
        return
    layer = lens.row_layers[cell["row"]]
    st.caption(
        f"How likely each token of the prompt was {after(layer, lens.site)}, before it was "
        "read. The redder, the more expected; white is 0.7% or less. Point at a token for the "
        "best guesses there (#0 is the best). The table below holds the same."
    )
    data = expected_tokens(lens, cell["row"])
    lines = 1 + len(data.tokens) // _TOKENS_A_LINE
    try:
        page = token_log_probs_html(data)
    except PackageNotFoundError:
        st.caption("The coloured view needs the package circuitsvis; the table does not.")
    else:
        st.iframe(page, height=_TIP_PX + _LINE_PX * lines, alt="The prompt's tokens, coloured")
        st.caption("Drawn by CircuitsVis (Alan Cooney and others, MIT).")
    st.dataframe(expected_table(data), hide_index=True)


def expected_tokens(lens: LensResult, row: int) -> TokenLogProbs:
    """What one row of a result says of every next token."""
    last = len(lens.token_ids) - 1
    top = lens.top_ids[row, :last].tolist()
    return TokenLogProbs(
        tokens=[visible(token) for token in lens.tokens],
        logprobs=lens.next_logprobs[row, :last].tolist(),
        ranks=[int(rank) for rank in lens.next_ranks[row, :last]],
        guesses=[[visible(lens.texts[token_id]) for token_id in place] for place in top],
        guess_logprobs=lens.top_logprobs[row, :last].tolist(),
    )


def expected_table(data: TokenLogProbs) -> pd.DataFrame:
    """One line a token: its cross-entropy, probability, rank, and the best guess at its place."""
    import pandas as pd

    logprobs = np.array(data.logprobs)
    return pd.DataFrame(
        {
            "position": range(1, len(data.tokens)),
            "token": list(data.tokens[1:]),
            "cross-entropy (nats)": np.round(-logprobs, 3),
            "probability": [f"{p:.2%}" for p in np.exp(logprobs)],
            "rank": list(data.ranks),
            "best guess": [guesses[0] for guesses in data.guesses],
        }
    )
