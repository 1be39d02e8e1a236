"""What can go wrong with an attribution: each a sentence that says what to do."""

from lens_core.model.errors import LensError


class AttributionError(LensError):
    """The parts of an answer cannot be told apart, or the question is not one that they answer."""


class AblationError(LensError):
    """The parts to ablate, or what to put in their place, do not fit the model or the prompt."""
