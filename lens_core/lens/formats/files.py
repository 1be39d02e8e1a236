"""Reading tensors and JSON from files that are not trusted, and writing files whole."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lens_core.lens.errors import LensFileError
from lens_core.model.errors import UnsafeCheckpointError

_ZIP = b"PK\x03\x04"


def read_pickle(path: Path) -> Any:
    """What `torch.save` wrote, if it is tensors, numbers and texts and nothing else.

    Raises:
        UnsafeCheckpointError: it holds more, and could run code.
        LensFileError: it is cut off, or was not written by `torch.save`.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for damaged files
        with path.open("rb") as file:
            looks_whole = file.read(4) == _ZIP
        if isinstance(error, pickle.UnpicklingError) and looks_whole:
            raise UnsafeCheckpointError(
                f"{path.name} holds more than tensors and could run code, so it is not opened; "
                "convert it where you trust it."
            ) from error
        raise LensFileError(
            f"{path.name} is damaged or was not written by torch.save; fetch it again."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LensFileError(f"{path.name} cannot be read as JSON.") from error
    if not isinstance(found, dict):
        raise LensFileError(f"{path.name} is not a JSON object.")
    return found


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the place and move it there, so that a killed program leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """A JSON file."""
    text = json.dumps(content, indent=2) + "\n"
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def finite(tensors: Mapping[Any, Tensor], path: Path) -> None:
    """Raise LensFileError if a tensor is not of floating point, or holds NaN or infinity."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise LensFileError(f"{name} in {path.name} is not a tensor of floating point.")
        if not bool(torch.isfinite(tensor).all()):
            raise LensFileError(
                f"{name} in {path.name} holds NaN or infinite numbers; its training diverged."
            )
