"""What a learner has done during a visit, as plain data that can be saved and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from app.lesson.format import Block, Check, Lesson, Mislead, Predict, Step, Try

VERSION = 1
MAX_BYTES = 200_000
_KINDS = ("predictions", "checks", "opened", "tried")
_MAX_TEXT = 2000


class ProgressError(ValueError):
    """A file that is no saved progress; the message is for the learner."""


Progress = dict[str, dict[str, Any]]  # lesson id -> predictions, checks, opened, tried


def of_lesson(progress: Progress, lesson_id: str) -> dict[str, Any]:
    """The part of one lesson, made where it is not there yet."""
    part = progress.setdefault(lesson_id, {})
    part.setdefault("predictions", {})
    part.setdefault("checks", {})
    part.setdefault("opened", [])
    part.setdefault("tried", [])
    return part


def commit(part: dict[str, Any], name: str, record: Mapping[str, Any]) -> None:
    """Keep a prediction with its truth and score. The first one counts."""
    truth = record["truth"]
    if isinstance(truth, float) and not math.isfinite(truth):
        truth = None
    part["predictions"].setdefault(name, {**record, "truth": truth})


def answered(part: dict[str, Any], name: str, *, passed: bool) -> None:
    """Count an answer to a check; once passed it stays passed."""
    kept = part["checks"].setdefault(name, {"passed": False, "tries": 0})
    if not kept["passed"]:
        kept["tries"] += 1
        kept["passed"] = passed


def mark(part: dict[str, Any], kind: str, name: str) -> None:
    """Count a hint as ``opened``, or a control or control run as ``tried``, once."""
    if name not in part[kind]:
        part[kind].append(name)


def tasks(step: Step) -> list[Block]:
    """The blocks of a step that ask the learner to do something."""
    return [b for b in step.blocks if isinstance(b, Predict | Check | Mislead | Try)]


def is_done(part: Mapping[str, Any], step: Step) -> bool:
    """Guesses committed, checks passed, control runs seen; with none of these, something tried."""
    asked = [block for block in tasks(step) if not isinstance(block, Try)]
    if not asked:
        return any(isinstance(b, Try) and try_id(b) in part["tried"] for b in step.blocks)
    return all(_block_done(part, block) for block in asked)


def try_id(block: Try) -> str:
    """How a Try is counted: by its label."""
    return f"try {block.label}"


def _block_done(part: Mapping[str, Any], block: Block) -> bool:
    if isinstance(block, Predict):
        return block.id in part["predictions"]
    if isinstance(block, Check):
        return bool(part["checks"].get(block.id, {}).get("passed"))
    return isinstance(block, Mislead) and block.id in part["tried"]


def summary(part: Mapping[str, Any], lesson: Lesson) -> dict[str, float]:
    """Steps done of how many, predictions and their mean score, checks passed, hints opened."""
    steps = [step for step in lesson.steps if tasks(step)]
    scores = [record["score"] for record in part["predictions"].values()]
    return {
        "steps": len(steps),
        "steps_done": sum(is_done(part, step) for step in steps),
        "predictions": len(scores),
        "score": sum(scores) / len(scores) if scores else 0.0,
        "checks": sum(isinstance(block, Check) for block in lesson.blocks()),
        "checks_passed": sum(bool(kept["passed"]) for kept in part["checks"].values()),
        "hints": len(part["opened"]),
    }


def dump(progress: Progress) -> str:
    """The progress as a small JSON text."""
    return json.dumps({"lens_lab_progress": VERSION, "lessons": progress}, indent=1)


def load(data: bytes) -> Progress:
    """What ``dump`` wrote. Raises ProgressError, with a sentence for the learner."""
    if len(data) > MAX_BYTES:
        raise ProgressError("This file is too large to be saved progress; nothing was changed.")
    try:
        saved = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ProgressError("This file is not progress saved here; nothing was changed.") from None
    version = saved.get("lens_lab_progress") if isinstance(saved, dict) else None
    if type(version) is int and version > VERSION:
        raise ProgressError(
            "This progress was saved by a newer Lens Lab than this one; nothing was changed."
        )
    if type(version) is not int or version != VERSION or not _is_progress(saved.get("lessons")):
        raise ProgressError("This file is not progress saved here; nothing was changed.")
    lessons: Progress = saved["lessons"]
    return lessons


def merge(progress: Progress, loaded: Progress) -> None:
    """Add what was loaded; nothing that this visit holds is lost, and no pass is taken back."""
    for lesson_id, saved in loaded.items():
        part, saved = of_lesson(progress, lesson_id), of_lesson({}, "x") | saved
        part["predictions"] = {**saved["predictions"], **part["predictions"]}
        for kind in ("opened", "tried"):
            part[kind] = list(dict.fromkeys([*part[kind], *saved[kind]]))
        for name, kept in saved["checks"].items():
            here = part["checks"].get(name, {"passed": False, "tries": 0})
            part["checks"][name] = {
                "passed": here["passed"] or kept["passed"],
                "tries": max(here["tries"], kept["tries"]),
            }


def _is_progress(lessons: Any) -> bool:
    return isinstance(lessons, dict) and all(
        _short(name) and isinstance(part, dict) and part.keys() <= set(_KINDS) and _is_part(part)
        for name, part in lessons.items()
    )


def _is_part(part: Mapping[str, Any]) -> bool:
    predictions, checks = part.get("predictions", {}), part.get("checks", {})
    marks = [part.get(kind, []) for kind in ("opened", "tried")]
    return (
        isinstance(predictions, dict)
        and all(_short(k) and _is_prediction(v) for k, v in predictions.items())
        and isinstance(checks, dict)
        and all(_short(k) and _is_check(v) for k, v in checks.items())
        and all(isinstance(names, list) and all(map(_short, names)) for names in marks)
    )


def _is_prediction(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and record.keys() == {"guess", "truth", "score", "model"}
        and _is_number(record["score"])
        and 0 <= record["score"] <= 1
        and _short(record["model"])
        and all(_is_plain(record[name]) for name in ("guess", "truth"))
    )


def _is_check(kept: Any) -> bool:
    return (
        isinstance(kept, dict)
        and kept.keys() == {"passed", "tries"}
        and isinstance(kept["passed"], bool)
        and type(kept["tries"]) is int
        and 0 <= kept["tries"] < 1_000_000
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 1000 and all(_is_plain(v) and not isinstance(v, list) for v in value)
    return value is None or _short(value) or _is_number(value)


def _short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
