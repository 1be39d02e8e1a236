"""The circuits of this visit side by side, by faithfulness and size, with controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import streamlit as st

from app.circuit_lab import scores_view
from app.circuit_lab.checks import random_circuits
from app.circuit_lab.chosen import take
from app.circuit_lab.prepared import Prepared, shipped_circuit
from app.errors import plain
from app.theme import is_dark
from lens_core.circuits import Circuit
from lens_core.circuits.scores import Faithfulness
from lens_core.plots.circuits import circuit_points

# Within so much of F(M) a circuit counts as faithful, and then the smaller one leads.
FAITHFUL = 0.15
YOURS, SEARCHED, SHIPPED, CONTROL = "yours", "search", "known", "control"
_BOARD, _LOOK = "circuit_board", "circuit_look"
_MOST = 20


@dataclass(frozen=True)
class Entry:
    """A circuit on the board: which model's, and who made it."""

    model: str
    kind: str
    circuit: Circuit


@dataclass(frozen=True)
class Row:
    """A line of the table; controls have no place."""

    place: int | None
    kind: str
    circuit: Circuit
    score: Faithfulness


def add(ready: Prepared, circuit: Circuit, kind: str) -> str:
    """Put a circuit on the board, once; returns the name that it has there."""
    entries: list[Entry] = st.session_state.setdefault(_BOARD, [])
    model = ready.model.cfg.name
    for entry in entries:
        if entry.model == model and entry.circuit.kept == circuit.kept:
            return entry.circuit.name
    n = 1 + sum(entry.kind == kind and entry.model == model for entry in entries)
    name = f"{kind} {n}" if kind == YOURS else f"{circuit.name} {n}"
    entries.append(Entry(model, kind, replace(circuit, name=name)))
    del entries[:-_MOST]
    return name


def rows(ready: Prepared, present: Circuit) -> list[Row]:
    """Everything on the board under the present settings, the best first, then the controls.

    Of the circuits within 15% of F(M) the smallest leads; the others follow by their distance.
    """
    entries = [
        (entry.kind, entry.circuit)
        for entry in st.session_state.get(_BOARD, [])
        if entry.model == ready.model.cfg.name
    ]
    shipped = shipped_circuit(ready.model)
    if shipped is not None:
        entries.append((SHIPPED, shipped))
    known = {circuit.kept for _, circuit in entries}
    if present.nodes and present.kept not in known:
        entries.append((YOURS, replace(present, name="the one in the grid")))
    entries += [(CONTROL, circuit) for circuit in controls(ready, present)]
    scores = ready.scores([circuit for _, circuit in entries])
    found = [
        Row(None, kind, circuit, score)
        for (kind, circuit), score in zip(entries, scores, strict=True)
    ]
    ranked = sorted((row for row in found if row.kind != CONTROL), key=_order)
    placed = [replace(row, place=i) for i, row in enumerate(ranked, start=1)]
    return placed + [row for row in found if row.kind == CONTROL]


def controls(ready: Prepared, present: Circuit) -> list[Circuit]:
    """The whole model, no heads, and the best of some circuits of as many heads at random."""
    found = [
        replace(ready.knockouts.whole, name="the whole model"),
        Circuit.of("no heads", ()),
    ]
    n = len(present.heads)
    if n:
        drawn = random_circuits(ready, present)
        scores = ready.scores(drawn)
        best = max(range(len(drawn)), key=lambda i: float(scores[i].ratio.value))
        found.append(replace(drawn[best], name=f"{n} random heads, the best of {len(drawn)}"))
    return found


def _order(row: Row) -> tuple[bool, float, float]:
    off = abs(float(row.score.ratio.value) - 1)
    faithful = off <= FAITHFUL
    return (not faithful, row.score.size if faithful else off, off)


def draw(ready: Prepared, present: Circuit) -> None:
    """The table, the chart, and a way to look at one of them."""
    with st.spinner("Scoring what is on the board"):
        found = rows(ready, present)
    st.table([_line(row) for row in found], border="horizontal")
    st.caption(
        f"All on the present prompts, by the {ready.key.metric}, with {ready.key.ablation} "
        f"ablation. Of the circuits within {FAITHFUL:.0%} of the model the smallest leads; the "
        "others follow by how far they are off. More than the model is off as well."
    )
    st.plotly_chart(
        circuit_points([(r.circuit.name, r.kind, r.score) for r in found], dark=is_dark()),
        theme=None,
        key="circuit_points",
        config={"displayModeBar": False},
        alt="Circuits by number of nodes and by the share of the model's measure that they keep",
    )
    _look(found)


def _line(row: Row) -> dict[str, str]:
    score = row.score
    return {
        "place": "" if row.place is None else str(row.place),
        "circuit": plain(row.circuit.name),
        "by": row.kind,
        "nodes": str(score.size),
        "faithfulness": scores_view.percent(score.ratio),
        "F(C)": scores_view.said(score.circuit, 1),
        "right name first": f"{score.first:.0%}",
    }


def _look(found: Sequence[Row]) -> None:
    st.session_state[_LOOK] = None
    by_name = {row.circuit.name: row.circuit for row in found if row.circuit.heads}
    st.selectbox(
        "Put one into the grid",
        list(by_name),
        index=None,
        key=_LOOK,
        placeholder="choose a circuit",
        on_change=_take,
        args=(by_name,),
    )


def _take(by_name: dict[str, Circuit]) -> None:
    chosen = st.session_state[_LOOK]
    if chosen is not None:
        take(by_name[chosen].nodes)


def table(ready: Prepared, present: Circuit) -> pd.DataFrame:
    """The board as figures."""
    lines = []
    for row in rows(ready, present):
        score = row.score
        lines.append(
            {
                "place": row.place,
                "circuit": row.circuit.name,
                "by": row.kind,
                "nodes": score.size,
                "f": float(score.circuit.value),
                "f_low": float(score.circuit.low),
                "f_high": float(score.circuit.high),
                "ratio": float(score.ratio.value),
                "ratio_low": float(score.ratio.low),
                "ratio_high": float(score.ratio.high),
                "first": score.first,
                "heads": " ".join(f"{layer}.{head}" for layer, head in row.circuit.heads),
            }
        )
    return pd.DataFrame(lines)
