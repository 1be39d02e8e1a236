"""Causal tracing: which hidden states carry a fact from its subject to its answer?

    from lens_core.tracing import causal_trace

    found = causal_trace(model, "The Eiffel Tower is in the city of", "The Eiffel Tower")
    print(found.total_effect, found.indirect_effect("state").max())

What it answers: the subject is corrupted, and one clean state (or the MLP or attention outputs of a
window of layers) is put back at one token; how much of the answer comes back. What it does not
answer: where to edit a fact; the layer that tracing points at says almost nothing about how well an
edit there works (Hase et al. 2023, arXiv 2301.04213).

After Meng et al. 2022, "Locating and Editing Factual Associations in GPT" (arXiv 2202.05262), and
where paper and code differ, as the code does it: windows of w layers reach from l - w // 2 to
l + (w - 1) // 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.attention.prompt import one_token
from lens_core.lens.token_text import token_text
from lens_core.patching.base import Base, record_base
from lens_core.patching.engine import OnStep
from lens_core.patching.metrics import Metric, as_metric
from lens_core.tracing.corruption import Corruption, GaussianNoise, corrupt
from lens_core.tracing.errors import TracingError
from lens_core.tracing.maps import SITES, Tracing, default_window, maps, score
from lens_core.tracing.result import Array, CausalTrace, Direction, TraceKind
from lens_core.tracing.subject import Span, TracePrompt, control_span, locate

if TYPE_CHECKING:
    from lens_core import HookedModel

KINDS: tuple[TraceKind, ...] = ("state", "mlp", "attn")


def causal_trace(
    model: HookedModel,
    prompt: str | Int[Tensor, "1 pos"],
    subject: str | Span,
    answer: str | int | None = None,
    foil: str | int | None = None,
    *,
    kinds: Iterable[TraceKind] = KINDS,
    corruption: Corruption | None = None,
    sigma: float | None = None,
    window: int | None = None,
    direction: Direction = "denoise",
    metric: Metric | str | None = None,
    memory_gb: float | None = None,
    on_step: OnStep | None = None,
) -> CausalTrace:
    """Trace one prompt: every layer and position, for each kind of map.

    Args:
        subject, answer, foil: as in `TracePrompt`; another span than the subject is a control.
        kinds: "state": the residual stream after a block. "mlp", "attn": the outputs of the MLPs or
            of attention in a window of layers. "state_mlp_severed", "state_attn_severed": a state,
            with what the later MLPs (attentions) write at its position held as without it.
        corruption: None: `GaussianNoise()`, three standard deviations, ten samples.
        sigma: the embeddings' standard deviation; None: that of the subject's tokens.
        window: layers restored together; None: `default_window`.
        direction: see `CausalTrace`.
        metric: as in `lens_core.patching.metrics`; None: the answer's probability as in the paper,
            and with a foil the logit difference.
        memory_gb, on_step: as `run_cells`; steps are cells times samples.

    Raises:
        TracingError: the subject is not in the prompt, a replacement has another length, or the
            model does not have what a kind restores.
        TokenError: the answer is not exactly one token.
        PatchingError: no such metric, or interventions surround the call.
        EmptyPromptError, PromptTooLongError: as `to_tokens`.
    """
    asked = TracePrompt(prompt, subject, answer, foil)
    kinds = tuple(kinds)
    check_kinds(model, kinds)
    if direction not in ("denoise", "noise"):
        raise TracingError(f'Trace in the direction "denoise" or "noise", not {direction!r}.')
    width = default_window(model.cfg.n_layers) if window is None else window
    if width < 1:
        raise TracingError("A window has one layer or more.")
    with torch.no_grad():
        tracing = _prepare(model, asked, corruption or GaussianNoise(), sigma, metric, direction)
        values = maps(tracing, kinds, width, memory_gb, on_step)
    return _result(
        tracing, direction, values, {k: width if k in ("mlp", "attn") else 1 for k in kinds}
    )


def check_kinds(model: HookedModel, kinds: Sequence[TraceKind]) -> None:
    """Refuse kinds of map that there are not, or that the model's blocks do not allow.

    Raises:
        TracingError: one sentence that says which.
    """
    if not kinds or any(kind not in SITES for kind in kinds):
        raise TracingError(f"The kinds of map are {', '.join(SITES)}, not {list(kinds)}.")
    for kind in kinds:
        for site in SITES[kind]:
            if any(not model.has_site(site, layer) for layer in range(model.cfg.n_layers)):
                raise TracingError(
                    f"The map {kind!r} needs {site} in every layer, which {model.cfg.name} has not."
                )


def _prepare(
    model: HookedModel,
    asked: TracePrompt,
    corruption: Corruption,
    sigma: float | None,
    metric: Metric | str | None,
    direction: Direction,
) -> Tracing:
    tokens, span = locate(model, asked.prompt, asked.subject)
    clean = record_base(model, tokens)
    answer, foil = question_of(model, asked, clean.logits[0])
    measure = as_metric(metric or ("probability" if foil is None else "logit_difference"))
    if measure.needs_foil and foil is None:
        raise TracingError(f"The {measure.name} needs a wrong answer; name a foil.")

    def rated(logits: Tensor) -> Array:
        return np.asarray(score(measure, logits, answer, foil, clean.logits).cpu())

    spoilt = corrupt(model, tokens, span, corruption, sigma=sigma)
    corrupted = record_base(model, spoilt.tokens, spoilt.interventions)
    first = int(model.bos_id is not None and int(tokens[0, 0]) == model.bos_id)
    other = control_span(tokens.shape[1], span, first=first)
    control = None
    if other is not None and isinstance(corruption, GaussianNoise):
        # The same size of noise as on the subject, not the same multiple of other embeddings.
        same = GaussianNoise(std=spoilt.noise_std, samples=corruption.samples, seed=corruption.seed)
        noised = corrupt(model, tokens, other, same)
        logits = model.run(noised.tokens, noised.interventions, last_logits_only=True)
        control = rated(logits[:, -1])
    clean_rows = _expanded(clean, len(spoilt.tokens))
    base, source = (corrupted, clean_rows) if direction == "denoise" else (clean_rows, corrupted)
    return Tracing(
        model=model,
        tokens=tokens,
        span=span,
        corruption=corruption,
        noise_std=spoilt.noise_std,
        metric=measure,
        answer=answer,
        foil=foil,
        clean_logits=clean.logits,
        base=base,
        source=source,
        clean=float(rated(clean.logits)[0]),
        corrupted=rated(corrupted.logits),
        control_span=other if control is not None else None,
        control=control,
    )


def question_of(
    model: HookedModel, asked: TracePrompt, logits: Float[Tensor, " d_vocab"]
) -> tuple[int, int | None]:
    """The answer's and the foil's token; without an answer, what the model says."""
    answer = int(logits.argmax()) if asked.answer is None else one_token(model, asked.answer)
    foil = None if asked.foil is None else one_token(model, asked.foil)
    if answer == foil:
        raise TracingError(
            f"Answer and foil are the same token, {token_text(model, answer)!r}; choose two."
        )
    return answer, foil


def _expanded(base: Base, n: int) -> Base:
    """One run as if it had been made for `n` equal rows."""
    return Base(
        base.model,
        base.tokens.expand(n, -1),
        None,
        (),
        tuple(x.expand(n, -1, -1) for x in base.resid),
        tuple((k.expand(n, -1, -1, -1), v.expand(n, -1, -1, -1)) for k, v in base.keys_values),
        base.logits.expand(n, -1),
    )


def _result(
    tracing: Tracing,
    direction: Direction,
    values: Mapping[TraceKind, Array],
    windows: Mapping[TraceKind, int],
) -> CausalTrace:
    model, ids = tracing.model, tuple(tracing.tokens[0].tolist())
    return CausalTrace(
        model_name=model.cfg.name,
        token_ids=ids,
        tokens=tuple(token_text(model, i) for i in ids),
        subject=tracing.span,
        answer_id=tracing.answer,
        answer_text=token_text(model, tracing.answer),
        foil_id=tracing.foil,
        metric=tracing.metric.name,
        unit=tracing.metric.unit,
        corruption=tracing.corruption,
        noise_std=tracing.noise_std,
        direction=direction,
        clean=tracing.clean,
        corrupted=tracing.corrupted,
        control_span=tracing.control_span,
        control=tracing.control,
        windows=windows,
        values=values,
    )
