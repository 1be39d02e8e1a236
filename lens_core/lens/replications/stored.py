"""Results of the replications in one JSON file, which says of what and with what they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lens_core.lens.errors import LensFileError
from lens_core.lens.replications.result import Replication


@dataclass(frozen=True)
class StoredReplications:
    """Replications on one model. ``settings`` are the seeds, the text and the recipe."""

    model_name: str
    model_sha256: str
    settings: Mapping[str, Any]
    replications: tuple[Replication, ...] = field(default=())

    def get(self, key: str) -> Replication | None:
        """The one with this key, or None."""
        return next((r for r in self.replications if r.claim.key == key), None)

    def with_(self, replication: Replication) -> StoredReplications:
        """With one added or replaced."""
        others = [r for r in self.replications if r.claim.key != replication.claim.key]
        return StoredReplications(
            self.model_name, self.model_sha256, self.settings, (*others, replication)
        )


def save_results(stored: StoredReplications, file: Path) -> None:
    """Write the file, whole or not at all; equal results give equal bytes."""
    data = {
        "model": stored.model_name,
        "model_sha256": stored.model_sha256,
        "settings": dict(stored.settings),
        "replications": [r.to_dict() for r in stored.replications],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(
        json.dumps(_rounded(data), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    partial.replace(file)


def load_results(file: Path) -> StoredReplications:
    """Read the file.

    Raises:
        FileNotFoundError: there is none.
        LensFileError: it holds something else.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return StoredReplications(
            model_name=str(data["model"]),
            model_sha256=str(data["model_sha256"]),
            settings=dict(data["settings"]),
            replications=tuple(Replication.from_dict(r) for r in data["replications"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LensFileError(
            f"{file.name} does not hold replications; make it again: python -m scripts.replications"
        ) from error


def _rounded(value: Any) -> Any:
    """Six significant digits: more would differ between machines."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return value
