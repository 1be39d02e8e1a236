"""The circuit drawn, and what each of its heads looks at and writes."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.attention_lab.measured import settled
from app.circuit_lab.edges import N_PAIRS, edges_job, edges_within
from app.circuit_lab.prepared import Prepared, shipped_circuit
from app.errors import plain
from app.theme import is_dark
from lens_core.circuits import Circuit, Node, node_name
from lens_core.patching import EdgeAttribution, PatchingError
from lens_core.plots.circuits import CircuitEdge, circuit_graph

_COLUMNS = {
    "io": "looks at the right name",
    "s1": "at the actor",
    "s2": "at the actor again",
    "end": "at the last token",
}


def draw(ready: Prepared, circuit: Circuit) -> None:
    """The graph, then the evidence head by head."""
    job = edges_job(ready)
    try:
        settled(job, "Following the edges", lambda answer: _graph(ready, circuit, answer.result))
    except PatchingError as error:
        st.caption(f":material/info: No edges are drawn: {plain(str(error))}")
        _figure(ready, circuit, ())
    _evidence(ready, circuit)


def _graph(ready: Prepared, circuit: Circuit, found: EdgeAttribution) -> None:
    _figure(ready, circuit, edges_within(ready.model, found, circuit))
    st.caption(
        "An edge is drawn where what one part writes matters to what another reads, or to the "
        "logits: teal for the answer, orange against it. It is an estimate (edge attribution with "
        f"integrated gradients, {min(N_PAIRS, ready.key.n_prompts)} prompts against sentences with "
        "three other names), in the whole model and not in the circuit alone, and a sketch of the "
        "wires: paths through MLPs, and through heads that are not kept, are not drawn."
    )


def _figure(ready: Prepared, circuit: Circuit, edges: tuple[CircuitEdge, ...]) -> None:
    table = _rows(ready, circuit)
    notes = {
        node: f"{node_name(node)}, {circuit.role_of(node)}: direct effect on the right name "
        f"{row['writes for the right name']}, on the actor {row['for the actor']}"
        for node, row in table.items()
    }
    st.plotly_chart(
        circuit_graph(circuit, edges=edges, notes=notes, dark=is_dark()),
        theme=None,
        key="circuit_graph",
        config={"displayModeBar": False},
        alt=f"The circuit by layer: {', '.join(map(node_name, circuit.nodes))}",
    )


def _evidence(ready: Prepared, circuit: Circuit) -> None:
    st.markdown("##### The evidence")
    st.table(list(_rows(ready, circuit).values()), border="horizontal")
    shipped = shipped_circuit(ready.model)
    named = f" Heads of *{plain(shipped.name)}* have the role given there." if shipped else ""
    st.caption(
        "Attention from the last token, and direct effects on logits: what the head's own output "
        "at the last token, in place of its mean, adds. The role is a rule of thumb over these "
        f"figures.{named} A role is a name for figures, not a proof."
    )


def _rows(ready: Prepared, circuit: Circuit) -> dict[Node, dict[str, str]]:
    found, n_heads = ready.evidence, ready.model.cfg.n_heads
    rows: dict[Node, dict[str, str]] = {}
    for role, nodes in circuit.roles.items():
        for layer, head in nodes:
            if head is None:
                continue
            i = layer * n_heads + head
            looks = {text: f"{found.attention[at][i]:.2f}" for at, text in _COLUMNS.items()}
            rows[layer, head] = {
                "head": node_name((layer, head)),
                "role": plain(role),
                **looks,
                "writes for the right name": f"{found.answer[i]:+.2f}",
                "for the actor": f"{found.foil[i]:+.2f}",
                "for other names": f"{found.others[i]:+.2f}",
            }
    return dict(sorted(rows.items()))


def table(ready: Prepared, circuit: Circuit) -> pd.DataFrame:
    """Every head of the model: whether it is kept, its role, where it looks and what it writes."""
    frame = ready.evidence.to_frame()
    heads = ready.evidence.heads
    frame.insert(1, "kept", [head in circuit.nodes for head in heads])
    frame.insert(2, "role", [ready.roles[head] for head in heads])
    return frame
