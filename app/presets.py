"""Prompts worth starting from, each with the reason why: ``content/datasets/lens_presets.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

_FILE = Path(__file__).resolve().parent.parent / "content" / "datasets" / "lens_presets.yaml"


@dataclass(frozen=True)
class Preset:
    """A prompt, a short name for its button, what it shows and what to look for in the grid."""

    name: str
    prompt: str
    why: str
    see: str


PRESETS: tuple[Preset, ...] = tuple(
    Preset(**entry) for entry in yaml.safe_load(_FILE.read_text(encoding="utf-8"))
)
