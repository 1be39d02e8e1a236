"""Editing: change what a model says about one subject by changing a few of its weights.

request = EditRequest("The Eiffel Tower is in the city of", "The Eiffel Tower", "Rome")
edit = rome(model, request)
model.edited([edit]).generate(request.prompt)
"""

from lens_core.editing.alpha_edit import alphaedit
from lens_core.editing.baking import bake
from lens_core.editing.baselines import fine_tune, in_context
from lens_core.editing.bleed import Bleed, predicted_bleed
from lens_core.editing.contexts import Contexts, default_contexts
from lens_core.editing.covariance import KeyCovariance, key_covariance
from lens_core.editing.edit import Edit, EditTrace, LayerDiagnostic, OptimisationStep
from lens_core.editing.emmet_edit import emmet
from lens_core.editing.errors import EditingError
from lens_core.editing.ledger import Entry, Ledger
from lens_core.editing.memit_edit import memit
from lens_core.editing.presets import Preset, preset
from lens_core.editing.rank_one import rome
from lens_core.editing.requests import EditRequest, LocatedRequest, as_requests
from lens_core.editing.settings import (
    AlphaEditSettings,
    EmmetSettings,
    FineTuneSettings,
    MemitSettings,
    RomeSettings,
    ValueSettings,
)

__all__ = [
    "AlphaEditSettings",
    "Bleed",
    "Contexts",
    "Edit",
    "EditRequest",
    "EditTrace",
    "EditingError",
    "EmmetSettings",
    "Entry",
    "FineTuneSettings",
    "KeyCovariance",
    "LayerDiagnostic",
    "Ledger",
    "LocatedRequest",
    "MemitSettings",
    "OptimisationStep",
    "Preset",
    "RomeSettings",
    "ValueSettings",
    "alphaedit",
    "as_requests",
    "bake",
    "default_contexts",
    "emmet",
    "fine_tune",
    "in_context",
    "key_covariance",
    "memit",
    "predicted_bleed",
    "preset",
    "rome",
]
