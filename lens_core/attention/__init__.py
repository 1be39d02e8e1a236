"""Attention heads: what they look at, what they do, what their weights would make them do."""

from lens_core.attention.circuits import OVPromoted, QKAttended, ov_promoted, qk_attended
from lens_core.attention.composition import CompositionScores, composition_scores
from lens_core.attention.copying import (
    CopyingDirect,
    CopyingEigenvalues,
    copying_direct,
    copying_eigenvalues,
)
from lens_core.attention.induction import InductionCurve, LossCurve, induction_curve
from lens_core.attention.kinds import KINDS, WEIGHT_SCORES, ScoreKind
from lens_core.attention.patterns import (
    AttentionResult,
    MeanAttention,
    mean_attention,
    read_attention,
    strongest_edges,
)
from lens_core.attention.query_key import QueryKey, query_key
from lens_core.attention.scores import (
    ALL,
    PATTERN_SCORES,
    HeadScore,
    HeadScores,
    head_scores,
)
from lens_core.attention.sequences import largest_half, repeated_random_tokens
from lens_core.attention.twin import random_twin

__all__ = [
    "ALL",
    "KINDS",
    "PATTERN_SCORES",
    "WEIGHT_SCORES",
    "AttentionResult",
    "CompositionScores",
    "CopyingDirect",
    "CopyingEigenvalues",
    "HeadScore",
    "HeadScores",
    "InductionCurve",
    "LossCurve",
    "MeanAttention",
    "OVPromoted",
    "QKAttended",
    "QueryKey",
    "ScoreKind",
    "composition_scores",
    "copying_direct",
    "copying_eigenvalues",
    "head_scores",
    "induction_curve",
    "largest_half",
    "mean_attention",
    "ov_promoted",
    "qk_attended",
    "query_key",
    "random_twin",
    "read_attention",
    "repeated_random_tokens",
    "strongest_edges",
]
