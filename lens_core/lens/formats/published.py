"""Tuned lenses as the `tuned-lens` package publishes them: ``config.json`` and ``params.pt``.

``params.pt`` holds ``{i}.weight`` and ``{i}.bias`` for the input of block ``i``; the weight is the
change, ``h + W h + b``. Files up to version 0.0.5 hold the whole module: an input translator
(now 0), ``layer_translators.{i}`` (now ``i + 1``), and a copy of the model's head, which is left
out; what was trained with another head is refused. A snapshot of the training loop is read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lens_core.lens.errors import LensFileError
from lens_core.lens.formats.files import finite, read_json, write_json, write_whole
from lens_core.lens.transports import TunedLens

CONFIG, PARAMS = "config.json", "params.pt"
LENS_TYPE = "linear_tuned_lens"

_CURRENT = re.compile(r"(\d+)\.(weight|bias)")
_MODULE = re.compile(r"(?:layer_)?(?:translators?|probes?|adapters?)\.(\d+)\.(weight|bias)")
_INPUT = re.compile(r"input_(?:translator|probe|adapter)\.(weight|bias)")

Translators = dict[tuple[int, str], Tensor]


def is_tuned_state(content: Any) -> bool:
    """Whether an unpickled file holds translators, in one of the formats."""
    if not isinstance(content, Mapping):
        return False
    names = _state_of(content)
    return any(isinstance(n, str) and _place(n, shift=0) is not None for n in names)


def tuned_lens_of(content: Mapping[str, Any], path: Path) -> TunedLens:
    """The lens in an unpickled ``params.pt``, with the config beside it if there is one.

    Raises:
        LensFileError: translators that are no translators, or that contradict the config.
    """
    config_path = path.with_name(CONFIG)
    config = read_json(config_path) if config_path.is_file() else {}
    if config.get("reuse_unembedding") is False:
        raise LensFileError(
            f"The translators of {path.name} map to the vocabulary with an unembedding of their "
            "own (reuse_unembedding is false); only translators in the residual stream are read."
        )
    state = _state_of(content)
    if config.get("extra_layers") or any(name.startswith("extra_layers.") for name in state):
        raise LensFileError(
            f"The translators of {path.name} were trained in front of the model's last blocks "
            "(extra_layers); in front of the head alone they mean something else."
        )
    lens_type = config.get("lens_type", LENS_TYPE)
    if lens_type != LENS_TYPE:
        raise LensFileError(f"The lens in {path.name} is a {lens_type!r}, not a {LENS_TYPE!r}.")
    # The whole module of the present package holds its head under `unembed`; the older one's
    # translators began after block 0.
    is_legacy = not any(_CURRENT.fullmatch(n) or n.startswith("unembed.") for n in state)
    translators = _translators(state, shift=1 if is_legacy else 0)
    weight, bias = _stacked(translators, path)
    _agree_with(config, weight, path)
    return TunedLens(
        weight,
        bias,
        model_name=str(_of_model(config) or ""),
        provenance=_provenance(config, path, is_legacy),
    )


def save_tuned_lens_package(lens: TunedLens, folder: str | Path) -> Path:
    """Write ``config.json`` and ``params.pt``, which the `tuned-lens` 0.2.0 package loads.

    In fp32. A bias-only lens is written with weights of zero, since the package has no other way.
    """
    folder = Path(folder)
    n_layers, d_model = lens.bias.shape
    weight = lens.weight if lens.weight is not None else torch.zeros(n_layers, d_model, d_model)
    state: dict[str, Tensor] = {}
    for i in range(n_layers):
        # A clone each: a view would be saved with the storage of all of them.
        state[f"{i}.weight"] = weight[i].detach().to("cpu", torch.float32).clone()
        state[f"{i}.bias"] = lens.bias[i].detach().to("cpu", torch.float32).clone()
    finite(state, folder / PARAMS)
    config = {
        "base_model_name_or_path": lens.model_name,
        "d_model": d_model,
        "num_hidden_layers": n_layers,
        "bias": True,
        "base_model_revision": lens.provenance.get("model_revision"),
        "unembed_hash": None,
        "lens_type": LENS_TYPE,
    }
    write_whole(folder / PARAMS, lambda partial: torch.save(state, partial))
    write_json(folder / CONFIG, config)
    return folder


def _state_of(content: Mapping[Any, Any]) -> Mapping[str, Any]:
    """The module's tensors, also out of a snapshot of the training loop."""
    inside = content.get("lens")
    return inside if isinstance(inside, Mapping) else content


def _place(name: str, *, shift: int) -> tuple[int, str] | None:
    """Depth and kind of a parameter of a translator; None for what is none."""
    if found := _CURRENT.fullmatch(name):
        return int(found[1]), found[2]
    if found := _INPUT.fullmatch(name):
        return 0, found[1]
    if found := _MODULE.fullmatch(name):
        return int(found[1]) + shift, found[2]
    return None


def _translators(state: Mapping[str, Any], *, shift: int) -> Translators:
    places = {name: _place(name, shift=shift) for name in state}
    return {place: state[name] for name, place in places.items() if place is not None}


def _stacked(translators: Translators, path: Path) -> tuple[Tensor, Tensor]:
    finite({f"{i}.{kind}": tensor for (i, kind), tensor in translators.items()}, path)
    weights = {i: tensor for (i, kind), tensor in translators.items() if kind == "weight"}
    if not weights:
        raise LensFileError(f"{path.name} holds no translator.")
    shape = tuple(next(iter(weights.values())).shape)
    if any(tuple(w.shape) != (shape[0], shape[0]) for w in weights.values()):
        raise LensFileError(
            f"The translators of {path.name} are no square matrices of one size; ones that map to "
            "the vocabulary are not read."
        )
    n_layers = max(weights) + 1
    # A lens without an input translator reads the embedding as it stands.
    weights.setdefault(0, torch.zeros_like(weights[n_layers - 1]))
    if len(weights) != n_layers:
        missing = sorted(set(range(n_layers)) - set(weights))
        raise LensFileError(f"{path.name} lacks the translators {missing}; it is incomplete.")
    zero = torch.zeros(shape[0], dtype=weights[0].dtype)
    biases = [translators.get((i, "bias"), zero) for i in range(n_layers)]
    if any(tuple(bias.shape) != (shape[0],) for bias in biases):
        raise LensFileError(f"The biases of {path.name} do not fit its matrices.")
    return torch.stack([weights[i] for i in range(n_layers)]), torch.stack(biases)


def _agree_with(config: Mapping[str, Any], weight: Tensor, path: Path) -> None:
    says = (
        config.get("num_hidden_layers", config.get("num_layers")),
        config.get("d_model"),
    )
    has = (weight.shape[0], weight.shape[1])
    for stated, found, what in zip(says, has, ("blocks", "d_model"), strict=True):
        if stated is not None and stated != found:
            raise LensFileError(
                f"{path.with_name(CONFIG).name} says {what} {stated}, and {path.name} holds "
                f"{found}; the two files are of different lenses."
            )


def _of_model(config: Mapping[str, Any]) -> Any:
    inner = config.get("model_config")
    nested = inner.get("_name_or_path") if isinstance(inner, Mapping) else None
    return config.get("base_model_name_or_path") or nested


def _provenance(config: Mapping[str, Any], path: Path, is_legacy: bool) -> dict[str, Any]:
    kept = {
        "format": "tuned-lens, up to 0.0.5" if is_legacy else "tuned-lens",
        "file": path.name,
        "model_revision": config.get("base_model_revision"),
        "unembed_hash": config.get("unembed_hash") or config.get("unemebd_hash"),
    }
    return {name: value for name, value in kept.items() if value is not None}
