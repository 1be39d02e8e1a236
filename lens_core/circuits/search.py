"""Greedy search for a circuit: the opponent of one built by hand.

    found = search_circuit(Knockouts(model, ioi_dataset(model, 32)), method="prune")
    print(found.circuit.heads, found.to_frame())

What it answers: a small set of heads that keeps the behaviour, all others knocked out. What it does
not answer: that it is the only one, or the one the model uses. "prune" throws away spare parts that
stand in for one another (OR), "grow" cannot see parts that work only together (AND); so try both,
and judge what they find on prompts that the search has not seen.

"prune" goes through the nodes from the last layer to the first, as ACDC does with edges (Conmy et
al. 2023, arXiv 2304.14997); "grow" adds the best node at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from lens_core.circuits.circuit import Circuit, Node, every_node, node_name, sorted_nodes
from lens_core.circuits.errors import CircuitError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core.circuits.knockout import Knockouts

OnStep = Callable[[int, int], None]
Method = Literal["prune", "grow"]


@dataclass(frozen=True)
class SearchStep:
    """One decision of a search.

    Attributes:
        node: the node that was tried; kept: whether it is in the circuit after the step.
        logit_difference: F of the circuit after the step, in logits; size: its nodes.
    """

    node: Node
    kept: bool
    logit_difference: float
    size: int


@dataclass(frozen=True)
class CircuitSearch:
    """What a search found and how.

    Attributes:
        circuit: the nodes found; its evidence says by which search.
        steps: every decision, in order.
        model, circuit_difference: F of the whole model and of the circuit on the prompts of the
            search, in logits; on other prompts the circuit does worse.
        n_circuits: how many circuits were run.
    """

    circuit: Circuit
    method: Method
    steps: tuple[SearchStep, ...]
    model: float
    circuit_difference: float
    n_circuits: int

    @property
    def ratio(self) -> float:
        """F of the circuit over F of the model, on the prompts of the search."""
        return self.circuit_difference / self.model

    def to_frame(self) -> pd.DataFrame:
        """One line a decision."""
        import pandas as pd

        return pd.DataFrame(
            {
                "node": [node_name(step.node) for step in self.steps],
                "kept": [step.kept for step in self.steps],
                "logit_difference": [step.logit_difference for step in self.steps],
                "ratio": [step.logit_difference / self.model for step in self.steps],
                "size": [step.size for step in self.steps],
            }
        )


def search_circuit(
    knockouts: Knockouts,
    *,
    method: Method = "prune",
    candidates: Iterable[Node] | None = None,
    all_mlps: bool = True,
    min_share: float = 0.01,
    goal: float = 0.9,
    max_size: int | None = None,
    on_step: OnStep | None = None,
) -> CircuitSearch:
    """Search for a small circuit whose logit difference is near the model's.

    The gap of a circuit is |F(M) - F(C)|, so that nodes against the answer count as well.

    Args:
        method: "prune": begin with all candidates and drop each, last layer first, whose loss
            widens the gap by less than `min_share` of F(M): one run a candidate. "grow": begin with
            none and add the one that narrows the gap most, until F(C) is within 1 - `goal` of F(M),
            or no node helps: a run of every candidate a step.
        candidates: nodes to choose from; None: every head, and without `all_mlps` every MLP.
        all_mlps: keep every MLP throughout.
        max_size: the most nodes that "grow" adds; None: no limit.
        on_step: called with the steps done and the most there can be; what it raises ends the work.

    Raises:
        CircuitError: an unknown method, nothing to choose from, a share outside 0 to 1, or a model
            that does not do the task, so that there is nothing to be faithful to.

    Example:
        >>> from lens_core import HookedModel
        >>> from lens_core.circuits import Knockouts, ioi_dataset
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> knockouts = Knockouts(model, ioi_dataset(model, 8))
        >>> late = [(6, head) for head in range(8)]
        >>> search_circuit(knockouts, method="grow", candidates=late, max_size=1).circuit.size
        1
    """
    if method not in ("prune", "grow"):
        raise CircuitError(f'Circuits are searched by "prune" or "grow", not {method!r:.30}.')
    if not 0 <= min_share < 1 or not 0 < goal <= 1:
        raise CircuitError("min_share and goal are shares of the model's logit difference, 0 to 1.")
    if max_size is not None and max_size < 1:
        raise CircuitError(f"A circuit has at least one node; max_size is {max_size}.")
    nodes = sorted_nodes(
        set(every_node(knockouts.model, mlps=not all_mlps) if candidates is None else candidates)
    )
    model = float(knockouts.model_differences.mean())
    if not nodes or model <= 0:
        raise CircuitError(
            "There is nothing to choose from; name at least one head."
            if not nodes
            else "The model prefers the wrong answer on these prompts; choose a task that it does."
        )
    trial = _Trial(knockouts, all_mlps, model)
    if method == "prune":
        steps = _prune(trial, nodes, min_share * model, on_step)
        kept = [step.node for step in steps if step.kept]
    else:
        steps = _grow(trial, nodes, (1 - goal) * model, max_size, on_step)
        kept = [step.node for step in steps]
    circuit = Circuit.of(f"found by {method}", {"found": kept}, all_mlps=all_mlps)
    final = trial.differences([kept])[0]
    evidence = {
        "search": method,
        "prompts": len(knockouts.dataset),
        "ablation": knockouts.ablation,
        "ratio_on_search_prompts": round(final / model, 4),
        "circuits_run": trial.n_run,
    }
    circuit = replace(
        circuit, model=knockouts.model.cfg.name, task=knockouts.dataset.name, evidence=evidence
    )
    return CircuitSearch(circuit, method, tuple(steps), model, final, trial.n_run)


class _Trial:
    """Runs sets of nodes as circuits and counts them."""

    def __init__(self, knockouts: Knockouts, all_mlps: bool, model: float) -> None:
        self.knockouts, self.all_mlps, self.model = knockouts, all_mlps, model
        self.n_run = 0

    def differences(self, sets: Sequence[Iterable[Node]]) -> list[float]:
        """F of each set of nodes."""
        circuits = [Circuit.of("tried", nodes, all_mlps=self.all_mlps) for nodes in sets]
        self.n_run += len(circuits)
        return [float(f) for f in self.knockouts.logit_differences(circuits).mean(axis=1)]

    def gap(self, difference: float) -> float:
        """How far F is from the model's."""
        return abs(self.model - difference)


def _prune(
    trial: _Trial, nodes: Sequence[Node], most: float, on_step: OnStep | None
) -> list[SearchStep]:
    kept = list(nodes)
    difference = trial.differences([kept])[0]
    steps = []
    for done, node in enumerate(reversed(nodes), start=1):
        rest = [other for other in kept if other != node]
        without = trial.differences([rest])[0]
        needed = trial.gap(without) - trial.gap(difference) >= most
        if not needed:
            kept, difference = rest, without
        steps.append(SearchStep(node, needed, difference, len(kept)))
        if on_step is not None:
            on_step(done, len(nodes))
    return steps


def _grow(
    trial: _Trial,
    nodes: Sequence[Node],
    near: float,
    max_size: int | None,
    on_step: OnStep | None,
) -> list[SearchStep]:
    kept: list[Node] = []
    difference = trial.differences([kept])[0]
    steps: list[SearchStep] = []
    most = len(nodes) if max_size is None else min(max_size, len(nodes))
    while len(kept) < most and trial.gap(difference) > near:
        left = [node for node in nodes if node not in kept]
        found = trial.differences([[*kept, node] for node in left])
        best = int(np.argmin([trial.gap(f) for f in found]))
        if trial.gap(found[best]) >= trial.gap(difference):
            break
        kept.append(left[best])
        difference = found[best]
        steps.append(SearchStep(left[best], True, difference, len(kept)))
        if on_step is not None:
            on_step(len(steps), most)
    return steps
