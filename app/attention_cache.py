"""Attention and attribution results shared by all visitors: each question is computed once.

    answer = ask(model, read_attention, token_ids, scores=True)
    answer.result, answer.took_ms

Any analysis of ``lens_core`` that takes ``(model, tokens, ...)`` or ``(model, ...)`` can be asked
so, with plain values as arguments. `begin` does the same in a thread, for work that takes seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import streamlit as st

from app.jobs import Job
from app.lens_cache import fingerprint

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.interventions import Intervention

Result = TypeVar("Result")
TokenIds = tuple[int, ...]
# Patterns of 144 heads on 128 tokens take 28 MB with scores and weights; other results next to
# nothing.
_HEAVY_ENTRIES, _LIGHT_ENTRIES = 16, 300


@dataclass(frozen=True)
class Answer(Generic[Result]):
    """A result and how long it took to compute."""

    result: Result
    took_ms: float


@dataclass(frozen=True)
class Block:
    """Attention that is stopped, as `lens_core.attribution.block_attention` takes it."""

    layer: int
    head: int
    dest: int | None = None
    src: int | None = None
    renormalise: bool = False

    def intervention(self) -> Intervention:
        """The edit. Raises AblationError for an edge that no head has."""
        from lens_core.attribution import block_attention

        return block_attention(
            self.layer, self.head, self.dest, self.src, renormalise=self.renormalise
        )


@dataclass(frozen=True)
class Corpus:
    """Texts for mean and resample ablation, by what they are made of and not by themselves.

    `seed` draws them: text that `lens_core.world` generates, or repeated random tokens for the
    glass models, which know none of its words.
    """

    n_tokens: int
    seed: int

    def rows(self, model: HookedModel) -> list[Any]:
        """Token tensors [1, n_tokens]."""
        from lens_core.attention import largest_half, repeated_random_tokens
        from lens_core.lens.corpus import read_corpus

        if model.cfg.name.startswith("glass"):
            half = min(largest_half(model), max(1, self.n_tokens // 2))
            tokens = repeated_random_tokens(model, n_sequences=32, half=half, seed=self.seed)
            return list(tokens.split(1))
        rows = read_corpus(
            f"world:{self.seed}", model, n_ctx=self.n_tokens, max_tokens=64 * self.n_tokens
        )
        return list(rows.tokens.split(1))


def ask(
    model: HookedModel,
    analysis: Callable[..., Result],
    token_ids: TokenIds | None = None,
    *,
    heavy: bool = False,
    **arguments: Any,
) -> Answer[Result]:
    """The answer, from the cache or computed now. ``heavy``: one of which few are kept.

    Arguments are hashable; a `Block` or a tuple of them becomes interventions and a `Corpus` its
    rows. Raises what the analysis raises, and does not keep that.
    """
    kept = _heavy if heavy else _light
    key = (_name(analysis), token_ids, tuple(sorted(arguments.items())))
    answer: Answer[Result] = kept(fingerprint(model), model.cfg.name, key, model, analysis)
    return answer


def begin(
    model: HookedModel,
    analysis: Callable[..., Result],
    token_ids: TokenIds | None = None,
    **arguments: Any,
) -> Job[Answer[Result]]:
    """The job that computes the answer, begun by whoever asked first; one that failed is forgotten
    once it was handed out."""
    key = (_name(analysis), token_ids, tuple(sorted(arguments.items())))
    names = (fingerprint(model), model.cfg.name, key)
    job: Job[Answer[Result]] = _job(*names, model, analysis)
    if job.error is not None:
        _job.clear(*names, model, analysis)
    return job


def _name(analysis: Callable[..., Any]) -> str:
    return f"{analysis.__module__}.{analysis.__qualname__}"


# Arguments with an underscore are no part of the key: fingerprint and name stand for them.
@st.cache_resource(max_entries=_HEAVY_ENTRIES, show_spinner=False)
def _heavy(weights: str, name: str, key: Any, _model: Any, _analysis: Any) -> Answer[Any]:
    return _compute(_model, _analysis, key)


@st.cache_resource(max_entries=_LIGHT_ENTRIES, show_spinner=False)
def _light(weights: str, name: str, key: Any, _model: Any, _analysis: Any) -> Answer[Any]:
    return _compute(_model, _analysis, key)


@st.cache_resource(max_entries=_LIGHT_ENTRIES, show_spinner=False)
def _job(weights: str, name: str, key: Any, _model: Any, _analysis: Any) -> Job[Answer[Any]]:
    return Job(lambda job: _compute(_model, _analysis, key)).start()


def _compute(model: HookedModel, analysis: Callable[..., Any], key: Any) -> Answer[Any]:
    import torch

    _, token_ids, arguments = key
    tokens = () if token_ids is None else (torch.tensor([token_ids]),)
    given = {name: _ready(model, value) for name, value in arguments}
    start = time.perf_counter()
    result = analysis(model, *tokens, **given)
    return Answer(result, 1000 * (time.perf_counter() - start))


def _ready(model: HookedModel, value: Any) -> Any:
    if isinstance(value, Corpus):
        return value.rows(model)
    if isinstance(value, tuple) and value and all(isinstance(one, Block) for one in value):
        return [one.intervention() for one in value]
    return value
