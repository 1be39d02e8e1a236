"""What can go wrong with a circuit: each a sentence that says what to do."""

from lens_core.model.errors import LensError


class CircuitError(LensError):
    """A circuit, or the prompts that it is judged on, do not fit the model."""
