"""The edges between the heads of a circuit, estimated for the whole model at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from app.attention_cache import Answer, begin
from app.circuit_lab.prepared import Key, Prepared, knockouts_of
from app.jobs import Job
from lens_core.circuits import Circuit, Node, TemplateDataset
from lens_core.patching import Answers, EdgeAttribution, Metric, edge_attribution, prompt_pair
from lens_core.plots.circuits import CircuitEdge

if TYPE_CHECKING:
    from lens_core import HookedModel

N_PAIRS, IG_STEPS = 16, 4
_MOST, _LEAST_SHARE = 30, 0.04


def edges_job(ready: Prepared) -> Job[Answer[EdgeAttribution]]:
    """Every edge of the model, on the first few of the prompts."""
    return begin(ready.model, measured_edges, key=ready.key)


def measured_edges(model: HookedModel, *, key: Key) -> EdgeAttribution:
    """What each edge carries of the difference to the same sentences with three other names.

    Raises PatchingError for blocks whose parts cannot be told apart.
    """
    dataset = knockouts_of(model, key).dataset
    pairs = [
        prompt_pair(model, clean, other, int(dataset.answer[row]), int(dataset.foil[row]))
        for group in dataset.groups
        for row, clean, other in zip(
            group.rows.tolist(), group.tokens, group.reference, strict=False
        )
        if row < N_PAIRS
    ]
    metric = _log_odds(dataset) if key.metric == "log odds" else "logit_difference"
    return edge_attribution(model, pairs, metric=metric, ig_steps=IG_STEPS)


def _log_odds(dataset: TemplateDataset) -> Metric:
    def function(logits: Tensor, answers: Answers) -> Tensor:
        candidates = dataset.candidates.to(logits.device)
        hidden = candidates == answers.answer[:, None]
        others = logits[:, candidates].masked_fill(hidden, -torch.inf).logsumexp(dim=-1)
        right: Tensor = logits.gather(1, answers.answer[:, None])[:, 0]
        return right - others

    return Metric("log odds among the names", "nats", function)


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
