"""The opponent: a greedy search on prompts of its own, scored on the same as everyone."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app.answer_controls import choice
from app.circuit_lab import board
from app.circuit_lab.prepared import Key, Prepared, knockouts_of
from app.circuit_lab.settings import METHODS, Settings
from app.jobs import Job
from app.watched_job import Watched
from lens_core.circuits import CircuitSearch, node_name, search_circuit

GOAL = 0.95
_LAST = "circuit_search_last"


def draw(ready: Prepared, settings: Settings) -> None:
    """How it searches, the start, the progress with *Cancel*, what it found."""
    st.markdown("##### The automatic search, your opponent")
    choice("It searches by", METHODS, "method", Settings().method)
    st.number_input(
        "Prune: the least that a head must be worth, as a share of F(M)",
        0.0,
        0.5,
        Settings().min_share,
        0.01,
        key="min_share",
        bind="query-params",
        persist_state="page",
        help="The smaller, the more heads are kept.",
    )
    _live(ready, settings).draw()


def searched_key(key: Key) -> Key:
    """The prompts that the search sees: others than those on which circuits are judged."""
    return replace(key, seed=key.seed + 1)


def _live(ready: Prepared, settings: Settings) -> Watched[CircuitSearch]:
    return Watched(
        "circuit_search",
        "step",
        offer=lambda: _offer(ready, settings),
        finish=lambda job: _finish(ready, job),
    )


def _offer(ready: Prepared, settings: Settings) -> None:
    if st.button("Start the search", key="circuit_search_start", icon=":material/play_arrow:"):
        _live(ready, settings).start(lambda job: search(ready, settings, job))
        st.rerun(scope="fragment")
    last: tuple[Prepared, str] | None = st.session_state.get(_LAST)
    if last is not None and last[0] is ready:
        st.markdown(last[1])


def search(ready: Prepared, settings: Settings, job: Job[CircuitSearch]) -> CircuitSearch:
    """Run it. Raises CircuitError where there is nothing to be faithful to."""
    knockouts = knockouts_of(ready.model, searched_key(ready.key))
    return search_circuit(
        knockouts,
        method="grow" if settings.method == "grow" else "prune",
        all_mlps=True,
        min_share=min(max(settings.min_share, 0.0), 0.5),
        goal=GOAL,
        on_step=lambda done, total: job.step(done, total, float(done)),
    )


def _finish(ready: Prepared, job: Job[CircuitSearch]) -> None:
    found = job.result
    assert found is not None
    if found.circuit.model != ready.model.cfg.name:
        st.info("The search ended, but it was of another model. Start it again for this one.")
        return
    circuit = ready.circuit(found.circuit.nodes, found.circuit.name)
    name = board.add(ready, circuit, board.SEARCHED)
    (score,) = ready.scores([circuit])
    heads = ", ".join(map(node_name, found.circuit.nodes)) or "none"
    st.session_state[_LAST] = (
        ready,
        f"**{name}**: {circuit.size} heads after {found.n_circuits} circuits ({heads}). On the "
        f"prompts that it searched it has {found.ratio:.0%} of F(M), on those of this page "
        f"{float(score.ratio.value):.0%}.",
    )
    st.rerun(scope="app")
