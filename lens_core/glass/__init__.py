"""Models built by hand, whose circuits are known, and every number of one forward pass explained.

from lens_core.glass import explain, forward_steps, glass_model
model = glass_model()                                   # or from_pretrained("glass-copy")
steps = forward_steps(model, "ant bee cat ant")
print(explain(model, steps, "pattern.1", position=4, column=2))
"""

from lens_core.glass.arithmetic import Arithmetic, explain
from lens_core.glass.copying import glass_model
from lens_core.glass.facts import facts_model
from lens_core.glass.forward import ForwardSteps, Step, forward_steps
from lens_core.glass.induction import induction_model
from lens_core.glass.lookup import lookup_model
from lens_core.glass.weights import (
    WeightEdit,
    format_edits,
    parse_edits,
    weight_of,
    with_edits,
    with_weight,
)

__all__ = [
    "Arithmetic",
    "ForwardSteps",
    "Step",
    "WeightEdit",
    "explain",
    "facts_model",
    "format_edits",
    "forward_steps",
    "glass_model",
    "induction_model",
    "lookup_model",
    "parse_edits",
    "weight_of",
    "with_edits",
    "with_weight",
]
