"""Lenses: what the model would say if it had to answer from the middle of its own computation."""

from lens_core.lens.logit_lens import LogitLensResult, Parity, logit_lens

__all__ = ["LogitLensResult", "Parity", "logit_lens"]
