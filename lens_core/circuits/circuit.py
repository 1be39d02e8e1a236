"""A circuit: the heads (and MLPs) that are said to do a task, by role.

circuit = Circuit.of("mine", {"name mover": [(9, 9), (10, 0)]})
circuit.without([(9, 9)]).heads
load_circuit("gpt2-ioi").roles["S-inhibition"]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_core.circuits.errors import CircuitError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

# A head is (layer, head), an MLP (layer, None).
Node = tuple[int, int | None]
_FOLDER = Path(__file__).parent / "data"
_HEAD = re.compile(r"L?(\d{1,3})[.H](\d{1,3})", re.IGNORECASE)
_MLP = re.compile(r"mlp(\d{1,3})", re.IGNORECASE)


def node_name(node: Node) -> str:
    """How a node is shown.

    >>> node_name((9, 6)), node_name((3, None))
    ('L9H6', 'MLP 3')
    """
    layer, head = node
    return f"MLP {layer}" if head is None else f"L{layer}H{head}"


def named_nodes(text: str) -> tuple[Node, ...]:
    """The nodes that a text names, each once: heads as L9H6 or 9.6, MLPs as MLP3.

    Raises CircuitError for a word that names none.

    >>> named_nodes("10.0, L9H6 mlp 3")
    ((3, None), (9, 6), (10, 0))
    """
    words = re.split(r"[\s,;]+", re.sub(r"(?i)\bmlp\s+(?=\d)", "mlp", text).strip())
    return sorted_nodes({_named(word) for word in words if word})


def nodes_text(nodes: Iterable[Node]) -> str:
    """As `named_nodes` reads it.

    >>> nodes_text([(9, 6), (3, None)])
    'MLP3 L9H6'
    """
    return " ".join(node_name(node).replace(" ", "") for node in sorted_nodes(nodes))


@dataclass(frozen=True)
class Circuit:
    """Nodes that are kept while all others are knocked out.

    Attributes:
        roles: the nodes, by what they are said to do; each node has one role.
        all_mlps: keep every MLP, as Wang et al. 2022 do; else only those among the nodes.
        positions: for some roles the named positions of the dataset at which their nodes are kept;
            elsewhere, and for roles not listed, a node is kept everywhere.
        model, task, source: what it is a circuit of, and who says so.
        evidence: figures that were measured when it was found, as plain data.
    """

    name: str
    roles: Mapping[str, tuple[Node, ...]]
    all_mlps: bool = True
    positions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    model: str = ""
    task: str = ""
    source: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nodes = [node for role in self.roles.values() for node in role]
        if len(nodes) != len(set(nodes)):
            twice = next(node for node in nodes if nodes.count(node) > 1)
            raise CircuitError(f"{node_name(twice)} has two roles in {self.name!r}; give it one.")
        unknown = set(self.positions) - set(self.roles)
        if unknown:
            raise CircuitError(f"{self.name!r} has positions for {unknown}, which are no roles.")

    @classmethod
    def of(
        cls,
        name: str,
        nodes: Mapping[str, Iterable[Node]] | Iterable[Node],
        *,
        all_mlps: bool = True,
    ) -> Circuit:
        """A circuit of nodes by role, or of nodes without one.

        >>> Circuit.of("two", [(0, 1), (2, 3)]).size
        2
        """
        roles = nodes if isinstance(nodes, Mapping) else {"node": nodes}
        return cls(name, {role: tuple(sorted_nodes(own)) for role, own in roles.items()}, all_mlps)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, by layer."""
        return sorted_nodes(node for role in self.roles.values() for node in role)

    @property
    def heads(self) -> tuple[Node, ...]:
        """The heads among them."""
        return tuple(node for node in self.nodes if node[1] is not None)

    @property
    def size(self) -> int:
        """How many nodes, MLPs that are kept anyway not counted."""
        return len(self.nodes)

    @property
    def kept(self) -> tuple[Any, ...]:
        """What is kept and where, as a key: circuits that differ in names alone have the same."""
        where = frozenset(
            (node, self.positions[role])
            for role, nodes in self.roles.items()
            for node in nodes
            if role in self.positions
        )
        return self.nodes, self.all_mlps, where

    def role_of(self, node: Node) -> str:
        """What a node is said to do. Raises CircuitError for one that is not in the circuit."""
        for role, nodes in self.roles.items():
            if node in nodes:
                return role
        raise CircuitError(f"{node_name(node)} is not in {self.name!r}.")

    def without(self, nodes: Iterable[Node], name: str | None = None) -> Circuit:
        """The circuit without some of its nodes; those that are not in it are passed over."""
        gone = set(nodes)
        roles = {
            role: tuple(node for node in own if node not in gone)
            for role, own in self.roles.items()
        }
        return replace(self, name=name or self.name, roles=roles)

    def check(self, model: HookedModel) -> None:
        """Raise CircuitError if the model lacks one of the nodes."""
        cfg = model.cfg
        for layer, head in self.nodes:
            if not 0 <= layer < cfg.n_layers or not (head is None or 0 <= head < cfg.n_heads):
                raise CircuitError(
                    f"{cfg.name} has no {node_name((layer, head))}; it has {cfg.n_layers} layers "
                    f"of {cfg.n_heads} heads. This is a circuit of {self.model or 'another model'}."
                )

    def to_frame(self) -> pd.DataFrame:
        """One line a node."""
        import pandas as pd

        rows = [
            (node_name(node), *node, role, ", ".join(self.positions.get(role, ("all",))))
            for role, nodes in self.roles.items()
            for node in nodes
        ]
        return pd.DataFrame(rows, columns=["node", "layer", "head", "role", "positions"])

    def to_json(self) -> str:
        """As text that `from_json` reads."""
        data = {
            "name": self.name,
            "model": self.model,
            "task": self.task,
            "source": self.source,
            "all_mlps": self.all_mlps,
            "roles": {role: [list(node) for node in own] for role, own in self.roles.items()},
            "positions": {role: list(own) for role, own in self.positions.items()},
            "evidence": dict(self.evidence),
        }
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Circuit:
        """A circuit from the text that `to_json` writes.

        Raises:
            CircuitError: the text is none.
        """
        try:
            data = json.loads(text)
            return cls(
                name=str(data["name"]),
                roles={
                    str(role): tuple(_node(pair) for pair in own)
                    for role, own in data["roles"].items()
                },
                all_mlps=bool(data["all_mlps"]),
                positions={str(k): tuple(map(str, v)) for k, v in data["positions"].items()},
                model=str(data["model"]),
                task=str(data["task"]),
                source=str(data["source"]),
                evidence=dict(data["evidence"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CircuitError(f"This is no circuit: {error!s:.80}.") from error


def sorted_nodes(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """By layer, heads before the MLP, as they act."""
    return tuple(sorted(nodes, key=lambda node: (node[0], node[1] is None, node[1] or 0)))


def every_node(model: HookedModel, *, mlps: bool = False) -> tuple[Node, ...]:
    """All heads of a model, and its MLPs on request."""
    cfg = model.cfg
    heads = [(layer, head) for layer in range(cfg.n_layers) for head in range(cfg.n_heads)]
    return sorted_nodes([*heads, *((layer, None) for layer in range(cfg.n_layers) if mlps)])


def circuit_names() -> tuple[str, ...]:
    """The circuits that come with the library."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def load_circuit(name: str) -> Circuit:
    """A circuit that comes with the library, by name.

    Raises:
        CircuitError: there is none of that name.

    >>> load_circuit("gpt2-ioi").size
    26
    """
    if name not in circuit_names():
        raise CircuitError(f"There is no circuit {name!r:.60}; try {', '.join(circuit_names())}.")
    return Circuit.from_json((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def _named(word: str) -> Node:
    head, mlp = _HEAD.fullmatch(word), _MLP.fullmatch(word)
    if head is not None:
        return int(head[1]), int(head[2])
    if mlp is not None:
        return int(mlp[1]), None
    raise CircuitError(f"{word[:20]!r} is no node; name heads as L9H6, and MLPs as MLP3.")


def _node(pair: Any) -> Node:
    layer, head = pair
    return int(layer), None if head is None else int(head)
