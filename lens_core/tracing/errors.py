"""What can go wrong with causal tracing: each a sentence that says what to do."""

from lens_core.model.errors import LensError


class TracingError(LensError):
    """The subject, the corruption or the facts do not fit the prompt or the model."""
