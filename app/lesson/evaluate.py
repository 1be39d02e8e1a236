"""Measures run, guesses scored, answers graded: all that a lesson computes, without Streamlit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.lesson.format import (
    OPERATORS,
    Answer,
    Check,
    Condition,
    Lesson,
    Measured,
    Mislead,
    Predict,
    Ranking,
    See,
)
from app.lesson.measures import Measure, Value, measures

# run(measure, settings, arguments): how a measure is run; the page's one remembers results.
Run = Callable[[Measure, Mapping[str, Any], Mapping[str, Any]], Value]


def runner(model: Any) -> Run:
    """Runs measures on this model, each time anew."""
    return lambda measure, settings, given: measure.fn(model, settings, **given)


@dataclass(frozen=True)
class Bench:
    """A lesson's measures on one model: ``present`` are the lab's settings as they stand."""

    lesson: Lesson
    run: Run
    present: Mapping[str, Any]

    def settings(self, own: Mapping[str, Any] | None) -> dict[str, Any]:
        """The lesson's start settings with a directive's own, or where it has none the lab's."""
        return {**self.lesson.settings, **(self.present if own is None else own)}

    def value(
        self,
        measured: Measured,
        own: Mapping[str, Any] | None,
        more: Mapping[str, Any] | None = None,
    ) -> Value:
        """The measure's value; ``more`` overrules what is written beside it."""
        measure = measures()[measured.name]
        given = {**measured.given, **(more or {})}
        arguments = {name: v for name, v in given.items() if name in measure.takes}
        overlay = {name: v for name, v in given.items() if name not in measure.takes}
        return self.run(measure, {**self.settings(own), **overlay}, arguments)


def holds(
    bench: Bench, condition: Condition, own: Mapping[str, Any] | None
) -> tuple[bool, Value, Value]:
    """Whether the condition holds, the measure's value, and what it was compared with."""
    value = bench.value(condition.measured, own)
    than: Any = condition.than
    if isinstance(than, Measured):
        than = bench.value(than, own)
    return compare(value, condition.op, than), value, than


def compare(value: Any, op: str, than: Any) -> bool:
    """``value op than``; what cannot be compared, such as None with a number, does not hold."""
    if isinstance(value, str) and isinstance(than, str):
        value, than = value.strip(), than.strip()
    if op == "contains" and isinstance(value, list):
        value = [item.strip() if isinstance(item, str) else item for item in value]
    try:
        return bool(OPERATORS[op](value, than))
    except TypeError:
        return False


def verdict(bench: Bench, see: See) -> tuple[bool, Value, Value]:
    """A See's verdict on the present prompt."""
    return holds(bench, see.verdict, see.settings)


def control(bench: Bench, mislead: Mislead) -> tuple[Value, Value]:
    """The real value and the control run's."""
    real = bench.value(mislead.measured, mislead.settings)
    return real, bench.value(mislead.measured, mislead.settings, mislead.control)


def ranked(bench: Bench, ranking: Ranking, own: Mapping[str, Any] | None) -> dict[str, float]:
    """The options with their scores, best first. Raises ValueError where a score is no number."""
    scores: dict[str, float] = {}
    for label, given in ranking.options.items():
        score = bench.value(ranking.score, own, given)
        if not isinstance(score, int | float):
            raise ValueError(f"{ranking.score.name} gives no number for {label}")
        scores[label] = float(score)
    return dict(sorted(scores.items(), key=lambda item: item[1], reverse=ranking.best == "highest"))


def best_options(scores: Mapping[str, float], ranking: Ranking) -> list[str]:
    """The options that are right: at least as good as the last of the best, ties among them."""
    last = list(scores.values())[ranking.choose - 1]
    sign = 1 if ranking.best == "highest" else -1
    return [label for label, score in scores.items() if sign * (score - last) >= -ranking.ties]


def truth(bench: Bench, predict: Predict) -> Value:
    """What a guess is compared with; a list where several options are right."""
    if isinstance(predict.truth, Ranking):
        scores = ranked(bench, predict.truth, predict.settings)
        best = best_options(scores, predict.truth)
        return best[0] if len(best) == 1 else best
    return bench.value(predict.truth, predict.settings)


def score(predict: Predict, guess: float | str, true: Value) -> float:
    """From 0 to 1: by the distance for numbers and layers, right or wrong for the rest."""
    if predict.kind in ("number", "layer"):
        if not isinstance(true, int | float) or math.isnan(true):
            return 0.0
        return max(0.0, 1.0 - abs(float(guess) - true) / predict.scale)
    right = true if isinstance(true, list) else [true]
    return float(str(guess).strip() in [str(one).strip() for one in right])


@dataclass(frozen=True)
class Grade:
    """Whether an answer passes, and in words what was measured."""

    passed: bool
    said: str


def grade(bench: Bench, check: Check, answer: Answer) -> Grade:
    """Grade an answer by running the model. Raises what the model raises for it."""
    graders = {
        "number": _grade_number,
        "choice": _grade_choice,
        "find-prompt": _grade_prompt,
        "budget": _grade_budget,
    }
    return graders[check.kind](bench, check, answer)


def worked(bench: Bench, check: Check, answer: Answer) -> Answer:
    """A worked answer with ``truth`` and ``worst`` replaced by what they stand for here."""
    if check.truth is not None and answer == "truth":
        number = bench.value(check.truth, check.settings)
        assert isinstance(number, int | float)
        return float(number)
    if check.ranking is not None and answer in ("truth", "worst"):
        labels = list(ranked(bench, check.ranking, check.settings))
        n = check.ranking.choose
        return labels[:n] if answer == "truth" else labels[-n:]
    return answer


def _grade_number(bench: Bench, check: Check, answer: Answer) -> Grade:
    assert check.truth is not None
    true = bench.value(check.truth, check.settings)
    if not isinstance(answer, int | float) or not isinstance(true, int | float):
        return Grade(False, "There is no number to compare with here.")
    allowed = max(check.tolerance, check.relative * abs(true))
    unit = f" {check.unit}" if check.unit else ""
    if abs(answer - true) <= allowed * (1 + 1e-9):
        return Grade(True, f"The model gives {shown(true)}{unit}.")
    way = "low" if answer < true else "high"
    return Grade(False, f"Too {way}, by more than {shown(allowed)}{unit}.")


def _grade_choice(bench: Bench, check: Check, answer: Answer) -> Grade:
    assert check.ranking is not None
    chosen = answer if isinstance(answer, list) else [str(answer)]
    scores = ranked(bench, check.ranking, check.settings)
    best = best_options(scores, check.ranking)
    passed = len(set(chosen)) == check.ranking.choose and set(chosen) <= set(best)
    measured = "; ".join(f"{label}: {shown(scores[label])}" for label in chosen if label in scores)
    if passed:
        return Grade(True, f"Measured: {measured}.")
    return Grade(False, f"Measured: {measured}. There is one that is {_better(check.ranking)}.")


def _better(ranking: Ranking) -> str:
    return "higher" if ranking.best == "highest" else "lower"


def _grade_prompt(bench: Bench, check: Check, answer: Answer) -> Grade:
    own = {**(check.settings or {}), "prompt": str(answer)}
    return _grade_conditions(bench, check, own)


def _grade_budget(bench: Bench, check: Check, answer: Answer) -> Grade:
    assert check.cost is not None
    changed = answer if isinstance(answer, dict) else {}
    own = {**bench.settings(None), **(check.settings or {}), **changed}
    reached = _grade_conditions(bench, check, own)
    cost = bench.value(check.cost, own)
    within = compare(cost, "<=", check.budget)
    return Grade(
        reached.passed and within,
        f"{reached.said} Spent {shown(cost)} of {shown(check.budget)}.",
    )


def _grade_conditions(bench: Bench, check: Check, own: Mapping[str, Any]) -> Grade:
    results = [holds(bench, condition, own) for condition in check.conditions]
    said = [
        f"Measured {shown(value)}, asked for {condition.op} {shown_than(than)}."
        for condition, (_, value, than) in zip(check.conditions, results, strict=True)
    ]
    return Grade(all(ok for ok, _, _ in results), " ".join(said))


def shown(value: Any) -> str:
    """A value in words: three digits, ``nothing`` for None."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e6 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value)
    return str(value).strip()


def shown_than(than: Any) -> str:
    """The other side of a comparison: two bounds as ``0.2 to 0.5``."""
    if isinstance(than, tuple):
        return " to ".join(shown(bound) for bound in than)
    return shown(than)


def shown_layer(value: Any) -> str:
    """A block in words, -1 being the embedding and None no block at all."""
    if value is None:
        return "no block"
    return "the embedding" if int(value) < 0 else f"block {int(value)}"
