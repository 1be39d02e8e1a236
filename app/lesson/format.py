"""What a lesson consists of. ``content/lessons/README.md`` says how each piece is written."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.lesson.measures import Value


class LessonError(ValueError):
    """A lesson that is malformed; the message gives file, line and reason."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}:{line}: {reason}")
        self.file, self.line, self.reason = file, line, reason


@dataclass(frozen=True)
class Measured:
    """A measure by name, and what was written beside it: its arguments, or settings."""

    name: str
    given: Mapping[str, Any]
    line: int


def _between(value: Any, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
    "in": _between,
    "contains": operator.contains,
}


@dataclass(frozen=True)
class Condition:
    """A measure compared with a constant, or with another measure."""

    measured: Measured
    op: str
    than: float | str | tuple[float, float] | Measured


@dataclass(frozen=True)
class Text:
    """Plain Markdown between directives."""

    markdown: str
    line: int


@dataclass(frozen=True)
class Try:
    """A button that sets controls of the lab."""

    label: str
    settings: Mapping[str, Any]
    line: int


@dataclass(frozen=True)
class Ranking:
    """Options with a score each, computed by one measure; ``choose`` of the best are the answer."""

    options: Mapping[str, Mapping[str, Any]]
    score: Measured
    best: Literal["highest", "lowest"] = "highest"
    ties: float = 0.0
    choose: int = 1


@dataclass(frozen=True)
class Predict:
    """A guess to commit before the truth is computed. ``settings`` None: the lab's present ones."""

    id: str
    question: str
    kind: Literal["number", "layer", "choice", "token"]
    truth: Measured | Ranking
    options: tuple[str, ...]
    settings: Mapping[str, Any] | None
    scale: float
    unit: str
    reveal: str
    line: int


@dataclass(frozen=True)
class See:
    """What the learner should see, and a verdict on whether it holds here."""

    id: str
    text: str
    verdict: Condition
    settings: Mapping[str, Any] | None
    yes: str
    no: str
    line: int


Answer = float | str | list[str] | dict[str, Any]


@dataclass(frozen=True)
class Check:
    """A question graded by running the model; exactly the fields of its kind are set."""

    id: str
    kind: Literal["number", "choice", "find-prompt", "budget"]
    question: str
    settings: Mapping[str, Any] | None
    hints: tuple[str, ...]
    why: str
    passes: Answer
    fails: Answer
    line: int
    truth: Measured | None = None
    tolerance: float = 0.0
    relative: float = 0.0
    unit: str = ""
    ranking: Ranking | None = None
    conditions: tuple[Condition, ...] = ()
    cost: Measured | None = None
    budget: float = 0.0


@dataclass(frozen=True)
class Mislead:
    """How a figure could mislead, with a control run whose number stands beside the real one."""

    id: str
    label: str
    text: str
    measured: Measured
    control: Mapping[str, Any]
    settings: Mapping[str, Any] | None
    reads: str
    line: int


@dataclass(frozen=True)
class Hint:
    """More on demand; ``id`` counts it once."""

    id: str
    label: str
    markdown: str
    line: int


Block = Text | Try | Predict | See | Check | Mislead | Hint


@dataclass(frozen=True)
class Step:
    """One ``## `` of a lesson; ``id`` is its heading in small letters with hyphens."""

    id: str
    title: str
    blocks: tuple[Block, ...]
    line: int


@dataclass(frozen=True)
class Lesson:
    """A whole lesson; ``id`` is the file's name."""

    id: str
    title: str
    question: str
    minutes: int
    difficulty: int
    before: tuple[str, ...]
    sources: tuple[str, ...]
    settings: Mapping[str, Any]
    intro: tuple[Block, ...]
    steps: tuple[Step, ...]

    def blocks(self) -> Iterator[Block]:
        """Every block, in order."""
        yield from self.intro
        for step in self.steps:
            yield from step.blocks

    def measured(self) -> Iterator[tuple[Measured, Mapping[str, Any]]]:
        """Every use of a measure, with whatever else an option or a control run adds to it."""
        for block in self.blocks():
            yield from _measured(block)


def _measured(block: Block) -> Iterator[tuple[Measured, Mapping[str, Any]]]:
    if isinstance(block, See):
        yield from _of_condition(block.verdict)
    elif isinstance(block, Mislead):
        yield block.measured, block.control
    elif isinstance(block, Predict):
        yield from _of_truth(block.truth)
    elif isinstance(block, Check):
        for truth in (block.truth, block.cost, block.ranking):
            if truth is not None:
                yield from _of_truth(truth)
        for condition in block.conditions:
            yield from _of_condition(condition)


def _of_truth(truth: Measured | Ranking) -> Iterator[tuple[Measured, Mapping[str, Any]]]:
    if isinstance(truth, Measured):
        yield truth, {}
    else:
        for given in truth.options.values():
            yield truth.score, given


def _of_condition(condition: Condition) -> Iterator[tuple[Measured, Mapping[str, Any]]]:
    yield condition.measured, {}
    if isinstance(condition.than, Measured):
        yield condition.than, {}


__all__ = [
    "OPERATORS",
    "Answer",
    "Block",
    "Check",
    "Condition",
    "Hint",
    "Lesson",
    "LessonError",
    "Measured",
    "Mislead",
    "Predict",
    "Ranking",
    "See",
    "Step",
    "Text",
    "Try",
    "Value",
]
