"""What lesson 1 measures. All of it is about the glass model, whichever model the visitor chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.lesson.measures import measure
from lens_core import HookedModel
from lens_core.glass import ForwardSteps, forward_steps, glass_model, parse_edits, with_edits
from lens_core.interventions import scale

# Sentences of several lengths whose first word comes once, twice, or has a habit.
COPY_SENTENCES = (
    "ant bee cat",
    "bee dog ant bee",
    "cat ant dog bee ant",
    "dog cat",
    "ant bee ant dog",
    "dog bee cat dog bee",
)


def _steps(
    model: HookedModel, settings: Mapping[str, Any], sentence: str | None = None
) -> ForwardSteps:
    """The pass that the lab shows; other models than the glass one are passed over."""
    glass = model if model.cfg.name == "glass-copy" else glass_model()
    edits = parse_edits(str(settings.get("edits") or ""))
    factor = float(settings.get("factor") or 1.0)
    scaled = [] if factor == 1 else [scale("resid_post", 1, factor=factor)]
    text = str(settings.get("sentence") or "ant bee cat ant") if sentence is None else sentence
    return forward_steps(with_edits(glass, edits) if edits else glass, text, scaled)


@measure("glass_number")
def glass_number(
    model: HookedModel, settings: Mapping[str, Any], *, at: str, position: int, name: str
) -> float:
    """One number of the pass: tensor `at`, row `position` (-1 is the last), column `name`."""
    step = _steps(model, settings)[at]
    return float(step.grid()[position, step.columns.index(name)])


@measure("glass_next")
def glass_next(
    model: HookedModel, settings: Mapping[str, Any], *, sentence: str | None = None
) -> str:
    """The word that the glass model says after the last one."""
    step = _steps(model, settings, sentence)["probabilities"]
    return step.columns[int(step.tensor[-1].argmax())]


@measure("glass_confidence")
def glass_confidence(model: HookedModel, settings: Mapping[str, Any]) -> float:
    """The probability of the glass model's best guess after the last word."""
    return float(_steps(model, settings)["probabilities"].tensor[-1].max())


@measure("glass_previous")
def glass_previous(model: HookedModel, settings: Mapping[str, Any]) -> float:
    """The smallest share of attention that a token of block 0 pays to the one before it."""
    pattern = _steps(model, settings)["pattern.0"].grid()
    return float(pattern.diagonal(offset=-1).min()) if len(pattern) > 1 else 1.0


@measure("glass_rest")
def glass_rest(model: HookedModel, settings: Mapping[str, Any]) -> float:
    """The share of attention that the last token of block 1 leaves on the start token."""
    return float(_steps(model, settings)["pattern.1"].grid()[-1, 0])


@measure("glass_sees")
def glass_sees(model: HookedModel, settings: Mapping[str, Any], *, position: int) -> int:
    """How many positions the token at `position` can see."""
    return int(_steps(model, settings)["masked.0"].grid()[position].isfinite().sum())


@measure("glass_norm")
def glass_norm(model: HookedModel, settings: Mapping[str, Any], *, position: int) -> float:
    """What the LayerNorm before block 1's attention divides that row by."""
    row = _steps(model, settings)["resid_post.0"].tensor[position]
    return float(row.std(correction=0))


@measure("glass_copies_first")
def glass_copies_first(model: HookedModel, settings: Mapping[str, Any]) -> float:
    """The share of six sentences after which the glass model says their first word."""
    right = [
        glass_next(model, settings, sentence=sentence) == sentence.split()[0]
        for sentence in COPY_SENTENCES
    ]
    return sum(right) / len(right)


@measure("glass_changed_weights")
def glass_changed_weights(model: HookedModel, settings: Mapping[str, Any]) -> int:
    """How many weights are changed."""
    return len({(e.name, e.index) for e in parse_edits(str(settings.get("edits") or ""))})
