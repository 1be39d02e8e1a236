"""What lesson 1 measures, and its worked answers."""

import contextlib
import io

import pytest

from app.lesson import load_lesson
from app.lesson.evaluate import Bench, control, grade, runner, truth, worked
from app.lesson.format import Check, Mislead, Predict, See, Try
from app.lesson.measures import measures
from app.syllabus import LABS
from app.transformer_lab import measures as glass
from app.transformer_lab.settings import Settings
from app.transformer_lab.snippet import transformer_code
from lens_core.glass import forward_steps, glass_model, parse_edits, with_edits

ONE_WEIGHT = "W_K[1,0,15,4]=30"


@pytest.fixture(scope="module")
def model():
    return glass_model()


@pytest.fixture(scope="module")
def lesson():
    return load_lesson("transformer", measures=measures())


@pytest.fixture
def bench(lesson, model):
    return Bench(lesson, runner(model), {})


def blocks(lesson, kind):
    return [
        b
        for part in (lesson.intro, *(s.blocks for s in lesson.steps))
        for b in part
        if isinstance(b, kind)
    ]


def test_the_lesson_has_all_that_a_lesson_needs(lesson):
    """Forbids a lesson that has lost a piece of the contract, or grown past 1,200 words."""
    assert len(blocks(lesson, Predict)) >= 1
    assert len(blocks(lesson, See)) >= 2
    assert len(blocks(lesson, Check)) >= 2
    assert len(blocks(lesson, Try)) >= 3
    assert len(blocks(lesson, Mislead)) >= 1
    assert lesson.sources
    said = []
    for part in (lesson.intro, *(step.blocks for step in lesson.steps)):
        for block in part:
            for field in ("markdown", "label", "question", "reveal", "text", "yes", "no", "why"):
                said += str(getattr(block, field, None) or "").split()
            said += " ".join(getattr(block, "hints", None) or ()).split()
    assert len(said) <= 1200


def test_every_try_names_a_cell_that_is_there(lesson, model):
    """Forbids a button that sends the learner to a tensor, row or column that does not exist."""
    for block in blocks(lesson, Try):
        settings = {**lesson.settings, **block.settings}
        if settings["machine"] != "glass":
            continue
        edited = with_edits(model, parse_edits(settings["edits"]))
        step = forward_steps(edited, settings["sentence"])[settings["tensor"]]
        if "column" in block.settings:
            assert settings["column"] in step.columns, block.label
            assert 0 <= settings["row"] < step.grid().shape[0], block.label


def test_predictions_have_the_truths_that_the_text_tells(lesson, bench):
    """Forbids a reveal whose explanation belongs to another answer."""
    truths = {block.id: truth(bench, block) for block in blocks(lesson, Predict)}
    assert truths == {"what-token-2-sees": 3, "habit-or-copy": "ant"}


def test_worked_answers_pass_and_wrong_ones_do_not(lesson, bench):
    """Forbids a check that no answer passes, or that any does."""
    for check in blocks(lesson, Check):
        assert grade(bench, check, worked(bench, check, check.passes)).passed, check.id
        assert not grade(bench, check, worked(bench, check, check.fails)).passed, check.id


def test_the_logit_can_be_worked_out_from_the_numbers_in_the_question(lesson):
    """Forbids a question whose own numbers lead elsewhere."""
    check = next(c for c in blocks(lesson, Check) if c.id == "one-logit")
    for shown in ("8.339", "0.174", "5.114"):
        assert shown in check.question
    by_hand = (8.339 - 0.174) / 5.114**0.5 * 2
    assert by_hand == pytest.approx(check.passes, abs=0.01)


def test_the_caveats_differ_from_their_controls_as_the_text_says(lesson, bench):
    """Forbids a caveat that its own control does not bear out."""
    dogs, factor = (control(bench, block) for block in blocks(lesson, Mislead))
    assert dogs[0] < 0.1 < 0.4 < dogs[1]
    assert factor[0] == pytest.approx(factor[1], abs=1e-3)


def test_one_weight_makes_the_model_copy_its_first_word(model):
    """Forbids a budget that cannot be met, or that the untouched model meets."""
    assert glass.glass_copies_first(model, {}) < 0.5
    assert glass.glass_copies_first(model, {"edits": ONE_WEIGHT}) == 1
    assert glass.glass_changed_weights(model, {"edits": ONE_WEIGHT}) == 1
    twice = f"{ONE_WEIGHT}; {ONE_WEIGHT}"
    assert glass.glass_changed_weights(model, {"edits": twice}) == 1


def test_measures_are_of_the_glass_model_whatever_model_is_chosen(model, gpt2):
    """Forbids a lesson that grades a visitor's GPT-2 by the glass model's circuit."""
    settings = {"sentence": "ant bee cat ant"}
    assert glass.glass_next(gpt2.hooked, settings) == glass.glass_next(model, settings) == "bee"
    assert glass.glass_previous(model, settings) > 0.9
    assert glass.glass_rest(model, {"sentence": "cat ant bee"}) > 0.9
    assert glass.glass_sees(model, settings, position=3) == 4


@pytest.mark.parametrize(
    "settings",
    [
        Settings(tensor="pattern.1", row=4, column="2 bee"),
        Settings(tensor="logits", row=4, column="bee", edits="W_O[1,0,1,11]=6", factor=3.0),
        Settings(sentence='"; import os #', tensor="embed", row=1, column="is ?"),
    ],
)
def test_the_code_gives_the_pages_number(settings, model):
    """Forbids *Show the code* that is long, does not run, or prints another number."""
    code = transformer_code(settings)
    assert len(code.splitlines()) <= 40
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "snippet", "exec"), {})
    printed = float(out.getvalue().split("value:")[1].split()[0])
    shown = glass.glass_number(
        model,
        settings.as_dict(),
        at=settings.tensor,
        position=settings.row,
        name=settings.column,
    )
    assert printed == pytest.approx(shown, abs=1e-6)


def test_lesson_one_comes_before_the_lens():
    """Forbids a course in which the lens is taught before what it looks into."""
    pages = [lab.page for lab in LABS]
    assert pages.index("transformer") < pages.index("logit_lens")
