"""Results of the presets, computed by ``scripts/store_presets.py`` so that they answer at once.

``content/results/lens_presets.npz`` holds plain arrays, never pickled objects. A result counts only
for the very weights, tokens and settings that it was computed from; otherwise the page computes.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lens_core.lens import LensResult, Parity

if TYPE_CHECKING:
    from app.lens_cache import Question

FILE = Path(__file__).resolve().parent.parent / "content" / "results" / "lens_presets.npz"
_INDEX = "index"


def stored_lens(weights: str, question: Question) -> LensResult | None:
    """The stored result of this question on a model of these weights, if there is one."""
    # A shipped lens is known by its file's time, which says nothing in another checkout.
    if question.targets or question.lens_key != "logit" or not FILE.is_file():
        return None
    return _results(FILE.stat().st_mtime_ns).get((weights, question.site, question.token_ids))


@lru_cache(maxsize=1)
def _results(version: int) -> dict[tuple[str, str, tuple[int, ...]], LensResult]:
    return {
        (weights, result.site, tuple(result.token_ids.tolist())): result
        for weights, result in read_results(FILE)
    }


def write_results(results: list[tuple[str, LensResult]], file: Path) -> None:
    """One compressed file of all results, each with the fingerprint of its model's weights."""
    arrays: dict[str, Any] = {}
    index = []
    for n, (weights, result) in enumerate(results):
        plain: dict[str, Any] = {"weights": weights}
        for field in fields(LensResult):
            value = getattr(result, field.name)
            if isinstance(value, np.ndarray):
                arrays[f"{n}.{field.name}"] = value
            else:
                plain[field.name] = asdict(value) if isinstance(value, Parity) else value
        plain["texts"] = {str(i): text for i, text in result.texts.items()}
        index.append(plain)
    arrays[_INDEX] = np.array(json.dumps(index))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(buffer.getvalue())


def read_results(file: Path) -> list[tuple[str, LensResult]]:
    """What `write_results` wrote."""
    with np.load(file, allow_pickle=False) as arrays:
        index = json.loads(str(arrays[_INDEX]))
        found = []
        for n, plain in enumerate(index):
            weights = plain.pop("weights")
            mine = {
                name.removeprefix(f"{n}."): arrays[name]
                for name in arrays.files
                if name.startswith(f"{n}.")
            }
            plain["parity"] = Parity(**plain["parity"])
            plain["texts"] = {int(i): text for i, text in plain["texts"].items()}
            for name in ("row_layers", "target_ids"):
                plain[name] = tuple(plain[name])
            found.append((weights, LensResult(**plain, **mine)))
    return found
