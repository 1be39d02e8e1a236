"""What can go wrong with a lens: each a sentence that says what to do."""

from lens_core.model.errors import LensError


class LensMismatchError(LensError):
    """The lens was made for another model."""


class LensFileError(LensError):
    """The file is not a lens that this library reads."""


class LensDataError(LensError):
    """The texts are not enough, or not in a format that this library reads."""


class CompareError(LensError):
    """Two readings that cannot be laid beside each other."""
