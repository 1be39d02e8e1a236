"""How good a circuit is: faithfulness, completeness and minimality (Wang et al. 2022, section 4).

F(C) is the mean logit difference when all but C is knocked out, M the whole model.

- Faithfulness: F(C) is near F(M).
- Completeness: for every set K of its nodes, F(C without K) is near F(M without K). If the model
  does better, it has spare parts that the circuit lacks.
- Minimality: for every node v there is a K for which v matters: F(C without K) is far from F(C
  without K and v).

Bootstrap intervals are over prompts. A set that was chosen because its figure is the largest keeps
an interval that knows nothing of the choice: on other prompts the figure is likely smaller.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lens_core.bootstrap import Interval, mean_over_documents, over_documents
from lens_core.circuits.circuit import Circuit, Node, node_name, sorted_nodes
from lens_core.circuits.errors import CircuitError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core.circuits.knockout import Knockouts

Array = np.ndarray[Any, Any]
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Faithfulness:
    """How much of the model's behaviour a circuit keeps.

    Attributes:
        model, circuit, empty: F of the whole model, the circuit, and of no heads at all (with the
            MLPs that the circuit keeps), in logits.
        ratio: F(C) / F(M).
        recovered: (F(C) - F(empty)) / (F(M) - F(empty)); NaN where no heads do as well as all.
        gap: |F(M) - F(C)| in logits, the measure of Wang et al.
        accuracy: share of prompts whose answer is right over wrong in the circuit.
        first: share of prompts whose right answer leads all candidates in the circuit.
    """

    name: str
    size: int
    model: Interval
    circuit: Interval
    empty: Interval
    ratio: Interval
    recovered: Interval
    gap: float
    accuracy: float
    first: float


@dataclass(frozen=True)
class Completeness:
    """F of circuit and model without the same sets of nodes.

    Attributes:
        sets: the sets K, by name.
        circuit, model: F(C without K) and F(M without K), one for each set, in logits.
        difference: the former less the latter, with its interval.
    """

    name: str
    sets: tuple[tuple[str, tuple[Node, ...]], ...]
    circuit: Array
    model: Array
    difference: Interval

    @property
    def worst(self) -> float:
        """The largest |F(C without K) - F(M without K)| found, in logits: a lower bound."""
        return float(np.abs(self.difference.value).max(initial=0.0))

    @property
    def worst_place(self) -> int:
        """Which of the sets that is."""
        return int(np.abs(self.difference.value).argmax())

    def to_frame(self) -> pd.DataFrame:
        """One line a set."""
        import pandas as pd

        return pd.DataFrame(
            {
                "without": [name for name, _ in self.sets],
                "nodes": [", ".join(map(node_name, nodes)) for _, nodes in self.sets],
                "circuit": self.circuit,
                "model": self.model,
                "gap": np.abs(self.difference.value),
                "difference": self.difference.value,
                "low": self.difference.low,
                "high": self.difference.high,
            }
        )


@dataclass(frozen=True)
class Minimality:
    """For each node the set K in whose absence it matters most.

    Attributes:
        change: F(C without K) - F(C without K and v), in logits; below 0 the node acts against the
            answer. interval: the same with its interval.
        share: |change| / |F(M)|; Wang et al. ask for at least .01.
    """

    name: str
    nodes: tuple[Node, ...]
    roles: tuple[str, ...]
    without: tuple[str, ...]
    change: Array
    share: Array
    interval: Interval

    def to_frame(self) -> pd.DataFrame:
        """One line a node, the least needed first."""
        import pandas as pd

        frame = pd.DataFrame(
            {
                "node": [node_name(node) for node in self.nodes],
                "role": self.roles,
                "without": self.without,
                "change": self.change,
                "share": self.share,
                "low": self.interval.low,
                "high": self.interval.high,
            }
        )
        return frame.sort_values("share", ignore_index=True)


def faithfulness(
    knockouts: Knockouts,
    circuits: Sequence[Circuit],
    *,
    on_step: OnStep | None = None,
    seed: int = 0,
) -> tuple[Faithfulness, ...]:
    """How much of the behaviour each circuit keeps, in one go.

    Raises:
        CircuitError: as `Knockouts.logit_differences`.

    Example:
        >>> from lens_core import HookedModel
        >>> from lens_core.circuits import Knockouts, ioi_dataset
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> knockouts = Knockouts(model, ioi_dataset(model, 8))
        >>> round(float(faithfulness(knockouts, [knockouts.whole])[0].ratio.value), 3)
        1.0
    """
    empties = [circuit.without(circuit.heads) for circuit in circuits]
    readings = knockouts.readings([*circuits, *empties], on_step=on_step)
    found, n = readings[knockouts.measure], len(circuits)
    whole, prompts = knockouts.model_differences, np.arange(len(knockouts.dataset))

    def interval(statistic: Callable[[Array], Any]) -> Interval:
        return over_documents(statistic, prompts, seed=seed)

    def one(circuit: Circuit, c: Array, e: Array, first: Array) -> Faithfulness:
        return Faithfulness(
            name=circuit.name,
            size=circuit.size,
            model=interval(lambda i: whole[i].mean()),
            circuit=interval(lambda i: c[i].mean()),
            empty=interval(lambda i: e[i].mean()),
            ratio=interval(lambda i: _share(c[i].mean(), whole[i].mean())),
            recovered=interval(
                lambda i: _share(c[i].mean() - e[i].mean(), whole[i].mean() - e[i].mean())
            ),
            gap=float(abs(whole.mean() - c.mean())),
            accuracy=float((c > 0).mean()),
            first=float(first.mean()),
        )

    each = zip(circuits, found[:n], found[n:], readings["first"][:n], strict=True)
    return tuple(one(*its) for its in each)


def score_table(scores: Iterable[Faithfulness]) -> pd.DataFrame:
    """Circuits side by side, the most faithful first and of equals the smaller: a leaderboard."""
    import pandas as pd

    rows = [
        {
            "circuit": s.name,
            "size": s.size,
            "logit_difference": float(s.circuit.value),
            "model": float(s.model.value),
            "ratio": float(s.ratio.value),
            "ratio_low": float(s.ratio.low),
            "ratio_high": float(s.ratio.high),
            "recovered": float(s.recovered.value),
            "gap": s.gap,
            "accuracy": s.accuracy,
            "first": s.first,
        }
        for s in scores
    ]
    return pd.DataFrame(rows).sort_values(["gap", "size"], ignore_index=True)


def completeness(
    knockouts: Knockouts,
    circuit: Circuit,
    *,
    n_random: int = 8,
    greedy_steps: int = 0,
    on_step: OnStep | None = None,
    seed: int = 0,
) -> Completeness:
    """Compare circuit and model without the empty set, each role, all of the circuit, random sets,
    and a greedy one.

    Args:
        n_random: how many random sets, each node in one with probability 1/2.
        greedy_steps: grow a set by the node that widens the gap most, so many times at most; each
            step runs twice as many circuits as there are nodes.

    Raises:
        CircuitError: an empty circuit; and as `Knockouts.logit_differences`.
    """
    sets = _sets(circuit, n_random, seed)
    if sum(bool(nodes) for nodes in circuit.roles.values()) > 1:
        sets.insert(1, ("the whole circuit", circuit.nodes))
    own, model = _both(knockouts, circuit, [nodes for _, nodes in sets], on_step)
    if greedy_steps:
        grown = _grow(knockouts, circuit, greedy_steps, on_step)
        sets.append(("greedy", grown))
        last = _both(knockouts, circuit, [grown], None)
        own, model = np.concatenate([own, last[0]]), np.concatenate([model, last[1]])
    return Completeness(
        circuit.name, tuple(sets), own.mean(axis=1), model.mean(axis=1), _mean(own - model, seed)
    )


def minimality(
    knockouts: Knockouts,
    circuit: Circuit,
    *,
    n_random: int = 4,
    by_role: bool = True,
    on_step: OnStep | None = None,
    seed: int = 0,
) -> Minimality:
    """Find for each node a set in whose absence it matters.

    The sets tried are the empty one, each role (the node's own too, less the node: its stand-ins),
    and random ones; a node that matters in none may matter in one that was not tried.

    Args:
        n_random: how many random sets; by_role: try the roles. With neither, what each node is
            worth to the circuit as it stands.

    Raises:
        CircuitError: an empty circuit; and as `Knockouts.logit_differences`.
    """
    sets = [s for s in _sets(circuit, n_random, seed) if by_role or not s[0].startswith("all ")]
    nodes = circuit.nodes
    tried = [[[n for n in gone if n != node] for _, gone in sets] for node in nodes]
    pairs = [
        c
        for node, ks in zip(nodes, tried, strict=True)
        for k in ks
        for c in (circuit.without(k), circuit.without([*k, node]))
    ]
    found = knockouts.logit_differences(pairs, on_step=on_step)
    change = (found[0::2] - found[1::2]).reshape(len(nodes), len(sets), -1)
    best = np.abs(change.mean(axis=2)).argmax(axis=1)
    strongest = _mean(change[np.arange(len(nodes)), best], seed)
    return Minimality(
        name=circuit.name,
        nodes=nodes,
        roles=tuple(circuit.role_of(node) for node in nodes),
        without=tuple(sets[i][0] for i in best),
        change=strongest.value,
        share=np.abs(strongest.value) / abs(knockouts.model_differences.mean()),
        interval=strongest,
    )


Sets = list[tuple[str, tuple[Node, ...]]]


def _sets(circuit: Circuit, n_random: int, seed: int) -> Sets:
    """The empty set, each role, and random ones."""
    if not circuit.nodes:
        raise CircuitError(f"{circuit.name!r} has no nodes to judge; tick at least one.")
    roles = [(f"all {role}", nodes) for role, nodes in circuit.roles.items() if nodes]
    rng = random.Random(seed)
    drawn = [
        (f"random {i}", tuple(node for node in circuit.nodes if rng.random() < 0.5))
        for i in range(n_random)
    ]
    return [("nothing", ()), *roles, *drawn]


def _both(
    knockouts: Knockouts,
    circuit: Circuit,
    sets: Sequence[Sequence[Node]],
    on_step: OnStep | None,
) -> tuple[Array, Array]:
    """Circuit and model without each of the sets, [set, prompt] each."""
    pairs = [
        c for k in sets for c in (circuit.without(k), knockouts.whole_with(circuit).without(k))
    ]
    found = knockouts.logit_differences(pairs, on_step=on_step)
    return found[0::2], found[1::2]


def _grow(
    knockouts: Knockouts, circuit: Circuit, steps: int, on_step: OnStep | None
) -> tuple[Node, ...]:
    """The set that greed finds: the node that widens the gap most, again and again."""
    grown: list[Node] = []
    widest = 0.0
    for _ in range(min(steps, circuit.size)):
        left = [node for node in circuit.nodes if node not in grown]
        own, model = _both(knockouts, circuit, [[*grown, node] for node in left], on_step)
        gaps = np.abs((own - model).mean(axis=1))
        if gaps.max() <= widest:
            break
        widest = float(gaps.max())
        grown.append(left[int(gaps.argmax())])
    return sorted_nodes(grown)


def _mean(values: Array, seed: int) -> Interval:
    """Means over prompts, [..., prompt] to [...], with their intervals."""
    return mean_over_documents(values, np.arange(values.shape[-1]), seed=seed)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
