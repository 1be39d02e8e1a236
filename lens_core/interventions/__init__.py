"""Edits of a run as data: frozen, named, composable, saved as JSON.

    edits = [zero("z", 3, heads=[1]), patch("resid_pre", 2, cache, positions=[5])]
    logits = model.run(tokens, interventions=edits)

Several interventions apply in the order in which they are listed. One that cannot apply raises
`InterventionError` before the run; one that applied nowhere raises `InterventionNotAppliedError`
after it.
"""

from lens_core.interventions.edit import Intervention
from lens_core.interventions.ops import (
    add,
    custom,
    low_rank,
    mean,
    noise,
    patch,
    project_out,
    resample,
    scale,
    set_to,
    steer,
    zero,
)
from lens_core.interventions.serialise import from_json, to_json

__all__ = [
    "Intervention",
    "add",
    "custom",
    "from_json",
    "low_rank",
    "mean",
    "noise",
    "patch",
    "project_out",
    "resample",
    "scale",
    "set_to",
    "steer",
    "to_json",
    "zero",
]
