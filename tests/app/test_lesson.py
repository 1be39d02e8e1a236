"""A lesson on the page: its pieces, what they rerun, what is kept of them."""

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.lesson import progress, state

DEMO = str(Path(__file__).with_name("lesson_demo.py"))
START = "The Eiffel Tower is in"


@pytest.fixture
def open_lesson():
    """``open_lesson(step="1")``: the tests' lesson as that address opens it."""

    def opened(**params):
        at = AppTest.from_file(DEMO, default_timeout=120)
        at.query_params.update(params)
        return at.run()

    return opened


def texts(at):
    found = [*at.markdown, *at.caption, *at.success, *at.warning, *at.error, *at.info]
    return " ".join(element.value for element in found)


def press(at, label, n=0):
    return [button for button in at.button if button.label == label][n].click().run()


def clean(at):
    assert not at.exception
    assert not at.error
    return texts(at)


@pytest.mark.parametrize("step", ["", "1", "2", "3", "99", "<b>"])
def test_every_step_opens_from_its_address(open_lesson, step):
    """Forbids a step that fails, and an address that breaks the page."""
    at = open_lesson(**({"step": step} if step else {}))
    clean(at)
    expected = {"1": "Look and guess", "2": "Show what you found"}.get(step)
    assert expected is None or expected in [header.value for header in at.header]
    assert at.title[0].value == "A demonstration"


def test_pages_are_turned_by_buttons(open_lesson):
    """Forbids a lesson that stops at its first step."""
    at = open_lesson()
    press(at, "Next: Look and guess")
    assert [header.value for header in at.header] == ["Look and guess", "Your progress"]
    press(at, "Back")
    assert [header.value for header in at.header] == ["Your progress"]


def test_headings_go_one_level_at_a_time(open_lesson):
    """Forbids a page that a screen reader cannot find its way through."""
    at = open_lesson(step="1")
    assert (len(at.title), len(at.header), len(at.subheader)) == (1, 2, 0)
    assert "### Deeper" in texts(at)


def test_a_guess_is_committed_and_revealed_with_its_score(open_lesson):
    """Forbids a truth that is told before the guess, and a guess that can be changed after it."""
    at = open_lesson(step="1")
    assert "there are" not in texts(at)
    at.number_input(key="lesson-predict-lesson_demo-n-tokens-guess").set_value(7)
    press(at, "Commit my guess")
    said = clean(at)
    assert "You said **7**; there are **9**." in said
    assert "score 0.50 of 1" in said
    assert "**1** prediction, mean score **0.50**" in said
    kept = at.session_state["lesson_progress"]["lesson_demo"]["predictions"]["n-tokens"]
    assert kept == {"guess": 7, "truth": 9, "score": 0.5, "model": "tiny-world"}


def test_an_empty_guess_is_no_guess(open_lesson):
    """Forbids a prediction that is lost because a button was pressed too soon."""
    at = press(open_lesson(step="1"), "Commit my guess")
    assert "there are" not in clean(at)


def test_try_sets_the_controls_and_gives_a_link(open_lesson):
    """Forbids a link that only works by hand, and one that reloads the page."""
    at = open_lesson(step="1")
    assert "](?site=attn_out&prompt=The+capital+of+Japan+is" in texts(at)
    press(at, "Read what attention adds")
    clean(at)
    assert at.text_input(key="prompt").value == "The capital of Japan is"
    assert at.selectbox(key="site").value == "attn_out"


def test_a_verdict_follows_the_lab(open_lesson):
    """Forbids a verdict that is about another prompt than the one in the lab."""
    at = open_lesson(step="1", prompt=START)
    assert "It has 6, asked for 6" in clean(at)
    at.text_input(key="prompt").set_value("Paris is").run()
    assert "Not on this prompt: 3" in clean(at)
    at.text_input(key="prompt").set_value("").run()
    assert "once the lab shows it" in clean(at)


def test_checks_are_graded_and_hints_counted(open_lesson):
    """Forbids a check that passes without an answer, and hints that cost nothing to count."""
    at = open_lesson(step="2")
    at.number_input(key="lesson-check-lesson_demo-count-answer").set_value(3)
    press(at, "Check")
    assert "Not yet. Too low" in clean(at)
    press(at, "Hint 1 of 2")
    assert "Count the words." in clean(at)
    assert "1 hint opened" in texts(at)
    at.number_input(key="lesson-check-lesson_demo-count-answer").set_value(9)
    press(at, "Check")
    said = clean(at)
    assert "Right. The model gives 9 tokens" in said
    assert "Every word here is one token." in said
    assert "**1 of 4** checks passed" in said


def test_a_prompt_that_the_model_cannot_read_is_one_sentence(open_lesson):
    """Forbids a traceback for a learner's own text."""
    at = open_lesson(step="3", prompt=START)
    at.text_input(key="prompt").set_value("house " * 300).run()
    press(at, "Run the control")
    assert not at.exception
    assert "Something went wrong" not in texts(at)


def test_hostile_text_stays_text(open_lesson):
    """Forbids a prompt that becomes Markdown or HTML of the lesson."""
    at = open_lesson(step="2")
    hostile = "![x](https://evil.example/p.png) <img src=x onerror=alert(1)>"
    at.text_input(key="lesson-check-lesson_demo-short-answer").set_value(hostile)
    press(at, "Check", 2)
    said = clean(at)
    assert "Not yet." in said
    assert "evil" not in said


def test_the_control_run_stands_beside_the_real_number(open_lesson):
    """Forbids a caveat without its evidence."""
    at = press(open_lesson(step="3", prompt=START), "Run the control")
    clean(at)
    assert [metric.value for metric in at.metric] == ["6", "4"]
    assert "**1 of 3** steps done" in texts(at)


def test_terms_are_buttons_that_describe_themselves(open_lesson):
    """Forbids a definition that only a mouse can reach."""
    [intro] = [m for m in open_lesson().markdown if "residual stream" in m.value]
    assert 'popovertarget="' in intro.value
    assert intro.value.count("aria-describedby") == intro.value.count('popover="auto"') == 2


def test_saved_progress_is_opened_and_a_bad_file_is_refused(open_lesson):
    """Forbids progress lost by an upload, and a traceback for the wrong file."""
    at = open_lesson(step="1")
    at.number_input(key="lesson-predict-lesson_demo-n-tokens-guess").set_value(7)
    press(at, "Commit my guess")
    saved = progress.dump(at.session_state["lesson_progress"]).encode()
    other = open_lesson(step="1")
    other.get("file_uploader")[0].upload("mine.json", saved, "application/json").run()
    assert "Welcome back" in clean(other)
    assert "there are **9**" in texts(other)
    other.get("file_uploader")[0].upload("bad.json", b"{", "application/json").run()
    assert not other.exception
    assert "nothing was changed" in other.error[0].value.replace("\\", "")
    kept = other.session_state["lesson_progress"]
    assert json.loads(saved)["lessons"] == kept


def test_a_measure_is_run_once_for_all(open_lesson, monkeypatch):
    """Forbids the model being run anew for each visitor who asks the same."""
    state._run.clear()
    open_lesson(step="1", prompt=START)
    monkeypatch.setattr("app.lesson.state.measures", lambda: pytest.fail("a measure was run anew"))
    assert "It has 6, asked for 6" in clean(open_lesson(step="1", prompt=START))


def test_an_empty_answer_is_asked_for(open_lesson):
    """Forbids a button that does nothing and does not say why."""
    at = open_lesson(step="1")
    press(at, "Commit my guess")
    assert [info.value for info in at.info] == ["Give an answer first."]
    at.number_input(key="lesson-predict-lesson_demo-n-tokens-guess").set_value(0)
    press(at, "Commit my guess")
    assert not at.info
    assert "You said **0**" in clean(at)
