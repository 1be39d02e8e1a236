"""Jacobian lenses as their authors publish them: ``{"J": {l: matrix}}``, or a fit's checkpoint.

Index ``l`` is the output of block ``l``, which is depth ``l + 1`` here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lens_core.lens.errors import LensFileError
from lens_core.lens.formats.files import finite
from lens_core.lens.transports import JacobianLens


def is_jacobian_state(content: Any) -> bool:
    """Whether an unpickled file is a Jacobian artifact or the checkpoint of a fit."""
    return isinstance(content, Mapping) and ("J" in content or "jacobian_sum" in content)


def jacobian_lens_of(
    content: Mapping[str, Any], path: Path, n_layers: int | None = None
) -> JacobianLens:
    """The lens in an unpickled artifact or checkpoint.

    Args:
        n_layers: of the model that it is for; the published files seldom say. None takes the block
            after the last matrix to be the model's last.
    """
    n_prompts = content.get("n_prompts", content.get("n_done"))
    if "J" in content:
        matrices = _by_layer(content["J"], path)
    else:
        n_done = content.get("n_done")
        if not isinstance(n_done, int) or n_done < 1:
            raise LensFileError(f"{path.name} is a fit that has finished no prompt yet.")
        sums = _by_layer(content["jacobian_sum"], path)
        matrices = {layer: matrix.float() / n_done for layer, matrix in sums.items()}
    finite(matrices, path)
    shape = next(iter(matrices.values())).shape
    if any(m.shape != shape or m.ndim != 2 or shape[0] != shape[1] for m in matrices.values()):
        raise LensFileError(f"The matrices of {path.name} are not square and of one size.")
    metadata = content.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    target = content.get("target_layer")
    stated = target + 1 if isinstance(target, int) and target >= 0 else metadata.get("n_layers")
    total = stated if isinstance(stated, int) else n_layers or max(matrices) + 2
    return JacobianLens(
        {layer + 1: matrix for layer, matrix in sorted(matrices.items()) if layer + 1 < total},
        n_layers=total,
        model_name=str(_named(metadata) or ""),
        provenance={
            "format": "Jacobian lens",
            "file": path.name,
            **({"n_prompts": n_prompts} if isinstance(n_prompts, int) else {}),
        },
    )


def _by_layer(found: Any, path: Path) -> dict[int, Tensor]:
    """Matrices by the block whose output they take: a mapping, or one tensor of all blocks."""
    items = found.items() if isinstance(found, Mapping) else enumerate(found)
    try:
        matrices = {int(layer): matrix for layer, matrix in items}
    except (TypeError, ValueError) as error:
        raise LensFileError(f"The matrices of {path.name} are not numbered by block.") from error
    if not matrices or min(matrices) < 0:
        raise LensFileError(f"{path.name} holds no matrix of a block.")
    return matrices


def _named(metadata: Mapping[str, Any]) -> Any:
    names = ("model_name", "model", "base_model_name_or_path")
    return next((metadata[n] for n in names if isinstance(metadata.get(n), str)), None)
