"""What can go wrong on the way from a name or a prompt to numbers, as typed exceptions.

Each is raised with one sentence that says what to do; the app shows that sentence and nothing else,
so it holds no traceback, no path that the user did not give, and no half of a library's own
message.
"""


class LensError(Exception):
    """The base of every error that a user of the library can cause and mend."""


class EmptyPromptError(LensError):
    """There is no token to run the model on."""


class PromptTooLongError(LensError):
    """The prompt has more tokens than the model's context, or than the host allows."""


class TokenError(LensError):
    """A text that should be exactly one token is not, or an id is outside the vocabulary."""


class UnknownModelError(LensError):
    """No shipped model, local folder or hub model goes by that name."""


class HubUnreachableError(UnknownModelError):
    """The name may be right, but the model hub cannot be reached from here."""


class GatedModelError(LensError):
    """The hub gives this model only to accounts that have accepted its licence."""


class ModelNotAllowedError(LensError):
    """The host of this lab does not offer that model."""


class ModelTooLargeError(LensError):
    """The model needs more memory than the limit; found out before any weight is fetched."""


class UnsupportedModelError(LensError):
    """The model is not a decoder-only language model that transformers itself can run."""


class MissingTokenizerError(LensError):
    """The model has weights but no tokenizer."""


class CorruptWeightsError(LensError):
    """The weights are missing, cut off, unreadable, or do not fit the config."""


class UnsafeCheckpointError(LensError):
    """The checkpoint is a pickle that holds more than tensors and could run code."""


class NaNWeightsError(LensError):
    """Some weights are NaN or infinite."""


class MissingDependencyError(LensError):
    """An optional package that this call needs is not installed."""


class DeviceError(LensError):
    """The device or device map that was asked for is not there."""


class UnknownSiteError(LensError):
    """The model has no activation by that name, or not at that layer."""


class InterventionError(LensError):
    """An intervention cannot apply; raised before the run."""


class InterventionNotAppliedError(LensError):
    """An intervention applied nowhere; raised after the run, so that it is never a silent no-op."""
