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
from typing import Any

import numpy as np

from app.lens_cache import Question
from lens_core.lens import LensResult, Parity

Stored = tuple[str, Question, LensResult]
FILE = Path(__file__).resolve().parent.parent / "content" / "results" / "lens_presets.npz"
_INDEX = "index"


def stored_lens(weights: str, question: Question) -> LensResult | None:
    """The stored result of this question on a model of these weights, if there is one."""
    if question.targets or not FILE.is_file():
        return None
    return _results(FILE.stat().st_mtime_ns).get((weights, question))


@lru_cache(maxsize=1)
def _results(version: int) -> dict[tuple[str, Question], LensResult]:
    return {(weights, question): result for weights, question, result in read_results(FILE)}


def write_results(results: list[Stored], file: Path) -> None:
    """One compressed file of all results, each with its question and its model's fingerprint."""
    arrays: dict[str, Any] = {}
    index = []
    for n, (weights, question, result) in enumerate(results):
        plain: dict[str, Any] = {"weights": weights, "lens_key": question.lens_key}
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


def read_results(file: Path) -> list[Stored]:
    """What `write_results` wrote."""
    with np.load(file, allow_pickle=False) as arrays:
        index = json.loads(str(arrays[_INDEX]))
        found = []
        for n, plain in enumerate(index):
            weights, lens_key = plain.pop("weights"), plain.pop("lens_key")
            mine = {
                name.removeprefix(f"{n}."): arrays[name]
                for name in arrays.files
                if name.startswith(f"{n}.")
            }
            plain["parity"] = Parity(**plain["parity"])
            plain["texts"] = {int(i): text for i, text in plain["texts"].items()}
            for name in ("row_layers", "target_ids"):
                plain[name] = tuple(plain[name])
            result = LensResult(**plain, **mine)
            tokens = tuple(result.token_ids.tolist())
            question = Question(result.model_name, tokens, result.site, lens_key)
            found.append((weights, question, result))
    return found
