"""A lesson in a real browser: what a click reruns, terms by keyboard, progress as a file."""

import json
import sys

import pytest
from playwright.sync_api import expect

from scripts.lab import ROOT, serving

DEMO = ROOT / "tests" / "app" / "lesson_demo.py"
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def demo():
    """The address of the tests' own lesson."""
    with serving([sys.executable, "-m", "streamlit", "run", str(DEMO)]) as address:
        yield address


@pytest.fixture
def lesson(chromium, demo):
    """``lesson("?step=1")``: a page on it, its lab drawn."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(PATIENCE_MS)
    mistakes: list[str] = []

    def opened(query=""):
        page = context.new_page()
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.goto(demo + query)
        page.wait_for_selector("text=Lab drawn 1 times")
        # A click while the first run still sends is refused by Streamlit's own front end.
        page.wait_for_selector('[data-test-script-state="notRunning"]')
        return page

    yield opened
    context.close()
    assert mistakes == []


def test_a_piece_of_the_lesson_reruns_without_the_lab(lesson):
    """Forbids a guess, a hint or a turned page that draws the whole lab anew."""
    page = lesson("?step=1")
    page.get_by_label("Your guess, in tokens").fill("7")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=score 0.50 of 1")
    page.wait_for_selector("text=/1 prediction, mean score/")
    page.get_by_role("button", name="Next: Show").click()
    page.get_by_role("button", name="Hint 1 of 2").click()
    page.wait_for_selector("text=Count the words.")
    page.wait_for_selector("text=/1 hint opened/")
    assert page.locator("text=Lab drawn 1 times").is_visible()


def test_try_sets_controls_address_and_verdict_without_a_page_load(lesson):
    """Forbids a control that Python has set and the browser does not show."""
    page = lesson("?step=1")
    page.wait_for_selector("text=/It has 6, asked for 6/")
    page.evaluate("window.same = true")
    page.get_by_role("button", name="Read what attention adds").click()
    page.wait_for_selector("text=Lab drawn 2 times")
    page.wait_for_function("location.search.includes('site=attn_out')")
    assert page.get_by_label("Prompt", exact=True).input_value() == "The capital of Japan is"
    assert page.evaluate("window.same")
    page.get_by_label("Prompt", exact=True).fill("Paris is")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=/Not on this prompt: 3/")


def test_the_link_beside_it_opens_the_same_lab(lesson):
    """Forbids a link to copy that leads elsewhere than its button."""
    link = lesson("?step=1").get_by_role("link", name="link", exact=True)
    page = lesson(link.get_attribute("href"))
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("The capital of Japan is")


def test_a_term_opens_by_keyboard_and_closes_by_escape(lesson):
    """Forbids a definition that needs a mouse, or that cannot be put away."""
    page = lesson()
    term = page.get_by_role("button", name="blocks")
    definition = page.locator(f"#{term.get_attribute('popovertarget')}")
    assert not definition.is_visible()
    term.focus()
    page.keyboard.press("Enter")
    assert definition.is_visible()
    page.keyboard.press("Escape")
    assert not definition.is_visible()
    term.hover()
    definition.wait_for(state="visible")
    assert term.get_attribute("aria-describedby") == definition.get_attribute("id")


def test_progress_goes_into_a_file_and_comes_back(lesson, tmp_path):
    """Forbids progress that ends with the visit although the learner saved it."""
    page = lesson("?step=1")
    page.get_by_label("Your guess, in tokens").fill("7")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=score 0.50 of 1")
    page.get_by_text("Keep it, or bring it back").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save my progress").click()
    saved = tmp_path / "mine.json"
    download.value.save_as(saved)
    assert "n-tokens" in json.loads(saved.read_text())["lessons"]["lesson_demo"]["predictions"]
    later = lesson("?step=1")
    later.get_by_text("Keep it, or bring it back").click()
    later.locator('input[type="file"]').set_input_files(saved)
    later.wait_for_selector("text=score 0.50 of 1")
    later.wait_for_selector("text=/1 prediction, mean score/")


def test_the_notebook_can_be_taken_home(lesson, tmp_path):
    """Forbids a button whose file is no notebook."""
    page = lesson()
    with page.expect_download() as download:
        page.get_by_role("button", name="This lesson as a notebook").click()
    file = tmp_path / "lesson.ipynb"
    download.value.save_as(file)
    assert json.loads(file.read_text())["nbformat"] == 4
