"""From a name to a loaded model: a shipped model, a local folder, or a model of the hub.

    loaded = load("tiny-world")
    loaded.hf_model, loaded.tokenizer, loaded.source

Nothing that is loaded can run code (`trust_remote_code` is off, pickles are read weights-only),
nothing that is shipped or local asks the network for anything, and a model that would compute
nonsense without a word (tensors missing from the checkpoint, NaN weights, attention in both
directions) is refused with a sentence.
"""

import importlib.util
import os
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from lens_core.model import sizing
from lens_core.model.errors import (
    CorruptWeightsError,
    DeviceError,
    GatedModelError,
    HubUnreachableError,
    LensError,
    MissingDependencyError,
    MissingTokenizerError,
    ModelTooLargeError,
    NaNWeightsError,
    UnknownModelError,
    UnsafeCheckpointError,
    UnsupportedModelError,
)
from lens_core.model.sources import Kind, Source, offline_hint, resolve

# Loading a hub model that has only a pickle would otherwise ask a service of the hub to convert it,
# in the background and in the learner's name.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")

# What the hub's client raises for a host that does not answer and a cache that lacks the file.
_NO_CONNECTION = (ConnectionError, TimeoutError, LocalEntryNotFoundError)

DeviceMap = str | Mapping[str, int | str | torch.device]


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode without gradients on its weights, and its tokenizer."""

    hf_model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    source: Kind


def load(
    name: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    device_map: DeviceMap | None = None,
    revision: str | None = None,
    limit_gb: float | None = None,
) -> LoadedModel:
    """Load a decoder-only language model for analysis.

    Args:
        name: a shipped model's name, a folder that `save_pretrained` wrote, or a hub id.
        device: "cpu", "cuda", "cuda:1", "mps"; not used with `device_map`.
        dtype: None means float32 on the CPU (fp16 files too) and the checkpoint's own elsewhere.
        device_map: "auto" spreads a model over devices; needs the package accelerate.
        revision: a branch, tag or commit on the hub (Pythia's "step512"), or a local model's
            checkpoint.
        limit_gb: most memory for the weights, in GB (1e9 bytes); None means LENS_LAB_MAX_MODEL_GB,
            if set.

    Returns the model with eager attention, in eval mode, its parameters without gradients.

    Raises a LensError of lens_core.model.errors, each with a sentence that says what to do. The
    size is checked against the limit from the config alone, before any weight is fetched.

    Example:
        >>> load("tiny-world").hf_model.config.model_type
        'gpt2'
    """
    target = _check_device(device, device_map)
    source = resolve(name, revision)
    config = _load_config(source)
    _refuse_unless_causal(source, config)
    wanted = _choose_dtype(dtype, target, device_map, config)
    sizing.check_limit(source.name, sizing.estimate(config), wanted, limit_gb)
    tokenizer = _load_tokenizer(source)
    model = _load_weights(source, config, wanted, device_map)
    if device_map is None:
        model = _move(source, model, target)
    model.eval()
    model.requires_grad_(False)
    _refuse_nan(source, model)
    return LoadedModel(model, tokenizer, source.name, source.kind)


def load_config(name: str | Path, *, revision: str | None = None) -> PreTrainedConfig:
    """The config alone, as `sizing.estimate` needs it; raises as `load` does."""
    source = resolve(name, revision)
    config = _load_config(source)
    _refuse_unless_causal(source, config)
    return config


def _hub_arguments(source: Source) -> dict[str, Any]:
    return {
        "revision": source.revision or "main",
        "local_files_only": source.local_only,
        "trust_remote_code": False,
    }


def _load_config(source: Source) -> PreTrainedConfig:
    try:
        raw, _ = PreTrainedConfig.get_config_dict(
            source.location,
            revision=source.revision or "main",
            local_files_only=source.local_only,
        )
    except Exception as error:
        raise _explain_fetch(source, error, "config.json") from error
    model_type = raw.get("model_type") if isinstance(raw, dict) else None
    if model_type not in CONFIG_MAPPING:
        needs_code = isinstance(raw, dict) and "auto_map" in raw
        reason = (
            "needs code from its own repository, which is never run here"
            if needs_code
            else f"is of a type ({model_type!r}) that the installed transformers does not know"
        )
        raise UnsupportedModelError(f"{source.name} {reason}; choose another model.")
    try:
        return AutoConfig.from_pretrained(source.location, **_hub_arguments(source))
    except Exception as error:
        # Config classes check their values in their own ways and raise whatever those checks raise.
        raise UnsupportedModelError(
            f"The config.json of {source.name} holds values that a {model_type} model cannot have; "
            "fetch or save the model again."
        ) from error


def _refuse_unless_causal(source: Source, config: PreTrainedConfig) -> None:
    if config.is_encoder_decoder:
        raise UnsupportedModelError(
            f"{source.name} is an encoder-decoder model ({config.model_type}); "
            "choose a decoder-only one."
        )
    # transformers would run these with attention in both directions and only log a warning.
    masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if masked and not getattr(config, "is_decoder", False):
        raise UnsupportedModelError(
            f"{source.name} is an encoder-only model ({config.model_type}); "
            "choose a decoder-only one."
        )
    sizing.causal_class(config)


def _load_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source.tokenizer_location, **_hub_arguments(source)
        )
    except Exception as error:
        fetch = _explain_fetch(source, error, "tokenizer")
        if isinstance(fetch, UnsupportedModelError) or source.kind != "hub":
            raise MissingTokenizerError(
                f"{source.name} has no tokenizer that can be read; save one into its folder "
                "(tokenizer.save_pretrained)."
            ) from error
        raise fetch from error
    # Without tokenizer files transformers returns one that knows its special tokens and nothing
    # else.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise MissingTokenizerError(
            f"{source.name} has no tokenizer; save one into its folder (tokenizer.save_pretrained)."
        )
    return tokenizer


def _load_weights(
    source: Source, config: PreTrainedConfig, dtype: torch.dtype, device_map: DeviceMap | None
) -> PreTrainedModel:
    try:
        model, report = sizing.causal_class(config).from_pretrained(
            source.location,
            config=config,
            dtype=dtype,
            device_map=device_map,
            attn_implementation="eager",
            weights_only=True,
            output_loading_info=True,
            **_hub_arguments(source),
        )
    except Exception as error:
        bad_map = device_map is not None and isinstance(error, ValueError | AssertionError)
        if bad_map:
            raise DeviceError(
                "The device map cannot be followed on this machine; use device_map='auto'."
            ) from error
        raise _explain_weights(source, error) from error
    absent = sorted(report["missing_keys"])
    if absent:
        raise CorruptWeightsError(
            f"The weights of {source.name} lack {len(absent)} tensors (first: {absent[0]}), "
            f"which would be random; use a complete checkpoint of a {type(model).__name__}."
        )
    return model


def _explain_weights(source: Source, error: Exception) -> LensError:
    """The sentence for what transformers, safetensors or torch raised while reading weights."""
    causes = list(_chain(error))
    if any(isinstance(cause, pickle.UnpicklingError) for cause in causes):
        return UnsafeCheckpointError(
            f"The checkpoint of {source.name} is a pickle that holds more than weights and could "
            "run code; convert it to safetensors where you trust it."
        )
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate" in str(error):
        return ModelTooLargeError(
            f"{source.name} does not fit into memory; choose a smaller model, a smaller dtype, "
            "or device_map='auto'."
        )
    damaged = isinstance(error, SafetensorError | EOFError) or source.kind != "hub"
    if damaged or "ignore_mismatched_sizes" in str(error) or isinstance(error, RuntimeError):
        return CorruptWeightsError(
            f"The weights of {source.name} are missing, damaged or do not fit its config.json; "
            "fetch or save the model again."
        )
    return _explain_fetch(source, error, "weights")


def _explain_fetch(source: Source, error: Exception, what: str) -> LensError:
    """The sentence for a file that could not be had, from the hub or from disk."""
    causes = list(_chain(error))

    def is_any(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if is_any(GatedRepoError):
        return GatedModelError(
            f"{source.name} is gated: accept its licence on the hub and log in (hf auth login), "
            f"or choose another model ({offline_hint()})."
        )
    if is_any(RevisionNotFoundError):
        return UnknownModelError(
            f"{source.name} has no revision {source.revision!r}; check the branch, tag or commit."
        )
    if is_any(RepositoryNotFoundError, HFValidationError):
        return UnknownModelError(
            f"The hub has no model {source.name!r}; check the spelling ({offline_hint()})."
        )
    if source.kind == "hub" and (source.local_only or is_any(*_NO_CONNECTION)):
        return HubUnreachableError(
            f"{source.name} must come from the model hub, which cannot be reached from here; "
            f"connect to the network, or choose a shipped model ({offline_hint()})."
        )
    return UnsupportedModelError(
        f"{source.name} has no {what} that can be read; choose another model or save it again."
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def _check_device(device: str | torch.device, device_map: DeviceMap | None) -> torch.device:
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(
            f"There is no device {str(device)[:50]!r}; use 'cpu', 'cuda' or 'mps'."
        ) from error
    if device_map is not None:
        if importlib.util.find_spec("accelerate") is None:
            raise MissingDependencyError(
                "device_map needs the package accelerate; install it with pip install accelerate."
            )
        return target
    missing_cuda = target.type == "cuda" and not (
        torch.cuda.is_available() and (target.index or 0) < torch.cuda.device_count()
    )
    if missing_cuda or (target.type == "mps" and not torch.backends.mps.is_available()):
        raise DeviceError(f"The device {str(target)!r} is not available here; use device='cpu'.")
    return target


def _choose_dtype(
    dtype: torch.dtype | str | None,
    target: torch.device,
    device_map: DeviceMap | None,
    config: PreTrainedConfig,
) -> torch.dtype:
    if isinstance(dtype, str):
        named = getattr(torch, dtype, None)
        if not isinstance(named, torch.dtype):
            raise DeviceError(
                f"There is no dtype {dtype[:50]!r}; use 'float32', 'float16' or 'bfloat16'."
            )
        return named
    if dtype is not None:
        return dtype
    if device_map is None and target.type == "cpu":
        return torch.float32
    own = config.dtype or config.get_text_config().dtype or torch.float32
    return getattr(torch, own) if isinstance(own, str) else own


def _move(source: Source, model: PreTrainedModel, target: torch.device) -> PreTrainedModel:
    try:
        return model.to(target)
    except torch.OutOfMemoryError as error:
        raise ModelTooLargeError(
            f"{source.name} does not fit into the memory of {target}; use a smaller dtype "
            "or device='cpu'."
        ) from error


def _refuse_nan(source: Source, model: PreTrainedModel) -> None:
    for key, parameter in model.named_parameters():
        if parameter.is_meta or not parameter.is_floating_point() or not parameter.numel():
            continue
        low, high = torch.aminmax(
            parameter
        )  # one pass, no copy; NaN and infinity both come through
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise NaNWeightsError(
                f"The weights of {source.name} hold NaN or infinite values (first in {key}); "
                "use another checkpoint."
            )
