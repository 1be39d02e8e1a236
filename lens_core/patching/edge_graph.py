"""The graph of parts that read and write the residual stream, and scores on its edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lens_core.patching.errors import PatchingError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

Array = np.ndarray[Any, Any]
# Sender and receiver by name: ("0.3", "mlp 1"), ("embed", "2.0.k"), ("mlp 7", "logits").
Edge = tuple[str, str]
_NEEDED = ("resid_pre", "q", "k", "v", "z", "mlp_out", "resid_post")


@dataclass(frozen=True, eq=False)
class EdgeGraph:
    """Every part that writes into the residual stream, and every input that reads from it.

    Attributes:
        senders: "embed", and by layer the heads "2.0" and the MLP "mlp 2".
        receivers: by layer each head's query, key and value ("2.0.q"; of grouped queries one key
            and value for each key-value head) and the MLP; at the end "logits".
        exists: [sender, receiver], whether the receiver comes after the sender.
    """

    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    exists: Array
    _layers: dict[str, int]
    _parallel: tuple[bool, ...]

    @classmethod
    def of(cls, model: HookedModel) -> EdgeGraph:
        """The graph of a model.

        Raises:
            PatchingError: its blocks do not let heads and MLPs be told apart, or put a norm between
                them and the residual stream, so that what one part adds is not its own.
        """
        cfg, spec = model.cfg, model.spec
        _check(model)
        senders, receivers, layers = ["embed"], [], {"embed": -1, "logits": cfg.n_layers}
        exists = np.zeros((1 + cfg.n_layers * (cfg.n_heads + 1), 0), dtype=bool)
        for layer in range(cfg.n_layers):
            n_before = len(senders)
            heads = [f"{layer}.{head}" for head in range(cfg.n_heads)]
            keys = [f"{layer}.{head}" for head in range(cfg.n_kv_heads)]
            inputs = [f"{h}.q" for h in heads] + [f"{h}.{x}" for x in "kv" for h in keys]
            senders += [*heads, f"mlp {layer}"]
            receivers += [*inputs, f"mlp {layer}"]
            layers |= dict.fromkeys((*heads, *inputs, f"mlp {layer}"), layer)
            block = np.zeros((len(exists), len(inputs) + 1), dtype=bool)
            block[:n_before] = True
            if not spec.layers[layer].parallel:
                block[: n_before + cfg.n_heads, -1] = True
            exists = np.concatenate([exists, block], axis=1)
        exists = np.concatenate([exists, np.ones((len(exists), 1), dtype=bool)], axis=1)
        parallel = tuple(layer.parallel for layer in spec.layers)
        return cls(tuple(senders), (*receivers, "logits"), exists, layers, parallel)

    @property
    def n_edges(self) -> int:
        """How many edges there are."""
        return int(self.exists.sum())

    def parallel(self, layer: int) -> bool:
        """Whether the MLP of a layer reads what its attention reads."""
        return self._parallel[layer]

    def layer_of(self, name: str) -> int:
        """A node's layer; -1 for embed, the number of layers for logits."""
        return self._layers[name]

    def input_of(self, receiver: str) -> tuple[str, int | None]:
        """The site that a receiver's reading decides, and its head.

        >>> EdgeGraph.input_of(None, "2.0.k"), EdgeGraph.input_of(None, "mlp 2")
        (('k', 0), ('mlp_out', None))
        """
        if receiver.startswith("mlp"):
            return "mlp_out", None
        _, head, site = receiver.split(".")
        return site, int(head)

    def check(self, edge: Edge) -> None:
        """Raise PatchingError if there is no such edge."""
        sender, receiver = edge
        if (
            sender not in self.senders
            or receiver not in self.receivers
            or not self.exists[self.senders.index(sender), self.receivers.index(receiver)]
        ):
            raise PatchingError(
                f"There is no edge from {sender!r:.20} to {receiver!r:.20}; an edge goes from an "
                f"earlier part to a later one, as from {self.senders[1]!r} to "
                f"{self.receivers[-2]!r}."
            )


@dataclass(frozen=True, eq=False)
class EdgeAttribution:
    """The estimated effect of every edge.

    Attributes:
        values: [sender, receiver, pair], change of the metric if the edge carried what it carries
            in the corrupted run; NaN where there is no edge.
        ig_steps: gradients averaged; 1 is EAP, more EAP-IG.
    """

    model_name: str
    graph: EdgeGraph
    metric: str
    unit: str
    ig_steps: int
    values: Array

    @property
    def scores(self) -> Array:
        """[sender, receiver], means over pairs."""
        return np.asarray(self.values.mean(-1))

    def score(self, edge: Edge) -> float:
        """One edge's score. Raises PatchingError if there is no such edge."""
        self.graph.check(edge)
        graph = self.graph
        return float(self.scores[graph.senders.index(edge[0]), graph.receivers.index(edge[1])])

    def top(self, n: int) -> tuple[Edge, ...]:
        """The edges with the largest scores, signs aside, the largest first."""
        return self._edges(self._order()[:n])

    def random(self, n: int, seed: int = 0) -> tuple[Edge, ...]:
        """Edges drawn at random, to see what the estimate is worth away from the top."""
        order = self._order()
        drawn = np.random.default_rng(seed).choice(len(order), min(n, len(order)), replace=False)
        return self._edges(order[drawn])

    def to_frame(self) -> pd.DataFrame:
        """One line an edge, the largest score first, signs aside."""
        import pandas as pd

        order = self._order()
        edges = self._edges(order)
        return pd.DataFrame(
            {
                "sender": [sender for sender, _ in edges],
                "receiver": [receiver for _, receiver in edges],
                "score": self.scores.ravel()[order],
                "sd_over_pairs": self.values.std(-1).ravel()[order],
            }
        )

    def _order(self) -> Array:
        flat = np.nan_to_num(np.abs(self.scores), nan=-1.0).ravel()
        return np.argsort(-flat, kind="stable")[: self.graph.n_edges]

    def _edges(self, places: Sequence[int] | Array) -> tuple[Edge, ...]:
        graph, width = self.graph, len(self.graph.receivers)
        return tuple((graph.senders[i // width], graph.receivers[i % width]) for i in places)


def _check(model: HookedModel) -> None:
    for layer, spec in enumerate(model.spec.layers):
        for site in _NEEDED if spec.parallel else (*_NEEDED, "resid_mid"):
            if not model.has_site(site, layer):
                raise PatchingError(
                    f"Edges need {site} in layer {layer}, which {model.cfg.name} has not: "
                    f"{model.why_missing(site, layer)}."
                )
        if spec.attn_out not in (spec.w_o, spec.attn):
            raise PatchingError(
                f"{model.cfg.name} has a norm between its heads and the residual stream, so what "
                "one head adds depends on the others; patch its nodes instead of edges."
            )
