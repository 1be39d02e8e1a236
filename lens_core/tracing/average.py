"""Causal tracing of many prompts, averaged by the role of a token, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from lens_core.bootstrap import over_documents
from lens_core.patching.engine import OnStep
from lens_core.patching.metrics import Metric
from lens_core.tracing.corruption import Corruption, GaussianNoise, embedding_std
from lens_core.tracing.errors import TracingError
from lens_core.tracing.result import (
    ROLES,
    Array,
    AverageTrace,
    CausalTrace,
    Direction,
    Estimate,
    TraceKind,
)
from lens_core.tracing.subject import TracePrompt, locate
from lens_core.tracing.trace import KINDS, causal_trace, check_kinds, question_of

if TYPE_CHECKING:
    from lens_core import HookedModel


def average_trace(
    model: HookedModel,
    prompts: Iterable[TracePrompt],
    *,
    kinds: Iterable[TraceKind] = KINDS,
    corruption: Corruption | None = None,
    window: int | None = None,
    direction: Direction = "denoise",
    metric: Metric | str | None = None,
    only_answered: bool = True,
    memory_gb: float | None = None,
    on_step: OnStep | None = None,
    seed: int = 0,
) -> AverageTrace:
    """Trace prompts one after another and average the maps by the role of each token.

    As Meng et al. 2022, section 2.2: the noise is a multiple of the standard deviation of the
    embeddings of all the subjects' tokens together, and prompts that the model does not answer are
    left out. The first and the last token of a one-token subject are the same.

    Args:
        only_answered: leave out prompts whose answer is not the model's first choice.
        on_step: called with the number of prompts done and of all; what it raises ends the work.
        seed: of the bootstrap over prompts (95% intervals).

    The other arguments and the errors are those of `causal_trace`.

    Raises:
        TracingError: the model answers none of the prompts.

    Example:
        >>> from lens_core import HookedModel
        >>> from lens_core.world.datasets import known_facts
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> facts = known_facts(model.tokenizer, 2, multi_token_subject=True)
        >>> found = average_trace(model, [TracePrompt.of_fact(model, f) for f in facts])
        >>> found.indirect_effect["state"].mean.shape
        (8, 6)
    """
    kinds = tuple(kinds)
    check_kinds(model, kinds)
    asked = list(prompts)
    sigma = _sigma(model, asked) if isinstance(corruption, GaussianNoise | None) else None
    trace = partial(
        causal_trace,
        model,
        kinds=kinds,
        corruption=corruption,
        sigma=sigma,
        window=window,
        direction=direction,
        metric=metric,
        memory_gb=memory_gb,
    )
    traces = _each(model, asked, trace, only_answered=only_answered, on_step=on_step)
    return summarise(traces, skipped=len(asked) - len(traces), seed=seed)


def _each(
    model: HookedModel,
    prompts: Sequence[TracePrompt],
    trace: Callable[..., CausalTrace],
    *,
    only_answered: bool,
    on_step: OnStep | None,
) -> list[CausalTrace]:
    traces = []
    for done, asked in enumerate(prompts, start=1):
        if not only_answered or _answered(model, asked):
            traces.append(trace(asked.prompt, asked.subject, asked.answer, asked.foil))
        if on_step is not None:
            on_step(done, len(prompts))
    if not traces:
        raise TracingError(
            f"{model.cfg.name} answers none of the {len(prompts)} prompts; choose facts it knows, "
            "or only_answered=False."
        )
    return traces


def summarise(traces: Sequence[CausalTrace], *, skipped: int = 0, seed: int = 0) -> AverageTrace:
    """Average traces that were made with the same kinds, windows and metric."""
    controls = [t.control_effect for t in traces if t.control_effect is not None]
    return AverageTrace(
        traces=tuple(traces),
        skipped=skipped,
        clean=estimate(np.array([t.clean for t in traces]), seed),
        corrupted=estimate(np.array([t.corrupted.mean() for t in traces]), seed),
        total_effect=estimate(np.array([t.total_effect for t in traces]), seed),
        control_effect=estimate(np.array(controls), seed) if controls else None,
        indirect_effect={
            kind: estimate(
                np.stack([by_role(t, t.indirect_effect(kind)) for t in traces], -1), seed
            )
            for kind in traces[0].values
        },
    )


def by_role(trace: CausalTrace, effect: Array) -> Array:
    """[layer, position] to [layer, role]; NaN where the prompt has no such token.

    Several tokens of one role are averaged.
    """
    first, last = trace.subject
    end = effect.shape[1] - 1
    places = {
        "first subject token": [first],
        "middle subject tokens": range(first + 1, last),
        "last subject token": [last],
        "first subsequent token": [last + 1] if last + 1 < end else [],
        "further tokens": range(last + 2, end),
        "last token": [end],
    }
    columns = [
        effect[:, list(places[role])].mean(1) if len(places[role]) else np.full(len(effect), np.nan)
        for role in ROLES
    ]
    return np.stack(columns, 1)


def estimate(values: Array, seed: int) -> Estimate:
    """The mean over the last axis, prompts, leaving out NaN, and its 95% bootstrap interval.

    NaN where no prompt has a number.
    """
    present = ~np.isnan(values)
    none = ~present.any(-1)
    filled = np.where(present, values, 0.0)

    def mean(index: Array) -> Array:
        n = present[..., index].sum(-1)
        return np.asarray(filled[..., index].sum(-1) / np.where(n, n, np.where(none, 1, np.nan)))

    found = over_documents(mean, np.arange(values.shape[-1]), seed=seed)
    value, low, high = (np.where(none, np.nan, x) for x in (found.value, found.low, found.high))
    return Estimate(value, low, high, present.sum(-1))


def _sigma(model: HookedModel, prompts: Sequence[TracePrompt]) -> float | None:
    if not prompts or not model.has_site("embed", None):
        return None
    located = [locate(model, p.prompt, p.subject) for p in prompts]
    return embedding_std(model, [tokens[0, a : b + 1] for tokens, (a, b) in located])


def _answered(model: HookedModel, prompt: TracePrompt) -> bool:
    """Whether the answer is the model's first choice."""
    tokens, _ = locate(model, prompt.prompt, prompt.subject)
    with torch.no_grad():
        logits = model.run(tokens, last_logits_only=True)[0, -1]
    answer, _ = question_of(model, prompt, logits)
    return int(logits.argmax()) == answer
