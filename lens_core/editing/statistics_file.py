"""Key statistics on disk: the user's cache folder, own files, and those of the published code."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lens_core.editing.errors import EditingError

CACHE_VARIABLE = "LENS_LAB_CACHE"
_FORMAT = "lens_core key statistics 1"
_LOG = logging.getLogger(__name__)


def folder() -> Path:
    """Where statistics are kept: LENS_LAB_CACHE, else lens-lab in the user's cache folder."""
    own = os.environ.get(CACHE_VARIABLE, "").strip()
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "lens-lab"


def path_for(weights: str, corpus: str, layers: Sequence[int]) -> Path:
    """The file for the keys of some weights on some text."""
    names = "all" if list(layers) == list(range(len(layers))) else "-".join(map(str, layers))
    return (
        folder()
        / "key-statistics"
        / f"{weights[:20]}-{corpus[:20]}-{len(layers)}-{names}.safetensors"
    )


def read_kept(path: Path) -> dict[int, Tensor] | None:
    """What `keep` put there; None if there is nothing that can be read."""
    if not path.is_file():
        return None
    try:
        return read(path)[0]
    except EditingError as error:
        _LOG.warning("%s It is computed anew.", error)
        return None


def keep(path: Path, moments: dict[int, Tensor], about: dict[str, str]) -> None:
    """Write a file for the next time; a folder that cannot be written to costs only that time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
        try:
            write(Path(name), moments, about)
            os.replace(name, path)  # whole or not at all, whoever else writes it
        finally:
            Path(name).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        _LOG.warning("Key statistics could not be kept in %s: %s", path.parent, error)


def write(path: Path, moments: dict[int, Tensor], about: dict[str, str]) -> None:
    """One tensor a layer, in float32, with what they are of."""
    tensors = {str(layer): moment.float().contiguous() for layer, moment in moments.items()}
    save_file(tensors, path, metadata={"format": _FORMAT, **about})


def read(path: Path) -> tuple[dict[int, Tensor], dict[str, str]]:
    """The moments by layer, and what they are of.

    Raises:
        EditingError: there is no such file, or it holds something else.
    """
    _must_exist(path)
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if about.get("format") != _FORMAT:
                raise EditingError(f"{path.name} does not hold key statistics of this library.")
            moments = {int(name): file.get_tensor(name).double() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError):
        raise EditingError(f"{path.name} cannot be read as key statistics.") from None
    if any(m.ndim != 2 or m.shape[0] != m.shape[1] for m in moments.values()):
        raise EditingError(f"{path.name} does not hold square matrices.")
    return moments, about


def read_rome(path: Path) -> tuple[Tensor, int]:
    """Second moment and number of keys from an .npz file of the published code.

    Raises:
        EditingError: there is no such file, or it holds something else.
    """
    _must_exist(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            total, count = file["mom2.mom2"], int(file["mom2.count"])
    except (KeyError, ValueError, OSError, EOFError):
        raise EditingError(
            f"{path.name} does not hold the second moment of keys (mom2) of the ROME code."
        ) from None
    if total.ndim != 2 or total.shape[0] != total.shape[1] or count < 1:
        raise EditingError(f"{path.name} does not hold a square matrix and a count.")
    return torch.from_numpy(total.astype(np.float64)) / count, count


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise EditingError(f"There is no file {path.name!r:.100}; check the path.")
