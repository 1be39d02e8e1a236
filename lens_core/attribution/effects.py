"""What an ablation or a blocked edge did: the answer before and after, and through which path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from lens_core.attribution.result import Array, Question

if TYPE_CHECKING:
    import pandas as pd

AblationKind = Literal["zero", "mean", "resample"]
# (3, 1): head 1 of layer 3; (3, "mlp"): its MLP; (3, "attn"): its whole attention.
PartName = tuple[int, int | Literal["mlp", "attn"]]


@dataclass(frozen=True)
class Prediction:
    """The next-token prediction at the question's position.

    ``value`` is the question's logit or logit difference, ``rank`` counts from 1.
    """

    value: float
    target_prob: float
    target_rank: int
    top_ids: tuple[int, ...]
    top_texts: tuple[str, ...]
    top_probs: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Ablation:
    """One question before and after parts were ablated. Effects are after minus before, in logits.

    ``total_effect`` is the change of the model's own number. ``direct_effect`` is what these parts
    alone no longer write, everything else and the final norm's scale as they were;
    ``indirect_effect`` is the rest: what later parts make of it, and the norm's new scale.
    ``direct_effect_renormed`` is the direct effect with the final norm's scale computed anew (and
    the soft-cap applied), which tells the two apart. Of a resample ablation all figures, and the
    probabilities after it, are means over ``draws``.
    """

    question: Question
    kind: AblationKind
    parts: tuple[PartName, ...]
    positions: tuple[int, ...] | None  # None: every position
    before: Prediction
    after: Prediction
    direct_effect: float
    direct_effect_renormed: float
    kl_nats: float  # KL(before || after) of the whole next-token distribution
    draws: Array  # [n] total effect of each draw; one for zero and mean
    seed: int

    @property
    def total_effect(self) -> float:
        """The value after minus the value before."""
        return self.after.value - self.before.value

    @property
    def indirect_effect(self) -> float:
        """The total effect less the direct one."""
        return self.total_effect - self.direct_effect

    def to_frame(self) -> pd.DataFrame:
        """One line a figure."""
        import pandas as pd

        rows = {
            "value before": (self.before.value, "logits"),
            "value after": (self.after.value, "logits"),
            "total effect": (self.total_effect, "logits"),
            "direct effect": (self.direct_effect, "logits"),
            "indirect effect": (self.indirect_effect, "logits"),
            "direct effect, norm computed anew": (self.direct_effect_renormed, "logits"),
            "KL(before || after)": (self.kl_nats, "nats"),
            "target probability before": (self.before.target_prob, ""),
            "target probability after": (self.after.target_prob, ""),
        }
        return pd.DataFrame(
            [(name, value, unit) for name, (value, unit) in rows.items()],
            columns=["figure", "value", "unit"],
        )


@dataclass(frozen=True, eq=False)
class HeadEffects:
    """Every head ablated in turn: effects on one question, after minus before, in logits.

    NaN where a layer has no heads that can be ablated.
    """

    question: Question
    kind: AblationKind
    value: float
    total_effect: Array  # [n_layers, n_heads]
    direct_effect: Array  # [n_layers, n_heads]
    kl_nats: Array  # [n_layers, n_heads]
    seed: int

    @property
    def indirect_effect(self) -> Array:
        """The total effect less the direct one, [n_layers, n_heads]."""
        return np.asarray(self.total_effect - self.direct_effect)

    def to_frame(self) -> pd.DataFrame:
        """One line a head."""
        import pandas as pd

        layer, head = (i.ravel() for i in np.indices(self.total_effect.shape))
        return pd.DataFrame(
            {
                "layer": layer,
                "head": head,
                "total_effect_logits": self.total_effect.ravel(),
                "direct_effect_logits": self.direct_effect.ravel(),
                "indirect_effect_logits": self.indirect_effect.ravel(),
                "kl_nats": self.kl_nats.ravel(),
            }
        )


@dataclass(frozen=True, eq=False)
class InterventionEffect:
    """One question with and without interventions, and how much every head's attention moved.

    ``pattern_change[l, h]`` is half the L1 distance between the head's attention row of the
    question's position before and after (0: the same, 1: nothing in common); ``pattern_change_max``
    is the largest over all rows.
    """

    question: Question
    before: Prediction
    after: Prediction
    kl_nats: float
    pattern_change: Array  # [n_layers, n_heads]
    pattern_change_max: Array  # [n_layers, n_heads]

    @property
    def total_effect(self) -> float:
        """The value after minus the value before."""
        return self.after.value - self.before.value

    def to_frame(self) -> pd.DataFrame:
        """One line a head: how much its attention moved."""
        import pandas as pd

        layer, head = (i.ravel() for i in np.indices(self.pattern_change.shape))
        return pd.DataFrame(
            {
                "layer": layer,
                "head": head,
                "pattern_change": self.pattern_change.ravel(),
                "pattern_change_max": self.pattern_change_max.ravel(),
            }
        )
