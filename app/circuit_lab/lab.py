"""The lab: prompts, a grid of heads to keep, and one view of the circuit at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import streamlit as st

from app import answer_controls
from app.attention_cache import Answer
from app.attention_lab.measured import settled
from app.circuit_lab import board, graph_view, scores_view, search_view, snippets, tick_grid
from app.circuit_lab.chosen import CIRCUIT, nodes_of, random_nodes, take
from app.circuit_lab.prepared import (
    MAX_PROMPTS,
    MAX_SEED,
    MIN_PROMPTS,
    Key,
    Prepared,
    prepared_job,
    shipped_circuit,
)
from app.circuit_lab.settings import (
    ABLATED,
    BOARD,
    CELLS,
    DISTRACTED,
    GRAPH,
    METRICS,
    ORDERS,
    VIEWS,
    Settings,
)
from app.errors import plain, polite_errors
from app.lesson.state import LabState
from app.models import chosen_model
from app.take_away import provenance, table_and_code
from lens_core.circuits import Circuit, Node, every_node, node_name, nodes_text
from lens_core.model.errors import LensError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

_MAX_CHARS = 2000
_MINE = "your circuit"


def circuit_column() -> LabState | None:
    """The lab; None for a model that does not know the task.

    To be called within a fragment, which a click in the lab then runs again.
    """
    standing = None
    with polite_errors():
        model = chosen_model()
        if model.cfg.name.startswith("glass"):
            st.info(
                f"{plain(model.cfg.name)} was set by hand for another task and knows no names of "
                "people. Choose tiny-world at the left to look for the circuit of the indirect "
                "object.",
                icon=":material/info:",
            )
            return None
        standing = _lab(model)
    return standing


def _lab(model: HookedModel) -> LabState:
    left, right = st.columns(2)
    with left:
        view = _choice("View", VIEWS, "view")
    with right:
        _choice("Metric", METRICS, "metric")
    _choice("In place of what is knocked out", ABLATED, "ablation")
    st.text_input(
        "The heads that are kept",
        key=CIRCUIT,
        bind="query-params",
        max_chars=_MAX_CHARS,
        placeholder="none yet; L6H2 L7H1, or click in the grid",
        help="The same choice as the clicks in the grid; text can be copied from here, or pasted.",
    )
    body = st.container()
    with st.expander("Prompts and more settings"):
        _more()
    settings = Settings.standing(st.session_state, view=view)
    key = Key.of(settings)
    with body, polite_errors():
        settled(
            prepared_job(model, key),
            "Running the prompts",
            lambda answer: _draw(model, settings, answer),
        )
    return LabState(model, asdict(settings) | {"n_prompts": key.n_prompts, "seed": key.seed})


def _choice(label: str, options: Mapping[str, str], key: str) -> str:
    return answer_controls.choice(label, options, key, str(getattr(Settings(), key)))


def _more() -> None:
    start = Settings()
    _choice("Order of the names", ORDERS, "order")
    _choice("Distractor", DISTRACTED, "distractor")
    left, right = st.columns(2)
    left.number_input(
        "Prompts", MIN_PROMPTS, MAX_PROMPTS, start.n_prompts, 8, key="n_prompts",
        bind="query-params", persist_state="page",
    )  # fmt: skip
    right.number_input(
        "Seed of the prompts", 0, MAX_SEED, start.seed, key="seed", bind="query-params",
        persist_state="page",
    )  # fmt: skip
    st.checkbox(
        "Keep every MLP",
        value=start.all_mlps,
        key="all_mlps",
        bind="query-params",
        help="As Wang and others do. Without it the grid has a column for the MLPs, and those that "
        "are not kept are knocked out like heads.",
    )


def _draw(model: HookedModel, settings: Settings, answer: Answer[Prepared]) -> None:
    ready = answer.result
    nodes: tuple[Node, ...] = ()
    try:
        nodes = nodes_of(model, settings.circuit, all_mlps=settings.all_mlps)
    except LensError as error:
        st.error(plain(str(error)), icon=":material/info:")
    circuit = ready.circuit(nodes, _MINE, all_mlps=settings.all_mlps)
    scores_view.baseline(ready)
    if settings.view == BOARD:
        _add(ready, circuit)
        board.draw(ready, circuit)
        search_view.draw(ready, settings)
    elif settings.view == GRAPH and nodes:
        graph_view.draw(ready, circuit)
    else:
        _build(ready, circuit, settings)
    _take_away(ready, circuit, settings)


def _build(ready: Prepared, circuit: Circuit, settings: Settings) -> None:
    if settings.view == GRAPH:
        st.info("There is nothing to draw yet: keep a head first.", icon=":material/info:")
    st.caption(
        "Each cell is a head. A click keeps it, another knocks it out; everything that has no ✓ is "
        "knocked out."
    )
    state = st.session_state
    if state.get("cells") not in CELLS:
        state["cells"] = Settings().cells
    st.selectbox(
        "What the cells say",
        list(CELLS),
        key="cells",
        bind="query-params",
        persist_state="page",
        format_func=lambda name: f"{name}: {CELLS[name]}",
    )
    tick_grid.draw(ready, circuit.nodes, str(state["cells"]), all_mlps=circuit.all_mlps)
    _starts(ready, empty=not circuit.nodes)
    scores_view.draw(ready, circuit)
    if circuit.nodes:
        _add(ready, circuit)


def _starts(ready: Prepared, *, empty: bool) -> None:
    if empty:
        st.markdown(
            "**No head is kept yet**, and without heads the model cannot tell the names apart. "
            "Click the head that you would bet on, or begin from one of these:"
        )
    strongest = max(
        range(len(ready.evidence.heads)),
        key=lambda i: float(ready.evidence.answer[i] - ready.evidence.foil[i]),
    )
    first = ready.evidence.heads[strongest]
    offers: dict[str, tuple[Node, ...]] = {f"{node_name(first)} alone": (first,)}
    shipped = shipped_circuit(ready.model)
    if shipped is not None:
        offers[f"{shipped.name} ({shipped.size})"] = shipped.heads
    every = every_node(ready.model)
    offers[f"All {len(every)} heads"] = every
    n = shipped.size if shipped is not None else len(every) // 6
    offers[f"{n} at random"] = random_nodes(ready.model, n, ready.key.seed)
    offers["None"] = ()
    with st.container(horizontal=True, gap="small", key="circuit_starts"):
        for i, (label, nodes) in enumerate(offers.items()):
            if nodes or not empty:
                st.button(plain(label), key=f"circuit_start_{i}", on_click=take, args=(nodes,))


def _add(ready: Prepared, circuit: Circuit) -> None:
    if st.button(
        "Put it on the leaderboard",
        key="circuit_add",
        icon=":material/leaderboard:",
        disabled=not circuit.nodes,
    ):
        name = board.add(ready, circuit, board.YOURS)
        st.caption(f"It is there as **{plain(name)}**.")


def _take_away(ready: Prepared, circuit: Circuit, settings: Settings) -> None:
    key = ready.key
    st.caption(
        provenance(
            ready.model,
            f"{key.n_prompts} prompts ({key.order}, distractor {key.distractor})",
            f"{key.ablation} ablation",
            key.metric,
            f"circuit {nodes_text(circuit.nodes) or 'empty'}",
            "all MLPs kept" if circuit.all_mlps else "MLPs kept where named",
            f"seed {key.seed}",
        )
    )
    with polite_errors():
        table_and_code(
            lambda: _table(ready, circuit, settings),
            lambda: snippets.circuit_code(ready, circuit),
            file_name="circuit.csv",
        )


def _table(ready: Prepared, circuit: Circuit, settings: Settings) -> pd.DataFrame:
    if settings.view == BOARD:
        return board.table(ready, circuit)
    return graph_view.table(ready, circuit)
