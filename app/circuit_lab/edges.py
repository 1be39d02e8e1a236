"""The edges between the heads of a circuit, estimated for the whole model at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.attention_cache import Answer, begin
from app.circuit_lab.prepared import Key, Prepared, knockouts_of
from app.jobs import Job
from lens_core.circuits import Circuit, Node, swapped
from lens_core.patching import EdgeAttribution, edge_attribution, prompt_pair
from lens_core.plots.circuits import CircuitEdge

if TYPE_CHECKING:
    from lens_core import HookedModel

N_PAIRS, IG_STEPS = 16, 4
_MOST, _LEAST_SHARE = 30, 0.04


def edges_job(ready: Prepared) -> Job[Answer[EdgeAttribution]]:
    """Every edge of the model, on the first few of the prompts."""
    return begin(ready.model, measured_edges, key=ready.key)


def measured_edges(model: HookedModel, *, key: Key) -> EdgeAttribution:
    """What each edge carries of the difference to the same prompts with the other person acting.

    Raises PatchingError for blocks whose parts cannot be told apart.
    """
    dataset = knockouts_of(model, key).dataset
    other = swapped(model, dataset)
    pairs = [
        prompt_pair(model, clean, corrupted, int(dataset.answer[row]), int(dataset.foil[row]))
        for own, its in zip(dataset.groups, other.groups, strict=True)
        for row, clean, corrupted in zip(own.rows.tolist(), own.tokens, its.tokens, strict=True)
        if row < N_PAIRS
    ]
    return edge_attribution(model, pairs, ig_steps=IG_STEPS)


def edges_within(
    model: HookedModel, found: EdgeAttribution, circuit: Circuit
) -> tuple[CircuitEdge, ...]:
    """The strongest edges between nodes of the circuit, from the embeddings and to the logits."""
    edges = []
    senders: list[Node | None] = [None, *circuit.nodes]
    for receiver in (*circuit.nodes, None):
        ways = _inputs(model, receiver)
        for sender in senders:
            known = [
                (way, -found.score((_sender(sender), name)))
                for way, name in ways.items()
                if sender is None or receiver is None or _before(sender, receiver)
            ]
            if known:
                way, effect = max(known, key=lambda one: abs(one[1]))
                edges.append(CircuitEdge(sender, receiver, way, effect))
    edges = [edge for edge in edges if edge.sender is not None or edge.receiver is not None]
    edges.sort(key=lambda edge: -abs(edge.effect))
    least = _LEAST_SHARE * abs(edges[0].effect) if edges else 0.0
    return tuple(edge for edge in edges[:_MOST] if abs(edge.effect) >= least)


def _before(sender: Node, receiver: Node) -> bool:
    if sender[0] != receiver[0]:
        return sender[0] < receiver[0]
    return sender[1] is not None and receiver[1] is None


def _sender(node: Node | None) -> str:
    if node is None:
        return "embed"
    layer, head = node
    return f"mlp {layer}" if head is None else f"{layer}.{head}"


def _inputs(model: HookedModel, node: Node | None) -> dict[str, str]:
    """The receiver's inputs as the graph names them, by way."""
    if node is None:
        return {"": "logits"}
    layer, head = node
    if head is None:
        return {"": f"mlp {layer}"}
    shared = head * model.cfg.n_kv_heads // model.cfg.n_heads
    return {
        "its query": f"{layer}.{head}.q",
        "its key": f"{layer}.{shared}.k",
        "its value": f"{layer}.{shared}.v",
    }
