"""Lens results shared by all visitors: the same model, tokens and settings are computed once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import streamlit as st

from lens_core.model.errors import PromptTooLongError

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens import LensResult, Transport
    from lens_core.lens.compare import Comparison

# A grid wider than this is slow in the browser and tells nobody anything.
MAX_TOKENS = 128


@dataclass(frozen=True)
class Question:
    """One prompt on one model through one lens: the key of a cached answer."""

    model_name: str
    token_ids: tuple[int, ...]
    site: str = "resid_post"
    lens_key: str = "logit"
    targets: tuple[int, ...] = ()

    def through(self, lens_key: str) -> Question:
        """The same through another lens."""
        return replace(self, lens_key=lens_key)

    def about(self, token_ids: tuple[int, ...]) -> Question:
        """The same of another prompt."""
        return replace(self, token_ids=token_ids)


@dataclass(frozen=True)
class Answer:
    """A result and how it was come by."""

    lens: LensResult
    took_ms: float
    stored: bool = False


def tokens_of(model: HookedModel, prompt: str, prepend_bos: bool | None = None) -> tuple[int, ...]:
    """The prompt's token ids; raises PromptTooLongError for more than a page can draw."""
    tokens = model.to_tokens(prompt, prepend_bos=prepend_bos)
    if tokens.shape[1] > MAX_TOKENS:
        raise PromptTooLongError(
            f"The prompt has {tokens.shape[1]} tokens and this page draws at most {MAX_TOKENS}; "
            "shorten it, or use lens_core, which has no such limit."
        )
    return tuple(tokens[0].tolist())


def cached_lens(
    model: HookedModel,
    prompt: str,
    *,
    site: str = "resid_post",
    prepend_bos: bool | None = None,
    targets: tuple[int, ...] = (),
) -> LensResult:
    """The prompt through the logit lens, from the cache where somebody has asked the same."""
    tokens = tokens_of(model, prompt, prepend_bos)
    return ask(model, Question(model.cfg.name, tokens, site, targets=targets)).lens


def ask(model: HookedModel, question: Question) -> Answer:
    """The answer, from the stored results of the presets, from the cache, or computed now."""
    return _read(fingerprint(model), question, model, _lens_of(model, question))


def compared(model: HookedModel, first: Question, second: Question) -> Comparison:
    """Both readings from their full distributions.

    Raises CompareError with the reason where they cannot be laid beside each other.
    """
    lenses = _lens_of(model, first), _lens_of(model, second)
    return _compare(fingerprint(model), first, second, model, *lenses)


_FINGERPRINTS: WeakKeyDictionary[HookedModel, str] = WeakKeyDictionary()


def fingerprint(model: HookedModel) -> str:
    """The first 12 digits of the SHA-256 of the model's weights."""
    if model not in _FINGERPRINTS:
        from lens_core.lens.identity import weights_sha256

        _FINGERPRINTS[model] = weights_sha256(model)[:12]
    return _FINGERPRINTS[model]


def _lens_of(model: HookedModel, question: Question) -> Transport:
    from app.lens_lab.lenses import find_lens

    return find_lens(model, question.lens_key)


# Arguments with an underscore are no part of the key: the fingerprint and the question name them.
@st.cache_data(max_entries=500, show_spinner=False)
def _read(weights: str, question: Question, _model: HookedModel, _lens: Transport) -> Answer:
    import torch

    from app.stored_results import stored_lens
    from lens_core.lens import read_lens

    stored = stored_lens(weights, question)
    if stored is not None:
        return Answer(stored, 0.0, stored=True)
    start = time.perf_counter()
    tokens = torch.tensor([question.token_ids])
    result = read_lens(_model, tokens, _lens, site=question.site, targets=question.targets)
    return Answer(result, 1000 * (time.perf_counter() - start))


@st.cache_data(max_entries=100, show_spinner=False)
def _compare(
    weights: str,
    first: Question,
    second: Question,
    _model: HookedModel,
    _lens: Transport,
    _other: Transport,
) -> Comparison:
    import torch

    from lens_core.lens.compare import compare_lenses, compare_prompts

    tokens = torch.tensor([first.token_ids])
    if first.token_ids == second.token_ids:
        return compare_lenses(_model, tokens, _lens, _other, site=first.site)
    other = torch.tensor([second.token_ids])
    return compare_prompts(_model, tokens, other, _lens, site=first.site)
