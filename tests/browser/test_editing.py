"""A visitor at the editing lab, in a real browser."""

from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE_MS
from tests.browser.test_accessibility import TALL, grave

expect.set_options(timeout=PATIENCE_MS)
IDLE = '[data-test-script-state="notRunning"]'


def opened(there, **settings):
    there.open("/editing?" + urlencode(settings))
    there.page.wait_for_selector("text=/^Provenance: model/")
    there.page.wait_for_selector(IDLE)
    return there.page


def begin_edit(page):
    page.get_by_role("button", name="Edit", exact=True).click()


def made(page, new):
    page.wait_for_selector("text=/1 edit of this visit holds/")
    expect(page.get_by_text("With your edits")).to_contain_text(f"·{new}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_edit_is_made_and_undone(visit, scheme):
    """Forbids an edit that does not arrive on the page, a ledger that assistive technology cannot
    use, and an undo that leaves something."""
    there = visit(color_scheme=scheme, height=TALL)
    page = opened(there, view="numbers", steps="8")
    begin_edit(page)
    made(page, "Rome")
    page.wait_for_selector("text=Whom will it disturb?")
    page.wait_for_selector(IDLE)
    assert grave(page) == []
    page.get_by_role("button", name="Undo", exact=True).click()
    expect(page.get_by_text("Your edits: none yet")).to_be_visible()
    expect(page.get_by_text("With your edits")).to_have_count(0)


def test_two_visitors_believe_different_things(visit):
    """Forbids one visitor's edit in the other's lab, and a lens that does not look into it."""
    first, second = visit(), visit()
    pages = {
        new: opened(there, new=new, steps="8")
        for new, there in (("Rome", first), ("London", second))
    }
    # Both are begun before either is waited for.
    for page in pages.values():
        begin_edit(page)
    for new, page in pages.items():
        made(page, new)
    page = pages["Rome"]
    page.wait_for_selector(IDLE)
    page.get_by_text("My edits in every lab").click()
    page.wait_for_selector("text=Every lab looks into the model with your 1 edit")
    page.get_by_role("link", name="Logit and tuned lens").click()
    first.grid()
    expect(page.locator(".lens .title").first).to_contain_text("tiny-world with 1 edit")
    second.open("/logit-lens")
    second.grid()
    expect(second.page.locator(".lens .title").first).not_to_contain_text("edit")
