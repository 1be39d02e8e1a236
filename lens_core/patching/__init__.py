"""Patching: put an activation of one run into another, and see what the answer does."""

from lens_core.patching.alignment import PromptPair, prompt_pair
from lens_core.patching.attribution_patching import (
    Verification,
    attribution_patching,
    verify,
)
from lens_core.patching.base import Base, record_base
from lens_core.patching.cells import Cell, Write
from lens_core.patching.edge_graph import Edge, EdgeAttribution, EdgeGraph
from lens_core.patching.edges import edge_attribution, edge_effects
from lens_core.patching.engine import run_cells
from lens_core.patching.errors import AlignmentError, PatchingError
from lens_core.patching.metrics import (
    METRICS,
    Answers,
    Metric,
    as_metric,
    kl,
    log_probability,
    logit,
    logit_difference,
    probability,
    rank,
)
from lens_core.patching.path_result import PathResult
from lens_core.patching.paths import path_patching
from lens_core.patching.result import SweepResult
from lens_core.patching.sweeps import sweep
from lens_core.patching.wires import WireEffects, head_inputs, senders_before, wire_effects

__all__ = [
    "METRICS",
    "AlignmentError",
    "Answers",
    "Base",
    "Cell",
    "Edge",
    "EdgeAttribution",
    "EdgeGraph",
    "Metric",
    "PatchingError",
    "PathResult",
    "PromptPair",
    "SweepResult",
    "Verification",
    "WireEffects",
    "Write",
    "as_metric",
    "attribution_patching",
    "edge_attribution",
    "edge_effects",
    "head_inputs",
    "kl",
    "log_probability",
    "logit",
    "logit_difference",
    "path_patching",
    "probability",
    "prompt_pair",
    "rank",
    "record_base",
    "run_cells",
    "senders_before",
    "sweep",
    "verify",
    "wire_effects",
]
