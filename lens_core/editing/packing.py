"""Edits as one safetensors file and back: numbers as tensors, all else as JSON in its header.

Nothing in such a file can run, and nothing in it is taken for a path. What is read is checked as if
a stranger had written it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lens_core.editing.edit import Edit, EditTrace, LayerDiagnostic, OptimisationStep
from lens_core.editing.errors import EditingError
from lens_core.editing.requests import EditRequest
from lens_core.interventions import from_json, to_json
from lens_core.model.errors import LensError

Json = dict[str, Any]
_KEY = "lens_core"
_VECTORS = tuple(f.name for f in dataclasses.fields(LayerDiagnostic) if "Float[" in str(f.type))
_NUMBERS = tuple(f.name for f in dataclasses.fields(LayerDiagnostic) if f.name not in _VECTORS)
_STEP = tuple(f.name for f in dataclasses.fields(OptimisationStep))
_MAX_TEXT = 2_000


def pack(content: Json, tensors: Mapping[str, Tensor]) -> bytes:
    """One safetensors file with `content` as JSON in its header."""
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    return save(plain, metadata={_KEY: json.dumps(content, allow_nan=False)})


def unpack(data: bytes, what: str) -> tuple[Json, dict[str, Tensor]]:
    """The JSON and the tensors of a file that `pack` wrote.

    Args:
        what: what the file should be, for the sentence that says that it is not.

    Raises:
        EditingError: it is cut off, damaged or another kind of file.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        if len(data) < 8 or length > len(data) - 8:
            raise EditingError(f"This file is cut off, or is no {what}.")
        header = json.loads(data[8 : 8 + length])
        content = json.loads(header["__metadata__"][_KEY])
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        raise EditingError(f"This file is damaged, or is no {what}.") from None
    if not isinstance(content, dict):
        raise EditingError(f"This file is damaged, or is no {what}.")
    return content, tensors


def write_edit(
    edit: Edit, number: int, settings: Mapping[str, type]
) -> tuple[Json, dict[str, Tensor]]:
    """An edit as JSON, and the tensors that it refers to.

    Args:
        number: a number of its own within the file.
        settings: the kinds of settings that can be read back, by name.

    Raises:
        EditingError: its settings are of another kind.
    """
    kind = type(edit.settings).__name__
    if edit.settings is not None and settings.get(kind) is not type(edit.settings):
        raise EditingError(f"Settings of the kind {kind} cannot be saved.")
    terms, tensors = to_json(edit.terms)
    diagnostics = edit.trace.diagnostics
    content = {
        "method": edit.method,
        "name": edit.name,
        "requests": [dataclasses.asdict(request) for request in edit.requests],
        "layers": list(edit.layers),
        "prefix": edit.prefix,
        "model_name": edit.model_name,
        "fingerprint": edit.fingerprint,
        "settings": None
        if edit.settings is None
        else {"kind": kind, "values": _plain(vars(edit.settings))},
        "terms": terms,
        "steps": [[_plain(getattr(step, name)) for name in _STEP] for step in edit.trace.steps],
        "diagnostics": [[_plain(getattr(d, name)) for name in _NUMBERS] for d in diagnostics],
    }
    for name in _VECTORS if diagnostics else ():
        vectors = [getattr(d, name).detach().float().cpu() for d in diagnostics]
        tensors[f"{number}.{name}"] = torch.stack(vectors)
    return content, tensors


def read_edit(
    content: Any, tensors: Mapping[str, Tensor], number: int, settings: Mapping[str, type]
) -> Edit:
    """The edit that `write_edit` wrote.

    Raises:
        EditingError: it is not what `write_edit` writes.
    """
    try:
        return Edit(
            method=text(content["method"]),
            requests=tuple(
                EditRequest(**{name: text(value) for name, value in request.items()})
                for request in content["requests"]
            ),
            layers=tuple(_whole(layer) for layer in content["layers"]),
            terms=tuple(from_json(content["terms"], tensors)),
            trace=_read_trace(content, tensors, number),
            settings=_read_settings(content["settings"], settings),
            model_name=text(content["model_name"]),
            fingerprint=text(content["fingerprint"]),
            prefix=text(content["prefix"], limit=None),
            name=text(content["name"]),
        )
    except LensError as error:
        raise EditingError(f"Edit {number + 1} of this file cannot be used: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError):
        raise EditingError(f"Edit {number + 1} of this file is not complete.") from None


def text(value: Any, limit: int | None = _MAX_TEXT) -> str:
    """A text that was read. Raises ValueError if it is none, or absurdly long."""
    if not isinstance(value, str) or (limit is not None and len(value) > limit):
        raise ValueError("no text, or a very long one")
    return value


def _read_trace(content: Json, tensors: Mapping[str, Tensor], number: int) -> EditTrace:
    steps = tuple(OptimisationStep(*_row(row, OptimisationStep)) for row in content["steps"])
    rows = content["diagnostics"]
    vectors = {name: tensors[f"{number}.{name}"] for name in _VECTORS} if rows else {}
    if any(t.ndim != 2 or len(t) != len(rows) for t in vectors.values()):
        raise ValueError("other vectors than diagnostics")
    found: list[dict[str, Any]] = [
        dict(zip(_NUMBERS, _row(row, LayerDiagnostic), strict=True)) for row in rows
    ]
    diagnostics = tuple(
        LayerDiagnostic(**{**numbers, **{name: t[i] for name, t in vectors.items()}})
        for i, numbers in enumerate(found)
    )
    return EditTrace(steps, diagnostics)


def _row(row: Any, kind: type) -> list[Any]:
    """Numbers in the order of a dataclass's number fields; what JSON cannot hold comes as NaN."""
    fields = [f for f in dataclasses.fields(kind) if f.name not in _VECTORS]
    if not isinstance(row, list) or len(row) != len(fields):
        raise ValueError("a row of another length")
    return [
        _whole(value) if str(field.type) == "int" else _number(value)
        for field, value in zip(fields, row, strict=True)
    ]


def _read_settings(content: Any, settings: Mapping[str, type]) -> Any:
    if content is None:
        return None
    kind = settings[content["kind"]]
    values = {name: _frozen(value) for name, value in content["values"].items()}
    return kind(**values)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("no whole number")
    return value


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("no number")
    return float(value)


def _plain(value: Any) -> Any:
    """A value as JSON has it; infinite and undefined numbers are null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
