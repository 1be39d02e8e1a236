"""Every lesson on the shipped model: its measures run, its worked answers pass and fail."""

import pytest

from app.lesson import lesson_names, load_lesson
from app.lesson.evaluate import (
    Bench,
    control,
    grade,
    ranked,
    runner,
    score,
    truth,
    verdict,
    worked,
)
from app.lesson.format import Check, Mislead, Predict, Ranking, See

LESSONS = {name: load_lesson(name) for name in lesson_names()}


def pieces(kind):
    """Each block of that kind, with its lesson's name, as test parameters."""
    found = [
        (name, block)
        for name, lesson in LESSONS.items()
        for block in lesson.blocks()
        if isinstance(block, kind)
    ]
    return [pytest.param(name, block, id=f"{name}-{block.id}") for name, block in found]


@pytest.fixture
def bench_of(tiny_world, registered):
    """``bench_of("logit-lens")``: that lesson on the shipped model, the lab at its start."""
    assert registered
    return lambda name: Bench(LESSONS[name], runner(tiny_world), {})


@pytest.mark.parametrize(("name", "check"), pieces(Check))
def test_the_worked_answer_passes_and_the_wrong_one_fails(bench_of, name, check):
    """Forbids a check that nobody can pass, or that anything passes."""
    bench = bench_of(name)
    passed = grade(bench, check, worked(bench, check, check.passes))
    assert passed.passed, passed.said
    failed = grade(bench, check, worked(bench, check, check.fails))
    assert not failed.passed, failed.said


@pytest.mark.parametrize(("name", "predict"), pieces(Predict))
def test_every_truth_can_be_guessed(bench_of, name, predict):
    """Forbids a prediction whose truth is none of its options, or fails to compute."""
    bench = bench_of(name)
    true = truth(bench, predict)
    best = true[0] if isinstance(true, list) else true
    if predict.kind in ("number", "layer"):
        assert best is None or score(predict, best, true) == 1
    else:
        assert score(predict, str(best), true) == 1
    if predict.kind == "choice":
        assert str(best).strip() in predict.options
    if isinstance(predict.truth, Ranking):
        assert len(ranked(bench, predict.truth, predict.settings)) == len(predict.options)
    predict.reveal.format(guess="g", truth="t")


@pytest.mark.parametrize(("name", "see"), pieces(See))
def test_every_verdict_can_be_computed(bench_of, name, see):
    """Forbids a verdict that is an apology."""
    verdict(bench_of(name), see)
    for text in (see.yes, see.no):
        text.format(value="v", than="t")


@pytest.mark.parametrize(("name", "mislead"), pieces(Mislead))
def test_every_control_run_differs_from_the_real_one(bench_of, name, mislead):
    """Forbids a control that controls nothing."""
    real, other = control(bench_of(name), mislead)
    assert real != other
    mislead.reads.format(real="r", control="c")
