"""Prompts worth starting from, each with the reason why: ``content/datasets/*_presets.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

_FOLDER = Path(__file__).resolve().parent.parent / "content" / "datasets"


@dataclass(frozen=True)
class Preset:
    """A prompt, a short name for its button, what it shows and what to look for."""

    name: str
    prompt: str
    why: str
    see: str


def _presets(lab: str) -> tuple[Preset, ...]:
    text = (_FOLDER / f"{lab}_presets.yaml").read_text(encoding="utf-8")
    return tuple(Preset(**entry) for entry in yaml.safe_load(text))


PRESETS = _presets("lens")
ATTENTION_PRESETS = _presets("attention")
INDUCTION_PRESETS = _presets("induction")
ATTRIBUTION_PRESETS = _presets("attribution")
