"""What shapes the lab's figures, as the URL holds it: one frozen value with plain fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from app.lab_settings import LabSettings

BUILD, GRAPH, BOARD = "build", "graph", "leaderboard"
VIEWS = {
    BUILD: "keep heads by hand, and see how good the circuit is",
    GRAPH: "the circuit drawn, with what each of its heads looks at and writes",
    BOARD: "the circuits of this visit side by side, with controls and the automatic search",
}
BOTH = "both"
ORDERS = {
    BOTH: "half of the prompts of each kind",
    "ABBA": "the indirect object is named first: When Mary and John ..., John gave ... to",
    "BABA": "the actor is named first: When John and Mary ..., John gave ... to",
}
NO_DISTRACTOR = "none"
DISTRACTED = {
    NO_DISTRACTOR: "nothing stands between the introduction and the giving",
    "clause": "a clause without names stands there",
    "third name": "a third person is named there",
    "object again": "the indirect object is named once more, so that both names come twice",
}
ABLATED = {
    "mean": "its mean over other prompts of the same template at the same position, as Wang and "
    "others do; it still tells where in the sentence something stands",
    "overall mean": "its mean over all templates and positions; it tells nothing of places",
    "zero": "nothing at all, which the model has never seen",
    "resample": "what it writes on another prompt of the same template",
}
METRICS = {
    "logit difference": "the logit of the right name less that of the actor, as in the paper",
    "log odds": "the logit of the right name less the log-sum-exp of all other names', in nats: "
    "it is above 0 where the right name is likelier than all others together",
}
CELLS = {
    "for the right name": "logits that the head's own output adds at the last token",
    "for the actor": "the same for the wrong name; below 0 the head holds it down",
    "looks at the right name": "attention from the last token to the indirect object",
    "looks at the actor": "attention from the last token to the actor's first mention",
    "looks at the actor again": "attention from the last token to the second mention",
}
METHODS = {
    "prune": "begin with every head and throw out, last layer first, what is not missed",
    "grow": "begin with none and add the head that helps most, again and again",
}


@dataclass(frozen=True)
class Settings(LabSettings):
    """The lab's state. Field names are the names in the URL, and in lessons.

    Attributes:
        circuit: the heads that are kept, "L6H2 L7H1", and where not all MLPs are kept those too,
            "mlp3".
        view: of `VIEWS`.
        order, distractor, n_prompts, seed: which prompts; of `ORDERS` and `DISTRACTED`.
        ablation: what stands in for what is knocked out, of `ABLATED`; metric: of `METRICS`.
        all_mlps: MLPs are kept without being named, as Wang and others do.
        cells: what the grid's cells say, of `CELLS`.
        method: of the automatic search, of `METHODS`; min_share: the share of the model's measure
            that a head must be worth to be kept by "prune".
    """

    circuit: str = ""
    view: str = BUILD
    order: str = BOTH
    distractor: str = NO_DISTRACTOR
    n_prompts: int = 32
    seed: int = 0
    ablation: str = "mean"
    metric: str = "logit difference"
    all_mlps: bool = True
    cells: str = "for the right name"
    method: str = "prune"
    min_share: float = 0.02

    CHOICES: ClassVar = {
        "view": VIEWS,
        "order": ORDERS,
        "distractor": DISTRACTED,
        "ablation": ABLATED,
        "metric": METRICS,
        "cells": CELLS,
        "method": METHODS,
    }
