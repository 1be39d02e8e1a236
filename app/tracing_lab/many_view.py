"""Many facts: the maps averaged by the role of a token, computed while the visitor watches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from app.jobs import Job
from app.layer_map import LayerMap, layer_map, written
from app.lens_cache import fingerprint
from app.tracing_lab.asked import Asked, corruption_of
from app.tracing_lab.facts import known_to
from app.tracing_lab.one_view import TITLES
from app.tracing_lab.settings import NOISE, Settings
from app.watched_job import Watched
from lens_core.tracing import (
    ROLES,
    AverageTrace,
    Estimate,
    TraceKind,
    TracePrompt,
    TracingError,
    average_trace,
)

if TYPE_CHECKING:
    import pandas as pd

MOST_FACTS = 60
NONE_YET = "There is no average yet: choose Trace them first."
_KEPT, _CHOSEN = "tracing_many_found", "tracing_many_chosen"


@dataclass(frozen=True, eq=False)
class Kept:
    """The visitor's average, and what it was made with."""

    key: tuple[object, ...]
    found: AverageTrace


def draw(asked: Asked) -> None:
    """The offer, the progress with *Cancel*, the averaged maps."""
    st.markdown(
        "Facts that the model answers, in wordings that its training did not use, traced one after "
        "another and averaged by the role that a token has."
    )
    if asked.settings.corruption != NOISE:
        st.caption(
            ":material/info: Many facts are corrupted by noise here: no one other subject has as "
            "many tokens as all of theirs."
        )
    st.slider(
        "How many facts", 4, MOST_FACTS, Settings().n_facts, key="n_facts", bind="query-params",
        persist_state="page",
    )  # fmt: skip
    _live(asked).draw()


def _live(asked: Asked) -> Watched[Kept]:
    return Watched(
        "tracing_many",
        "fact",
        offer=lambda: _offer(asked),
        finish=_keep,
    )


def _key(asked: Asked) -> tuple[object, ...]:
    settings = asked.settings
    noise = (settings.corruption, settings.sigmas, settings.samples, settings.seed)
    maps = (asked.kinds, asked.window, settings.direction, _metric(asked))
    return (fingerprint(asked.model), _n_facts(), *noise, *maps)


def _n_facts() -> int:
    return min(int(st.session_state.get("n_facts", Settings().n_facts)), MOST_FACTS)


def _metric(asked: Asked) -> str:
    metric = asked.settings.metric
    # Each fact would need a wrong answer of its own.
    return "logit" if metric == "logit_difference" else metric


def _offer(asked: Asked) -> None:
    if st.button("Trace them", key="tracing_start", icon=":material/play_arrow:"):
        key, n = _key(asked), _n_facts()
        _live(asked).start(lambda job: Kept(key, _work(asked, n, job)))
        st.rerun(scope="fragment")
    kept = kept_for(asked)
    if kept is not None:
        _draw(kept)
    elif _KEPT in st.session_state:
        st.caption("The settings have changed since the last average; trace them again to see it.")


def _work(asked: Asked, n: int, job: Job[Kept]) -> AverageTrace:
    settings = asked.settings
    facts = known_to(asked.model, n, settings.seed)
    if not facts:
        raise TracingError(
            f"{asked.model.cfg.name} answers none of the facts of this world; trace a sentence of "
            "your own under *one fact*, or choose tiny-world at the left."
        )
    return average_trace(
        asked.model,
        [TracePrompt.of_fact(asked.model, fact) for fact in facts],
        kinds=asked.kinds,
        corruption=corruption_of(settings) if settings.corruption == NOISE else None,
        window=asked.window,
        direction="noise" if settings.direction == "noise" else "denoise",
        metric=_metric(asked),
        on_step=lambda done, total: job.step(done, total, float(done)),
        seed=settings.seed,
    )


def _keep(job: Job[Kept]) -> None:
    st.session_state[_KEPT] = job.result


def kept_for(asked: Asked) -> AverageTrace | None:
    """The visitor's average, if it was made with these settings."""
    kept: Kept | None = st.session_state.get(_KEPT)
    return kept.found if kept is not None and kept.key == _key(asked) else None


def table(asked: Asked) -> pd.DataFrame:
    """One line a kind of map, layer and role. Raises TracingError before there is an average."""
    found = kept_for(asked)
    if found is None:
        raise TracingError(NONE_YET)
    return found.to_frame()


def _draw(found: AverageTrace) -> None:
    total = found.total_effect
    control = found.control_effect
    st.markdown(
        f"**{len(found.traces)} facts.** {found.traces[0].metric.capitalize()}: "
        f"{_said(found.clean)} clean, {_said(found.corrupted)} with the subject corrupted; "
        f"total effect **{_said(total)}**."
    )
    if control is not None:
        st.caption(
            f"Control: the same noise on other words has a total effect of {_said(control)}."
        )
    full = max(abs(float(total.mean)), 1e-9)
    for kind in found.indirect_effect:
        _map(found, kind, full)


def _said(one: Estimate) -> str:
    return f"{float(one.mean):.3f} ({float(one.low):.3f} to {float(one.high):.3f})"


def _map(found: AverageTrace, kind: TraceKind, full: float) -> None:
    effect = found.indirect_effect[kind]
    window = found.traces[0].windows[kind]
    more = f" ({window})" if kind in ("mlp", "attn") else ""
    st.markdown(f"##### {TITLES[kind]}{more}: mean indirect effect")
    n_layers = effect.mean.shape[0]
    chosen: tuple[str, int, int] = st.session_state.get(_CHOSEN, ("state", 0, 2))
    layer_map(
        LayerMap(
            title=f"{TITLES[kind]}: mean indirect effect of {len(found.traces)} facts",
            label=f"{TITLES[kind]}: mean indirect effect, layers by roles of tokens",
            values=effect.mean,
            effects=effect.mean / full,
            rows=[f"L{n}" for n in range(n_layers)],
            columns=list(ROLES),
            note=lambda r, c: _interval(effect, r, c),
            chosen=chosen[1:] if chosen[0] == kind and chosen[1] < n_layers else (-1, -1),
        ),
        key=f"trace_many_{kind}",
        on_choose=lambda r, c: _choose(kind, r, c),
    )
    if chosen[0] == kind and chosen[1] < n_layers:
        st.markdown(
            f"Layer {chosen[1]}, {ROLES[chosen[2]]}: {_interval(effect, chosen[1], chosen[2])}."
        )


def _choose(kind: str, layer: int, role: int) -> None:
    st.session_state[_CHOSEN] = (kind, layer, role)


def _interval(effect: Estimate, row: int, column: int) -> str:
    n = int(effect.n[row, column])
    if n == 0:
        return "no fact has such a token"
    low, high = float(effect.low[row, column]), float(effect.high[row, column])
    return (
        f"{written(float(effect.mean[row, column]), 3)}, 95% interval {written(low, 3)} to "
        f"{written(high, 3)}, {n} facts"
    )
