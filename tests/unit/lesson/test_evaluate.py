"""Guesses scored and answers graded, on measures whose values are known."""

import dataclasses

import pytest

from app.lesson.evaluate import (
    Bench,
    compare,
    control,
    grade,
    runner,
    score,
    shown,
    truth,
    verdict,
    worked,
)
from app.lesson.format import Check, Mislead, Predict, See


class Words:
    """A model that splits at spaces and has a start token."""

    def to_tokens(self, text):
        import torch

        return torch.zeros(1, 1 + len(text.split()), dtype=torch.long)


@pytest.fixture
def bench(demo):
    return Bench(demo, runner(Words()), {})


def block(demo, name):
    return next(b for b in demo.blocks() if getattr(b, "id", None) == name)


@pytest.mark.parametrize("name", ["count", "pick", "short", "cheap"])
def test_each_kind_of_check_is_graded(bench, demo, name):
    """Forbids a grader that passes everything, or nothing."""
    check = block(demo, name)
    assert isinstance(check, Check)
    assert grade(bench, check, worked(bench, check, check.passes)).passed
    assert not grade(bench, check, worked(bench, check, check.fails)).passed


def test_ties_are_right_answers(bench, demo):
    """Forbids one of two equal options being called wrong."""
    check = block(demo, "pick")
    tied = dataclasses.replace(check.ranking, choose=1)
    single = dataclasses.replace(check, ranking=tied)
    assert grade(bench, single, "three letters").passed
    assert grade(bench, single, "also three").passed
    assert not grade(bench, single, "two letters").passed
    near = dataclasses.replace(single, ranking=dataclasses.replace(tied, ties=1.0))
    assert grade(bench, near, "two letters").passed


@pytest.mark.parametrize(("answer", "passed"), [(8.5, True), (9.5, True), (9.6, False)])
def test_a_number_passes_within_its_tolerance(bench, demo, answer, passed):
    """Forbids a tolerance that is not the one written; the prompt has 8 words and a start."""
    assert grade(bench, block(demo, "count"), answer).passed is passed


def test_a_wrong_number_does_not_give_the_answer_away(bench, demo):
    """Forbids a check that tells its truth before it is solved."""
    said = grade(bench, block(demo, "count"), 20).said
    assert "high" in said
    assert "9" not in said


def test_a_budget_is_graded_on_the_lab_as_it_stands(demo):
    """Forbids grading the lesson's start settings in place of the learner's work."""
    check = block(demo, "cheap")
    assert grade(Bench(demo, runner(Words()), {"prompt": "Paris"}), check, {}).passed
    assert not grade(Bench(demo, runner(Words()), {}), check, {}).passed


def test_own_settings_stand_on_the_lessons_and_none_means_the_labs(demo):
    """Forbids a fixed question whose truth changes with the lab, and a verdict that does not."""
    bench = Bench(demo, runner(Words()), {"prompt": "one two"})
    assert truth(bench, block(demo, "n-tokens")) == 9
    assert verdict(bench, block(demo, "many"))[:2] == (False, 3)
    mislead = next(b for b in demo.blocks() if isinstance(b, Mislead))
    assert control(bench, mislead) == (3, 4)


def test_measures_can_be_compared_with_each_other(bench, demo):
    """Forbids `than` being ignored."""
    see = block(demo, "than")
    assert isinstance(see, See)
    assert verdict(bench, see) == (True, 3, 2)


@pytest.mark.parametrize(
    ("guess", "true", "expected"),
    [(9, 9, 1.0), (7, 9, 0.5), (20, 9, 0.0), (3, None, 0.0), (3, float("nan"), 0.0)],
)
def test_a_number_scores_by_its_distance(demo, guess, true, expected):
    """Forbids a score outside 0 to 1, and an error where there is no truth."""
    assert score(block(demo, "n-tokens"), guess, true) == expected


def test_a_choice_scores_right_or_wrong(demo):
    """Forbids partial credit, and spaces that make a right word wrong."""
    predict = block(demo, "longest")
    assert isinstance(predict, Predict)
    assert score(predict, "a long one", " a long one") == 1
    assert score(predict, "a short one", ["a long one", "a short one"]) == 1
    assert score(predict, "a short one", "a long one") == 0


@pytest.mark.parametrize(
    ("value", "op", "than", "holds"),
    [
        (0.5, ">=", 0.5, True),
        (None, ">=", 0.5, False),
        (" Paris", "==", "Paris", True),
        (" Paris", "!=", "Paris", False),
        ([" Paris", "Rome"], "contains", "Paris", True),
        (0.3, "in", (0.2, 0.5), True),
        (0.6, "in", (0.2, 0.5), False),
    ],
)
def test_comparisons(value, op, than, holds):
    """Forbids an error where a measure has no value, and a leading space that matters."""
    assert compare(value, op, than) is holds


def test_values_are_shown_in_three_digits():
    """Forbids a learner having to read 0.6219384."""
    assert [shown(v) for v in (0.6219384, 7, None, [" a", 2.0], " Paris")] == [
        "0.622",
        "7",
        "nothing",
        "a, 2",
        "Paris",
    ]
