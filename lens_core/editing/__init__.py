"""Editing: change what a model says about one subject by changing a few of its weights."""

from lens_core.editing.edit import Edit, EditTrace, LayerDiagnostic, OptimisationStep
from lens_core.editing.errors import EditingError
from lens_core.editing.requests import EditRequest, LocatedRequest, as_requests
from lens_core.editing.settings import RomeSettings, ValueSettings

__all__ = [
    "Edit",
    "EditRequest",
    "EditTrace",
    "EditingError",
    "LayerDiagnostic",
    "LocatedRequest",
    "OptimisationStep",
    "RomeSettings",
    "ValueSettings",
    "as_requests",
]
