"""Lenses: what the model would say if it had to answer from the middle of its own computation."""

from lens_core.lens.errors import CompareError, LensDataError, LensFileError, LensMismatchError
from lens_core.lens.read import SITES, read_lens
from lens_core.lens.result import LensResult, Parity
from lens_core.lens.transports import (
    JacobianLens,
    LastBlocksLens,
    LogitLens,
    Transport,
    TunedLens,
    depth_of,
)

__all__ = [
    "SITES",
    "CompareError",
    "JacobianLens",
    "LastBlocksLens",
    "LensDataError",
    "LensFileError",
    "LensMismatchError",
    "LensResult",
    "LogitLens",
    "Parity",
    "Transport",
    "TunedLens",
    "depth_of",
    "read_lens",
]
