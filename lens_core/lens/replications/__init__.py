"""The experiments that the tuned-lens paper reports, in miniature, each with its control.

Every ``replicate_*`` returns a `Replication`: figures with intervals over documents, the criterion,
and whether it was met. `Suite` runs them all on one model.
"""

from lens_core.lens.replications.anomaly import replicate_anomaly
from lens_core.lens.replications.causal_basis import causal_basis, replicate_causal_basis
from lens_core.lens.replications.difficulty import replicate_prediction_depth, token_difficulty
from lens_core.lens.replications.layer_transfer import replicate_layer_transfer
from lens_core.lens.replications.marginal_bias import marginal_bias, replicate_marginal_bias
from lens_core.lens.replications.nested_lenses import replicate_nested_lenses
from lens_core.lens.replications.result import Claim, Figure, Replication
from lens_core.lens.replications.shuffled_targets import replicate_shuffled_targets
from lens_core.lens.replications.states import Sample
from lens_core.lens.replications.stimulus_response import (
    aitchison_cosine,
    replicate_stimulus_response,
    stimulus_response,
)
from lens_core.lens.replications.suite import Suite
from lens_core.lens.replications.tuned_below_logit import replicate_tuned_below_logit

__all__ = [
    "Claim",
    "Figure",
    "Replication",
    "Sample",
    "Suite",
    "aitchison_cosine",
    "causal_basis",
    "marginal_bias",
    "replicate_anomaly",
    "replicate_causal_basis",
    "replicate_layer_transfer",
    "replicate_marginal_bias",
    "replicate_nested_lenses",
    "replicate_prediction_depth",
    "replicate_shuffled_targets",
    "replicate_stimulus_response",
    "replicate_tuned_below_logit",
    "stimulus_response",
    "token_difficulty",
]
