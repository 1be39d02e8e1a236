"""Our own file: safetensors, with everything about the lens in the header as JSON.

The names of tensors are those of the published tuned lenses (``{depth}.weight``, the change, and
``{depth}.bias``), and ``{depth}.jacobian``. Nothing in such a file can run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lens_core.lens.errors import LensFileError
from lens_core.lens.formats.files import finite, write_whole
from lens_core.lens.transports import JacobianLens, Transport, TunedLens

FORMAT, VERSION = "lens_core lens", 1
FILE = "lens.safetensors"


def save_lens(lens: Transport, path: str | Path, *, dtype: torch.dtype | None = None) -> Path:
    """Write a tuned, bias-only or Jacobian lens; a folder gets ``lens.safetensors``.

    Args:
        dtype: None keeps the lens's own. Half precision halves the file; the reading is in fp32.

    Raises:
        LensFileError: there is nothing to save (the logit lens), or NaN in it.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        path = path / FILE
    if isinstance(lens, TunedLens):
        kind, (n_layers, d_model) = lens.name, lens.bias.shape
        tensors = {f"{i}.bias": lens.bias[i] for i in range(n_layers)}
        if lens.weight is not None:
            tensors |= {f"{i}.weight": lens.weight[i] for i in range(n_layers)}
    elif isinstance(lens, JacobianLens):
        kind, n_layers = "jacobian", lens.n_layers
        tensors = {f"{depth}.jacobian": matrix for depth, matrix in lens.jacobians.items()}
        d_model = next(iter(tensors.values())).shape[-1]
    else:
        raise LensFileError(f"The {lens.name} lens has nothing trained in it that could be saved.")
    tensors = {
        name: t.detach().to("cpu", dtype or t.dtype).contiguous().clone()
        for name, t in tensors.items()
    }
    finite(tensors, path)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "model_name": lens.model_name,
        "n_layers": n_layers,
        "d_model": d_model,
        "provenance": dict(lens.provenance),
    }
    metadata = {"lens": json.dumps(header)}
    # Not save_file, whose files nobody but their writer may read.
    write_whole(path, lambda partial: partial.write_bytes(save(tensors, metadata=metadata)))
    return path


def own_lens_of(path: Path) -> TunedLens | JacobianLens:
    """The lens in one of our files."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = json.loads((file.metadata() or {}).get("lens", "null"))
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise LensFileError(f"{path.name} is damaged, or not a safetensors file.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise LensFileError(
            f"{path.name} holds tensors but no lens that lens_core wrote; give a file that "
            "save_lens wrote, or the folder of a published tuned lens."
        )
    if header.get("version") != VERSION:
        raise LensFileError(
            f"{path.name} is of version {header.get('version')} of the format; this lens_core "
            f"reads version {VERSION}. Install a newer one."
        )
    finite(tensors, path)
    try:
        return _lens(header, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, StopIteration) as error:
        raise LensFileError(f"The tensors of {path.name} are not what its header says.") from error


def _lens(header: dict[str, Any], tensors: dict[str, Tensor]) -> TunedLens | JacobianLens:
    n_layers, d_model = int(header["n_layers"]), int(header["d_model"])
    about = str(header["model_name"]), dict(header["provenance"])
    if header["kind"] == "jacobian":
        matrices = {int(name.removesuffix(".jacobian")): t for name, t in tensors.items()}
        _same_shape([*matrices.values()], (d_model, d_model))
        return JacobianLens(dict(sorted(matrices.items())), n_layers, *about)
    biases = [tensors[f"{i}.bias"] for i in range(n_layers)]
    _same_shape(biases, (d_model,))
    if header["kind"] == "bias-only":
        return TunedLens(None, torch.stack(biases), *about)
    weights = [tensors[f"{i}.weight"] for i in range(n_layers)]
    _same_shape(weights, (d_model, d_model))
    return TunedLens(torch.stack(weights), torch.stack(biases), *about)


def _same_shape(tensors: list[Tensor], shape: tuple[int, ...]) -> None:
    if not tensors or any(tuple(t.shape) != shape for t in tensors):
        raise ValueError(f"Not all of the shape {shape}.")
