"""Many facts: the methods and their controls, the run with *Cancel*, and all that came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.attention_cache import ask
from app.editing_lab import ledger
from app.errors import plain, polite_errors
from app.jobs import Job
from app.lens_cache import fingerprint
from app.mass_editing_lab import curves_view, fact_view, snippets
from app.mass_editing_lab.curves_view import SHORT
from app.mass_editing_lab.experiment import Curves, measure
from app.mass_editing_lab.methods import Leverage, key_width, leverage, settings_of, writers
from app.mass_editing_lab.settings import LAMBDAS, METHODS, Settings
from app.mass_editing_lab.source import Facts
from app.place_controls import one_of
from app.take_away import provenance, table_and_code
from app.watched_job import Watched
from lens_core.editing import EditingError, preset

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

_KEPT, _SO_FAR = "mass_found", "mass_so_far"
_MOST_FOR_LEVERAGE = 40


@dataclass(frozen=True, eq=False)
class Kept:
    """The visitor's curves, and what they were made with."""

    key: tuple[object, ...]
    found: Curves


def draw(model: HookedModel, facts: Facts) -> None:
    """Controls, the run, the curves, single facts, and what may be taken along."""
    settings = _controls(model, facts)
    _live(model, facts, settings).draw()
    kept = kept_for(model, facts, settings)
    if kept is not None:
        fact_view.draw_contradictions(model, kept, facts.contradictions)
        fact_view.draw(model, kept)
        _to_ledger(model, kept)
    _take_away(model, facts, settings)


def _controls(model: HookedModel, facts: Facts) -> Settings:
    start = Settings()
    st.markdown("**Methods**, on the same facts", help=_methods_help())
    columns = st.columns(2)
    for at, (key, (_, title)) in enumerate(METHODS.items()):
        columns[at % 2].checkbox(
            title, getattr(start, key), key=key, bind="query-params", persist_state="page"
        )
    memit = preset(model, "memit").settings
    lam = round(memit.covariance_weight * key_width(model))
    _begin("edit_layer", preset(model, "rome").settings.layer % model.cfg.n_layers)
    _begin("first_layer", memit.layers[0] % model.cfg.n_layers)
    _begin("last_layer", memit.layers[-1] % model.cfg.n_layers)
    _begin("lam", lam)
    left, middle, right = st.columns(3)
    with left:
        one_of("One layer: which", "edit_layer", model.cfg.n_layers,
               help="Of ROME, EMMET and fine-tuning.")  # fmt: skip
    with middle:
        one_of("Several: from", "first_layer", model.cfg.n_layers,
               help="MEMIT and AlphaEdit share each change out over several layers.")  # fmt: skip
    with right:
        one_of("to", "last_layer", model.cfg.n_layers,
               help="At the last one the value that is wanted is searched for.")  # fmt: skip
    _lambda(lam)
    settings = Settings.standing(st.session_state)
    _written(model, facts, settings)
    return settings


def _methods_help() -> str:
    return (
        "**ROME** writes a fact as a change of rank one, then the next one into what came of it; "
        "*as published* is the code of 2022, which mixes two keys. "
        "**MEMIT** and **EMMET** solve for all facts at once. **AlphaEdit** moves only in "
        "directions that other text hardly uses, batch after batch. **Fine-tuning** is gradient "
        "descent on the same matrix."
    )


def _begin(key: str, value: int) -> None:
    """A control that says what the model's own setting is, until somebody chooses another."""
    if st.session_state.get(key) is None and key not in st.query_params:
        st.session_state[key] = str(value)


def _lambda(measured: int) -> None:
    options = [str(n) for n in sorted({*LAMBDAS, measured})]
    state = st.session_state
    if isinstance(state.get("lam"), int | float):
        state["lam"] = str(int(state["lam"]))  # a lesson gives numbers
    if "lam" in state and state["lam"] not in options:
        del state["lam"]
    st.select_slider(
        "MEMIT's lambda: how much what the layer knows already weighs",
        options,
        key="lam",
        bind="query-params",
        persist_state="page",
        help=f"{measured} did best on development facts of this model, or is the papers' scaled to "
        "its size. The papers' own number for GPT-J is 15000.",
    )


def _written(model: HookedModel, facts: Facts, settings: Settings) -> None:
    """The write fraction at this lambda, live."""
    if not settings.run_memit or settings.lam is None:
        return
    made_with = settings_of(model, "memit", settings)
    requests = tuple(dict.fromkeys(r.request for r in facts.records))[:_MOST_FOR_LEVERAGE]
    layer = made_with.layers[-1]
    found: Leverage = ask(
        model, leverage, requests=requests, layer=layer, made_with=made_with
    ).result
    shares = np.array(found.written(settings.lam))
    low, middle, high = np.percentile(shares, [5, 50, 95])
    n = len(made_with.layers)
    rest = (
        f" In each of {n} layers an even share of what is left to do is asked for, so that more of "
        "it is written in the end."
        if n > 1
        else ""
    )
    st.caption(
        f"At lambda = {settings.lam:,}, layer {layer} writes **{middle:.0%}** of what is wanted "
        f"for one fact alone (median; {low:.0%} to {high:.0%} for most): the share is r / (1 + r), "
        f"r = leverage / lambda, and the median leverage of these keys is "
        f"{np.median(found.values):,.0f}.{rest}"
    )


def _live(model: HookedModel, facts: Facts, settings: Settings) -> Watched[Curves]:
    return Watched(
        "mass_editing",
        "edit",
        offer=lambda: _offer(model, facts, settings),
        finish=lambda job: _keep(model, facts, settings, job),
        meanwhile=lambda job: _meanwhile(),
    )


def _offer(model: HookedModel, facts: Facts, settings: Settings) -> None:
    label = f"Write {counted(len(facts.records), 'fact')}"
    if st.button(label, key="mass_start", icon=":material/play_arrow:",
                 disabled=not settings.methods):  # fmt: skip
        made = writers(model, settings)
        so_far: list[Curves] = []
        key = _key(model, facts, settings)
        st.session_state[_SO_FAR] = key, so_far
        _live(model, facts, settings).start(
            lambda job: measure(
                model,
                facts.records,
                made,
                seed=settings.seed,
                on_step=lambda done, total: job.step(done, total, float(done)),
                on_curves=so_far.append,
            )
        )
        st.rerun(scope="fragment")
    if not settings.methods:
        st.caption("Choose a method.")
    kept = kept_for(model, facts, settings)
    if kept is not None:
        curves_view.draw(kept, key="mass")
    elif _KEPT in st.session_state:
        st.caption("The facts or settings have changed since the last run; run again to see them.")
    else:
        st.caption("Nothing has been written yet. Scores are taken after 1, 2, 5, 10, ... edits.")


def _meanwhile() -> None:
    _, so_far = st.session_state.get(_SO_FAR, (None, []))
    if so_far:
        last = so_far[-1].found.points[-1]
        st.caption(
            f"{SHORT[last.method]} after {last.n}: {last.latest:.0%} of the newest edits hold."
        )


def _keep(model: HookedModel, facts: Facts, settings: Settings, job: Job[Curves]) -> None:
    assert job.result is not None
    key, _ = st.session_state.pop(_SO_FAR, (_key(model, facts, settings), None))
    st.session_state[_KEPT] = Kept(key, job.result)
    st.rerun()  # single facts, the ledger and the table are drawn outside of this fragment


def _key(model: HookedModel, facts: Facts, settings: Settings) -> tuple[object, ...]:
    made_with = tuple((m, repr(settings_of(model, m, settings))) for m in settings.methods)
    requests = tuple(record.request for record in facts.records)
    return fingerprint(model), made_with, requests, settings.seed


def kept_for(model: HookedModel, facts: Facts, settings: Settings) -> Curves | None:
    """The visitor's curves, if they were made of these facts with these settings."""
    kept: Kept | None = st.session_state.get(_KEPT)
    if kept is None or kept.key != _key(model, facts, settings):
        return None
    return kept.found


def counted(n: int, thing: str) -> str:
    """So many things, in words."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _to_ledger(model: HookedModel, found: Curves) -> None:
    st.markdown("##### Go on with the edited model")
    st.caption(
        "The edits of one method go into your ledger as one line. From there they can be switched "
        "off, taken into every other lab, or downloaded as a model."
    )
    with st.container(horizontal=True):
        for method, edit in found.edits.items():
            st.button(
                f"Keep {SHORT[method]}'s {counted(len(edit.requests), 'edit')}",
                key=f"mass_keep_{method}",
                on_click=_into_ledger,
                args=(model, found, method),
            )
    n = len(ledger.of(model))
    if n:
        st.caption(f"Your ledger has {counted(n, 'line')} now.")


def _into_ledger(model: HookedModel, found: Curves, method: str) -> None:
    with polite_errors():
        ledger.keep(model, found.edits[method])


def _take_away(model: HookedModel, facts: Facts, settings: Settings) -> None:
    methods = ", ".join(SHORT[m] for m in settings.methods) or "no method"
    with polite_errors():
        layers = sorted({n for m in settings.methods for n in _layers(model, m, settings)})
        st.caption(
            provenance(
                model,
                f"{len(facts.records)} facts, {plain(settings.source)}",
                plain(methods),
                f"layers {', '.join(map(str, layers))}",
                f"lambda {settings.lam}" if settings.run_memit else "no lambda",
                f"seed {settings.seed}",
            )
        )
        table_and_code(
            lambda: _table(model, facts, settings),
            lambda: snippets.mass_code(model, settings, facts),
            file_name="mass_editing.csv",
        )


def _layers(model: HookedModel, method: str, settings: Settings) -> tuple[int, ...]:
    made_with = settings_of(model, method, settings)
    return tuple(getattr(made_with, "layers", None) or (made_with.layer,))


def _table(model: HookedModel, facts: Facts, settings: Settings) -> pd.DataFrame:
    found = kept_for(model, facts, settings)
    if found is None:
        raise EditingError("Nothing has been written yet: run the methods first.")
    return found.found.to_frame()
