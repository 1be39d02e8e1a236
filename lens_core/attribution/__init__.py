"""Attribution: which parts of the model wrote an answer, and what happens without them."""

from lens_core.attribution.ablation import ablate
from lens_core.attribution.accumulate import accumulated
from lens_core.attribution.direct import direct_logit_attribution
from lens_core.attribution.each_head import ablate_each_head
from lens_core.attribution.edges import block_attention, intervention_effect
from lens_core.attribution.effects import (
    Ablation,
    AblationKind,
    HeadEffects,
    InterventionEffect,
    PartName,
    Prediction,
)
from lens_core.attribution.errors import AblationError, AttributionError
from lens_core.attribution.inside import neuron_attribution, source_attribution
from lens_core.attribution.result import (
    Accumulated,
    DirectAttribution,
    NeuronAttribution,
    Part,
    Question,
    SourceAttribution,
)

__all__ = [
    "Ablation",
    "AblationError",
    "AblationKind",
    "Accumulated",
    "AttributionError",
    "DirectAttribution",
    "HeadEffects",
    "InterventionEffect",
    "NeuronAttribution",
    "Part",
    "PartName",
    "Prediction",
    "Question",
    "SourceAttribution",
    "ablate",
    "ablate_each_head",
    "accumulated",
    "block_attention",
    "direct_logit_attribution",
    "intervention_effect",
    "neuron_attribution",
    "source_attribution",
]
