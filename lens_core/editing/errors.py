"""What can go wrong with an edit: each a sentence that says what to do."""

from lens_core.model.errors import LensError


class EditingError(LensError):
    """A request, a setting or a statistic does not fit the model or the other ones."""
