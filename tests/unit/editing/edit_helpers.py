"""Edits for tests that need one and not how it came about."""

from dataclasses import replace
from typing import Any

import torch

from lens_core import HookedModel
from lens_core.editing import Edit, EditRequest, EditTrace, RomeSettings
from lens_core.editing.edit import LayerDiagnostic, OptimisationStep
from lens_core.editing.weights import fingerprint
from lens_core.interventions import low_rank


def made(model: HookedModel, seed: int = 0, **changes: Any) -> Edit:
    """An edit of the second layer with a trace, as a method would make it."""
    generator = torch.Generator().manual_seed(seed)
    d_in, d_out = model.W_out[1].shape
    vectors = [torch.randn(d, generator=generator) for d in (d_in, d_out, d_out, d_out)]
    diagnostic = LayerDiagnostic(0, 1, 0.5, 1.5, 9.0, float("nan"), 1.0, *vectors)
    term = low_rank("mlp_out", 1, vectors[0][:, None], vectors[1][None], name=f"edit {seed}")
    plain = Edit(
        method="rome",
        requests=(EditRequest(f"Subject {seed} is in", f"Subject {seed}", "Rome", "Paris"),),
        layers=(1,),
        terms=(term,),
        trace=EditTrace((OptimisationStep(0, 0, 1.0, 0.5, 0.25, 1.75, 0.125),), (diagnostic,)),
        settings=RomeSettings(layer=1, kl_prompts=("{} is",)),
        model_name=model.cfg.name,
        fingerprint=fingerprint(model),
    )
    return replace(plain, **changes)
