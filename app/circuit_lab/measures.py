"""What lessons ask of the circuit lab, each a pure function of the model and the lab's settings.

`circuit` is the settings' unless named: heads such as "L6H2 L7H1", empty for none, "whole" for the
whole model. `metric`, `ablation` and `distractor` are the settings' unless named. Shares are of
F(M), what the whole model has on the same prompts.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from app.lesson.measures import measure
from lens_core import HookedModel
from lens_core.circuits import (
    Circuit,
    CircuitError,
    HeadEvidence,
    Knockouts,
    every_node,
    faithfulness,
    ioi_evidence,
    ioi_knockouts,
    load_circuit,
    minimality,
    named_nodes,
)

WHOLE, BOTH_ORDERS, N_REFERENCE = "whole", "both", 32


def knockouts_of(
    model: HookedModel,
    settings: Mapping[str, Any],
    metric: str | None = None,
    ablation: str | None = None,
    distractor: str | None = None,
) -> Knockouts:
    """The prompts and the stand-ins, as the lab makes them."""
    order = str(settings.get("order") or BOTH_ORDERS)
    between = str(distractor or settings.get("distractor") or "none")
    return ioi_knockouts(
        model,
        int(settings.get("n_prompts") or 32),
        orders=("ABBA", "BABA") if order == BOTH_ORDERS else (order,),
        distractor=None if between == "none" else between,
        ablation=ablation or str(settings.get("ablation") or "mean"),
        measure=metric or str(settings.get("metric") or "logit difference"),
        n_reference=N_REFERENCE,
        seed=int(settings.get("seed") or 0),
    )


def circuit_of(
    knockouts: Knockouts, settings: Mapping[str, Any], circuit: str | None = None
) -> Circuit:
    """The circuit that is meant. Raises CircuitError for a word that names no head."""
    text = str(settings.get("circuit") or "") if circuit is None else circuit
    if text == WHOLE:
        return knockouts.whole
    all_mlps = str(settings.get("all_mlps", True)).lower() == "true"
    nodes = [node for node in named_nodes(text) if node[1] is not None or not all_mlps]
    return Circuit.of("asked", nodes, all_mlps=all_mlps)


@measure("whole_value")
def whole_value(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    metric: str | None = None,
    distractor: str | None = None,
) -> float:
    """F(M): the mean of the metric over the prompts in the whole model."""
    return float(knockouts_of(model, settings, metric, None, distractor).model_differences.mean())


@measure("circuit_value")
def circuit_value(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    circuit: str | None = None,
    metric: str | None = None,
    ablation: str | None = None,
    distractor: str | None = None,
) -> float:
    """F(C): the mean of the metric over the prompts with all but the circuit knocked out."""
    knockouts = knockouts_of(model, settings, metric, ablation, distractor)
    asked = circuit_of(knockouts, settings, circuit)
    return float(knockouts.logit_differences([asked]).mean())


@measure("best_of")
def best_of(
    model: HookedModel, settings: Mapping[str, Any], *, circuits: str, metric: str | None = None
) -> float:
    """The highest F of several circuits, which semicolons divide."""
    knockouts = knockouts_of(model, settings, metric)
    asked = [circuit_of(knockouts, settings, one) for one in circuits.split(";")]
    return float(knockouts.logit_differences(asked).mean(axis=1).max())


@measure("share_kept")
def share_kept(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    circuit: str | None = None,
    metric: str | None = None,
    ablation: str | None = None,
    distractor: str | None = None,
    bound: str = "value",
) -> float:
    """Faithfulness as F(C) / F(M); ``bound: low`` and ``high`` are the ends of its interval."""
    knockouts = knockouts_of(model, settings, metric, ablation, distractor)
    (score,) = faithfulness(knockouts, [circuit_of(knockouts, settings, circuit)])
    return float(getattr(score.ratio, bound))


@measure("right_name_first")
def right_name_first(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    circuit: str | None = None,
    ablation: str | None = None,
    distractor: str | None = None,
) -> float:
    """In which share of the prompts the right name is first of all names."""
    knockouts = knockouts_of(model, settings, None, ablation, distractor)
    asked = circuit_of(knockouts, settings, circuit)
    return float(knockouts.readings([asked])["first"].mean())


@measure("circuit_size")
def circuit_size(
    model: HookedModel, settings: Mapping[str, Any], *, circuit: str | None = None
) -> int:
    """How many nodes the circuit has."""
    return circuit_of(knockouts_of(model, settings), settings, circuit).size


def place_of(found: HeadEvidence, head: str) -> int:
    """Where a head stands in the evidence. Raises CircuitError for one that is not there."""
    nodes = named_nodes(head)
    if len(nodes) != 1 or nodes[0] not in found.heads:
        raise CircuitError(f"{head!r:.40} is no head of this model; choose another model.")
    return found.heads.index(nodes[0])


@measure("head_looks")
def head_looks(
    model: HookedModel, settings: Mapping[str, Any], *, head: str, at: str = "io"
) -> float:
    """A head's attention from the last token to the right name (``at: io``), to the actor's first
    mention (s1) or second (s2)."""
    found = ioi_evidence(knockouts_of(model, settings))
    return float(found.attention[at][place_of(found, head)])


@measure("head_writes")
def head_writes(
    model: HookedModel, settings: Mapping[str, Any], *, head: str, name: str = "answer"
) -> float:
    """A head's direct effect on the logit of the right name (``name: answer``), of the actor
    (foil); the lower of the two (both), the larger in size (either), or that on the right name less
    the size of that on the actor (apart)."""
    found = ioi_evidence(knockouts_of(model, settings))
    place = place_of(found, head)
    answer, foil = float(found.answer[place]), float(found.foil[place])
    by_name = {
        "answer": answer,
        "foil": foil,
        "both": min(answer, foil),
        "apart": answer - abs(foil),
        "either": max(abs(answer), abs(foil)),
    }
    return by_name[name]


@measure("loss_without")
def loss_without(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    heads: str,
    circuit: str | None = None,
    metric: str | None = None,
) -> float:
    """What a circuit loses with these heads, as a share of F(M)."""
    knockouts = knockouts_of(model, settings, metric)
    asked = circuit_of(knockouts, settings, circuit)
    both = knockouts.logit_differences([asked, asked.without(named_nodes(heads))]).mean(axis=1)
    return float((both[0] - both[1]) / knockouts.model_differences.mean())


@measure("kept_without")
def kept_without(
    model: HookedModel, settings: Mapping[str, Any], *, circuit: str | None = None
) -> float:
    """What the whole model keeps without the circuit's heads, as a share of F(M)."""
    knockouts = knockouts_of(model, settings)
    asked = circuit_of(knockouts, settings, circuit)
    left = knockouts.whole.without(asked.nodes)
    return float(knockouts.logit_differences([left]).mean() / knockouts.model_differences.mean())


@measure("gap_without")
def gap_without(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    heads: str,
    circuit: str | None = None,
) -> float:
    """Incompleteness: F(M without K) less F(C without K), in the metric's unit."""
    knockouts = knockouts_of(model, settings)
    asked, gone = circuit_of(knockouts, settings, circuit), named_nodes(heads)
    pair = [knockouts.whole.without(gone), asked.without(gone)]
    of_model, of_circuit = knockouts.logit_differences(pair).mean(axis=1)
    return float(of_model - of_circuit)


@measure("idle_heads")
def idle_heads(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    circuit: str | None = None,
    least: float = 0.01,
) -> int:
    """How many heads the circuit could lose, one at a time, for less than this share of F(M)."""
    knockouts = knockouts_of(model, settings)
    asked = circuit_of(knockouts, settings, circuit)
    found = minimality(knockouts, asked, n_random=0, by_role=False)
    return int((np.asarray(found.share) < least).sum())


@measure("fewest_within")
def fewest_within(model: HookedModel, settings: Mapping[str, Any], *, goal: float = 0.85) -> int:
    """To how few heads the model's own circuit can be brought, the least missed thrown out again
    and again, while it keeps this share of F(M)."""
    knockouts = knockouts_of(model, settings)
    circuit = load_circuit(f"{model.cfg.name}-ioi")
    least = goal * knockouts.model_differences.mean()
    while circuit.size > 1:
        smaller = [circuit.without([node]) for node in circuit.nodes]
        found = knockouts.logit_differences(smaller).mean(axis=1)
        if found.max() < least:
            break
        circuit = smaller[int(found.argmax())]
    return circuit.size


@measure("random_share")
def random_share(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    size: int,
    given: str = "",
    draws: int = 8,
) -> float:
    """The best share that circuits of so many heads at random keep; ``given`` heads are in all."""
    knockouts = knockouts_of(model, settings)
    rng, always = random.Random(0), named_nodes(given)
    pool = [node for node in every_node(model) if node not in always]
    drawn = [
        Circuit.of("random", [*always, *rng.sample(pool, size - len(always))]) for _ in range(draws)
    ]
    found = knockouts.logit_differences(drawn).mean(axis=1)
    return float(found.max() / knockouts.model_differences.mean())
