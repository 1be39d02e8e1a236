"""Causal tracing: where a fact passes on its way from the subject to the answer."""

from lens_core.tracing.average import average_trace, summarise
from lens_core.tracing.corruption import (
    Corruption,
    GaussianNoise,
    TokenReplacement,
    embedding_std,
)
from lens_core.tracing.errors import TracingError
from lens_core.tracing.maps import default_window, window_layers
from lens_core.tracing.result import (
    ROLES,
    AverageTrace,
    CausalTrace,
    Direction,
    Estimate,
    TraceKind,
)
from lens_core.tracing.subject import TracePrompt, control_span, locate
from lens_core.tracing.trace import KINDS, causal_trace

__all__ = [
    "KINDS",
    "ROLES",
    "AverageTrace",
    "CausalTrace",
    "Corruption",
    "Direction",
    "Estimate",
    "GaussianNoise",
    "TokenReplacement",
    "TraceKind",
    "TracePrompt",
    "TracingError",
    "average_trace",
    "causal_trace",
    "control_span",
    "default_window",
    "embedding_std",
    "locate",
    "summarise",
    "window_layers",
]
