"""What can go wrong with a patching experiment: each a sentence that says what to do."""

from lens_core.model.errors import LensError


class AlignmentError(LensError):
    """Two prompts do not match token by token, so there is nothing to patch between them."""


class PatchingError(LensError):
    """What to patch, or how to measure it, does not fit the model or the prompts."""
