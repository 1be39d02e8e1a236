"""A lesson as a Jupyter notebook: the same text, with cells that compute every truth it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from app.lesson import glossary
from app.lesson.format import (
    Block,
    Check,
    Condition,
    Hint,
    Lesson,
    Measured,
    Mislead,
    Predict,
    Ranking,
    See,
    Text,
    Try,
)
from app.lesson.measures import measures
from app.lesson.source import sources

_RUN = '''
def value(name, given, own=None):
    """The measure on the model: what is given are its arguments, or else settings."""
    fn = MEASURES[name]
    takes = inspect.signature(fn).parameters
    arguments = {key: v for key, v in given.items() if key in takes}
    overlay = {key: v for key, v in given.items() if key not in takes}
    base = {**START, **own} if own is not None else settings
    return fn(model, {**base, **overlay}, **arguments)
'''


def notebook_json(lesson: Lesson, model: str) -> str:
    """The notebook's file (nbformat 4.5); texts and settings go in as quoted data."""
    cells = [_markdown(_title(lesson)), _code(_setup(lesson, model))]
    for block in lesson.intro:
        cells += _cells(block)
    for step in lesson.steps:
        cells.append(_markdown(f"## {step.title}"))
        for block in step.blocks:
            cells += _cells(block)
    cells.append(_markdown("## Sources\n\n" + "\n".join(f"- {s}" for s in lesson.sources)))
    whole = {
        "cells": [{**cell, "id": f"cell-{n}"} for n, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False)


def _title(lesson: Lesson) -> str:
    return (
        f"# {lesson.title}\n\n*{lesson.question}*\n\n{lesson.minutes} minutes, difficulty "
        f"{lesson.difficulty} of 5. The cells need `lens_core`; run them from the top."
    )


def _setup(lesson: Lesson, model: str) -> str:
    names = list(dict.fromkeys(measured.name for measured, _ in lesson.measured()))
    known = measures()
    table = ", ".join(f"{name!r}: {known[name].fn.__name__}" for name in names)
    start = "\n".join(f"    {key!r}: {value!r}," for key, value in lesson.settings.items())
    return "\n".join(
        [
            sources(known[name].fn for name in names),
            "",
            "import inspect",
            "",
            "from lens_core import HookedModel",
            "",
            f"model = HookedModel.from_pretrained({model!r})",
            f"START = {{\n{start}\n}}",
            "settings = dict(START)  # as the lab's controls stand; change them and run on",
            f"MEASURES = {{{table}}}",
            "",
            _RUN,
        ]
    )


def _cells(block: Block) -> list[dict[str, Any]]:
    match block:
        case Text():
            return [_markdown(block.markdown)]
        case Hint():
            return [_markdown(f"**{block.label}**\n\n{block.markdown}")]
        case Try():
            changes = "\n".join(f"settings[{k!r}] = {v!r}" for k, v in block.settings.items())
            return [_markdown(f"**{block.label}**"), _code(f"{changes}\nsettings")]
        case See():
            code = f"{_comparison(block.verdict, block.settings)}\nseen, holds"
            return [_markdown(block.text), _code(code)]
        case Mislead():
            return _mislead_cells(block)
        case Predict():
            return _predict_cells(block)
        case Check():
            return _check_cells(block)


def _mislead_cells(block: Mislead) -> list[dict[str, Any]]:
    own = block.settings
    both = [
        f"real = {_value(block.measured, own)}",
        f"control = {_value(block.measured, own, block.control)}",
        "real, control",
    ]
    return [_markdown(f"**{block.label}**\n\n{block.text}"), _code("\n".join(both))]


def _predict_cells(block: Predict) -> list[dict[str, Any]]:
    options = "".join(f"\n- {option}" for option in block.options)
    asked = f"**Predict, before you run the next cell.** {block.question}\n{options}"
    return [_markdown(asked), _code("guess = None"), _code(_truth(block.truth, block.settings))]


def _check_cells(block: Check) -> list[dict[str, Any]]:
    hints = "".join(f"\n\n*Hint {n}:* {hint}" for n, hint in enumerate(block.hints, start=1))
    cells = [_markdown(f"**Check.** {block.question}{hints}")]
    if block.truth is not None:
        cells += [_code("answer = None"), _code(_truth(block.truth, block.settings))]
    elif block.ranking is not None:
        cells += [_code("answer = None"), _code(_truth(block.ranking, block.settings))]
    else:
        cells.append(_code(_conditions(block)))
    return cells


def _conditions(block: Check) -> str:
    lines = []
    own: Any = block.settings
    if block.kind == "find-prompt":
        lines.append("answer = settings['prompt']  # put your prompt here")
        own = f"{{**{dict(block.settings or {})!r}, 'prompt': answer}}"
    elif own:
        own = f"{{**settings, **{dict(own)!r}}}"
    for condition in block.conditions:
        lines += [_comparison(condition, own), "print(seen, holds)"]
    if block.cost is not None:
        lines.append(f"print('spent', {_value(block.cost, own)}, 'of', {block.budget!r})")
    return "\n".join(lines)


def _truth(truth: Measured | Ranking, own: Mapping[str, Any] | None) -> str:
    if isinstance(truth, Measured):
        return f"truth = {_value(truth, own)}\ntruth"
    scores = "\n".join(
        f"    {label!r}: {_value(truth.score, own, given)},"
        for label, given in truth.options.items()
    )
    order = f"sorted(scores, key=scores.get, reverse={truth.best == 'highest'})"
    return f"scores = {{\n{scores}\n}}\ntruth = {order}[:{truth.choose}]\nscores, truth"


def _value(
    measured: Measured, own: Mapping[str, Any] | str | None, more: Mapping[str, Any] | None = None
) -> str:
    """A call of ``value``; ``own`` is None for the present settings, or code that gives them."""
    given = {**measured.given, **(more or {})}
    call = f"value({measured.name!r}, {given!r}"
    if own is None:
        return f"{call})"
    return f"{call}, own={own if isinstance(own, str) else repr(dict(own))})"


def _comparison(condition: Condition, own: Mapping[str, Any] | str | None) -> str:
    seen = f"seen = {_value(condition.measured, own)}"
    if isinstance(condition.than, Measured):
        than = _value(condition.than, own)
    else:
        than = repr(condition.than)
    if condition.op == "in":
        return f"{seen}\nlow, high = {than}\nholds = seen is not None and low <= seen <= high"
    if condition.op == "contains":
        return f"{seen}\nholds = {than} in seen"
    if condition.op in ("==", "!="):
        stripped = "seen.strip() if isinstance(seen, str) else seen"
        return f"{seen}\nholds = ({stripped}) {condition.op} {than}"
    return f"{seen}\nholds = seen is not None and seen {condition.op} {than}"


def _markdown(text: str) -> dict[str, Any]:
    body = glossary.plain_text(text).strip()
    return {"cell_type": "markdown", "metadata": {}, "source": body}


def _code(text: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": text.strip(),
    }
