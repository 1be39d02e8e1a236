"""Lens results shared by all visitors: the same model, tokens and settings are computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.models import load_model
from lens_core.model.errors import PromptTooLongError

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens import LensResult

# A grid wider than this is slow in the browser and tells nobody anything.
MAX_TOKENS = 128


def cached_lens(
    model: HookedModel,
    prompt: str,
    *,
    site: str = "resid_post",
    prepend_bos: bool | None = None,
    targets: tuple[int, ...] = (),
) -> LensResult:
    """The prompt through the lens, from the cache where some visitor has asked the same before."""
    tokens = model.to_tokens(prompt, prepend_bos=prepend_bos)
    if tokens.shape[1] > MAX_TOKENS:
        raise PromptTooLongError(
            f"The prompt has {tokens.shape[1]} tokens and this page draws at most {MAX_TOKENS}; "
            "shorten it, or use lens_core, which has no such limit."
        )
    return _read(model.cfg.name, tuple(tokens[0].tolist()), site, targets)


@st.cache_data(max_entries=500, show_spinner=False)
def _read(
    model_name: str, token_ids: tuple[int, ...], site: str, targets: tuple[int, ...]
) -> LensResult:
    import torch

    from lens_core.lens import read_lens

    return read_lens(load_model(model_name), torch.tensor([token_ids]), site=site, targets=targets)
