"""What wrote an answer: the parts of one logit (or logit difference), and how well they add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]
PartKind = Literal[
    "embed",
    "pos_embed",
    "head",
    "attn_bias",
    "attn",
    "mlp",
    "block",
    "edit",
    "norm_bias",
    "unembed_bias",
    "soft_cap",
]


@dataclass(frozen=True)
class Part:
    """One summand of a logit, in logits.

    Kinds: ``embed`` and ``pos_embed`` (the token's and the position's embedding), ``head``,
    ``attn_bias`` (what attention adds whatever it attends to), ``attn`` (a whole attention layer,
    where heads cannot be told apart), ``mlp``, ``block`` (where not even attention and MLP can),
    ``edit`` (what interventions put into the residual stream), and what no part of the network
    writes: ``norm_bias`` (of the final norm), ``unembed_bias``, and ``soft_cap`` (the logit after
    the final soft-cap minus the one before it).
    """

    kind: PartKind
    layer: int | None
    head: int | None
    value: float

    @property
    def label(self) -> str:
        """``embed``, ``L3H1``, ``attn 3 bias``, ``mlp 3``, ..."""
        if self.kind == "head":
            return f"L{self.layer}H{self.head}"
        if self.kind == "attn_bias":
            return f"attn {self.layer} bias"
        name = self.kind.replace("_", " ")
        return name if self.layer is None else f"{name} {self.layer}"

    @property
    def component(self) -> str:
        """The coarser component that this is a part of: ``attn 3`` for a head and for its bias."""
        return f"attn {self.layer}" if self.kind in ("head", "attn_bias") else self.label


@dataclass(frozen=True)
class Question:
    """Which number was taken apart: a target's logit, or its difference to a foil's, and where."""

    model_name: str
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    position: int  # counted from the start
    target_id: int
    target_text: str
    foil_id: int | None = None
    foil_text: str | None = None

    @property
    def label(self) -> str:
        """``logit of ' Paris'``, or ``logit of ' Paris' minus logit of ' Rome'``."""
        target = f"logit of {self.target_text!r}"
        return target if self.foil_id is None else f"{target} minus logit of {self.foil_text!r}"


@dataclass(frozen=True)
class DirectAttribution:
    """The parts of one logit or logit difference.

    ``value`` is the model's own number. ``parts`` are in the order in which they are written; their
    sum is ``total``, and ``residual`` is what they leave unexplained. ``norm_scale`` is what the
    final norm divided by, held fixed.
    """

    question: Question
    n_layers: int
    n_heads: int
    parts: tuple[Part, ...]
    value: float
    norm_scale: float
    tolerance: float

    @property
    def total(self) -> float:
        """The sum of the parts."""
        return float(sum(part.value for part in self.parts))

    @property
    def residual(self) -> float:
        """The true value minus the sum of the parts."""
        return self.value - self.total

    @property
    def relative_residual(self) -> float:
        """The residual's size relative to the value, or to the largest component if larger.

        The second because parts that cancel leave a difference near zero, and rounding with it.
        """
        return relative(self.residual, self.value, self.by_component.values())

    @property
    def ok(self) -> bool:
        """The parts sum to the true value: within 1e-4, within 2e-2 in half precision."""
        return self.relative_residual <= self.tolerance

    @property
    def by_component(self) -> dict[str, float]:
        """``embed``, ``pos embed``, ``attn 0``, ``mlp 0``, ... and what each writes, in order."""
        found: dict[str, float] = {}
        for part in self.parts:
            found[part.component] = found.get(part.component, 0.0) + part.value
        return found

    @property
    def by_layer(self) -> Array:
        """What each block writes, attention and MLP together: float64 [n_layers]."""
        values = np.zeros(self.n_layers)
        for part in self.parts:
            if part.layer is not None:
                values[part.layer] += part.value
        return values

    @property
    def by_head(self) -> Array:
        """What each head writes, float64 [n_layers, n_heads]; NaN where heads are unknown."""
        values = np.full((self.n_layers, self.n_heads), np.nan)
        for part in self.parts:
            if part.kind == "head":
                values[part.layer, part.head] = part.value
        return values

    def to_frame(self) -> pd.DataFrame:
        """One line a part: label, component, kind, layer, head, value (in logits)."""
        import pandas as pd

        return pd.DataFrame(
            {
                "part": [part.label for part in self.parts],
                "component": [part.component for part in self.parts],
                "kind": [part.kind for part in self.parts],
                "layer": pd.array([part.layer for part in self.parts], dtype="Int64"),
                "head": pd.array([part.head for part in self.parts], dtype="Int64"),
                "value_logits": [part.value for part in self.parts],
            }
        )


@dataclass(frozen=True, eq=False)
class SourceAttribution:
    """One head's part, by the token that it took it from.

    ``values[s]`` is pattern x value x output of source s, in logits; they sum to the head's part
    ``value``. ``weights`` is the head's attention from the position to each source.
    """

    question: Question
    layer: int
    head: int
    values: Array  # [T]; zero after the position
    weights: Array  # [T]
    value: float

    @property
    def residual(self) -> float:
        """The head's part minus the sum over sources; not rounding only if the head was edited."""
        return self.value - float(self.values.sum())

    @property
    def relative_residual(self) -> float:
        """The residual's size relative to the head's part, or to the largest source if larger."""
        return relative(self.residual, self.value, self.values)

    def to_frame(self) -> pd.DataFrame:
        """One line a source token: position, token, attention weight, value (in logits)."""
        import pandas as pd

        return pd.DataFrame(
            {
                "position": np.arange(len(self.values)),
                "token": self.question.tokens,
                "attention": self.weights,
                "value_logits": self.values,
            }
        )


@dataclass(frozen=True, eq=False)
class NeuronAttribution:
    """One MLP's part, by neuron: the k that write most, up or down, and the sum of the others.

    Strongest first. ``values`` + ``others`` + ``bias`` sum to the MLP's part ``value``.
    """

    question: Question
    layer: int
    neurons: Array  # [k] indices
    values: Array  # [k] logits
    activations: Array  # [k]
    others: float
    n_others: int
    bias: float
    value: float

    @property
    def residual(self) -> float:
        """The MLP's part minus neurons, others and bias; not rounding only if it was edited."""
        return self.value - float(self.values.sum()) - self.others - self.bias

    @property
    def relative_residual(self) -> float:
        """The residual's size relative to the MLP's part, or to the largest term if larger."""
        return relative(self.residual, self.value, (*self.values, self.others, self.bias))

    def to_frame(self) -> pd.DataFrame:
        """One line a neuron, then one for the others and one for the bias."""
        import pandas as pd

        return pd.DataFrame(
            {
                "neuron": [*map(str, self.neurons), f"{self.n_others} others", "bias"],
                "activation": [*self.activations, np.nan, np.nan],
                "value_logits": [*self.values, self.others, self.bias],
            }
        )


@dataclass(frozen=True, eq=False)
class Accumulated:
    """The value along the residual stream: after the embedding, after each attention, each MLP.

    ``frozen`` divides every state by the last state's norm, so that steps are the parts of the
    direct attribution; ``own_norm`` reads every state through its own norm, which is the logit
    lens. Both end at the model's own value (``frozen`` before the soft-cap, where there is one).
    """

    question: Question
    labels: tuple[str, ...]  # "embed", "attn 0", "mlp 0", ...; "block 0" in parallel blocks
    layers: tuple[int, ...]  # -1 for the embedding
    frozen: Array  # [R] logits
    own_norm: Array  # [R] logits
    target_probs: Array  # [R] probability of the target through the state's own norm
    value: float

    @property
    def steps(self) -> Array:
        """What each step adds to ``frozen``; the first holds the biases too, [R]."""
        return np.diff(self.frozen, prepend=0.0)

    def to_frame(self) -> pd.DataFrame:
        """One line a state."""
        import pandas as pd

        return pd.DataFrame(
            {
                "after": self.labels,
                "layer": self.layers,
                "frozen_norm_logits": self.frozen,
                "own_norm_logits": self.own_norm,
                "target_prob": self.target_probs,
            }
        )


def relative(residual: float, value: float, parts: Any) -> float:
    """A residual relative to the value, or to the largest part if that is larger."""
    scale = max(abs(value), max((abs(float(part)) for part in parts), default=0.0))
    return abs(residual) / scale if scale else abs(residual)
