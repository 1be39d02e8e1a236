"""Lens results shared by all visitors: the same model, tokens and settings are computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.models import load_model

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens import LogitLensResult


def read_lens(
    model: HookedModel, prompt: str, *, site: str = "resid_post", prepend_bos: bool | None = None
) -> LogitLensResult:
    """The prompt through the lens, from the cache where some visitor has asked the same before."""
    tokens = model.to_tokens(prompt, prepend_bos=prepend_bos)
    return _read(model.cfg.name, tuple(tokens[0].tolist()), site)


@st.cache_data(max_entries=500, show_spinner=False)
def _read(model_name: str, token_ids: tuple[int, ...], site: str) -> LogitLensResult:
    import torch

    from lens_core.lens import logit_lens

    return logit_lens(load_model(model_name), torch.tensor([token_ids]), site=site)
