"""The directives of a lesson: each name and the function that reads its fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from app.lesson.fields import Fields
from app.lesson.format import (
    Answer,
    Block,
    Check,
    Hint,
    Measured,
    Mislead,
    Predict,
    Ranking,
    See,
    Try,
)

_LAYERS_TO_ZERO = 8.0
_GUESSES = ("number", "layer", "choice", "token")
_CHECKS = ("number", "choice", "find-prompt", "budget")


@dataclass(frozen=True)
class Fence:
    """A directive as it stands in the file: its name, what follows it, where."""

    name: str
    label: str
    body: str
    line: int


def _try(fence: Fence, fields: Fields) -> Try:
    settings = fields.rest_as_settings()
    if not settings:
        raise fields.wrong("it sets nothing")
    return Try(fence.label, settings, fence.line)


def _predict(fence: Fence, fields: Fields) -> Predict:
    kind = fields.one_of("kind", _GUESSES)
    question = fields.text("question")
    options: tuple[str, ...] = ()
    truth: Measured | Ranking
    if kind == "choice" and not fields.has("truth"):
        truth = fields.ranking()
        options = tuple(truth.options)
    else:
        truth = fields.measured("truth")
        if kind == "choice":
            options = tuple(str(option) for option in fields.take("options", list))
            if len(options) < 2:
                raise fields.wrong("`options` must be at least two", "options")
    scale = 1.0
    if kind in ("number", "layer"):
        scale = fields.number("scale", *([_LAYERS_TO_ZERO] if kind == "layer" else []))
        if scale == 0:
            raise fields.wrong("`scale` must be above 0", "scale")
    return Predict(
        id=fence.label,
        question=question,
        kind=cast(Any, kind),
        truth=truth,
        options=options,
        settings=fields.settings(),
        scale=scale,
        unit=fields.text("unit", ""),
        reveal=fields.text("reveal", "You said {guess}; it is {truth}."),
        line=fence.line,
    )


def _see(fence: Fence, fields: Fields) -> See:
    return See(
        id=fence.label,
        text=fields.text("text"),
        verdict=fields.condition("verdict"),
        settings=fields.settings(),
        yes=fields.text("yes", "Yes, on this prompt: {value}."),
        no=fields.text("no", "Not on this prompt: {value}."),
        line=fence.line,
    )


def _check(fence: Fence, fields: Fields) -> Check:
    kind = fields.one_of("kind", _CHECKS)
    of_kind: dict[str, Any] = {}
    if kind == "number":
        of_kind["truth"] = fields.measured("truth")
        of_kind["tolerance"] = fields.number("tolerance", 0.0)
        of_kind["relative"] = fields.number("relative", 0.0)
        of_kind["unit"] = fields.text("unit", "")
        if not of_kind["tolerance"] and not of_kind["relative"]:
            raise fields.wrong("the field `tolerance` (or `relative`) is missing")
    elif kind == "choice":
        of_kind["ranking"] = fields.ranking()
    else:
        of_kind["conditions"] = fields.conditions("condition")
    if kind == "budget":
        of_kind["cost"] = fields.measured("cost")
        of_kind["budget"] = fields.number("budget")
    hints = fields.take("hints", list, [])
    return Check(
        id=fence.label,
        kind=cast(Any, kind),
        question=fields.text("question"),
        settings=fields.settings(),
        hints=tuple(str(hint).strip() for hint in hints),
        why=fields.text("why", ""),
        passes=_answer("passes", kind, of_kind, fields),
        fails=_answer("fails", kind, of_kind, fields),
        line=fence.line,
        **of_kind,
    )


def _answer(name: str, kind: str, of_kind: dict[str, Any], fields: Fields) -> Answer:
    """A worked answer, of the sort that this kind of check is given."""
    if kind == "find-prompt":
        return fields.text(name)
    if kind == "budget":
        return fields.check_settings(fields.take(name, dict), name)
    if kind == "number":
        number = fields.take(name, (int, float, str))
        if isinstance(number, str) and number != "truth":
            raise fields.wrong(f"`{name}` must be a number or `truth`", name)
        return number
    given = fields.take(name, (str, list))
    words = ("truth", "worst")
    for label in given if isinstance(given, list) else [given]:
        if label not in words and label not in of_kind["ranking"].options:
            raise fields.wrong(f"`{name}: {label}` is none of the options", name)
    return cast(Answer, given)


def _mislead(fence: Fence, fields: Fields) -> Mislead:
    control = fields.take("control", dict)
    return Mislead(
        id="",
        label=fence.label,
        text=fields.text("text"),
        measured=fields.measured("measure"),
        control=control,
        settings=fields.settings(),
        reads=fields.text("reads", ""),
        line=fence.line,
    )


def hint(fence: Fence) -> Hint:
    """A hint, whose body is Markdown."""
    return Hint(id="", label=fence.label, markdown=fence.body.strip(), line=fence.line)


READERS: dict[str, Callable[[Fence, Fields], Block]] = {
    "try": _try,
    "predict": _predict,
    "see": _see,
    "check": _check,
    "mislead": _mislead,
}
NAMES = (*READERS, "hint")
