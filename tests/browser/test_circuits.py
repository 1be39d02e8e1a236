"""A visitor at the circuit lab, in a real browser."""

from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE_MS
from tests.browser.test_accessibility import TALL, grave

FEW = {"n_prompts": "8", "circuit": "L6H2 L6H4"}


def opened(there, **settings):
    there.open("/circuits?" + urlencode(settings))
    there.page.wait_for_selector("text=/^Provenance: model/")
    there.page.wait_for_selector('[data-test-script-state="notRunning"]')
    return there.page


def test_heads_are_kept_by_click_and_by_key(visit):
    """Forbids a tick that is lost, that the address does not hold, or that needs a mouse."""
    there = visit()
    page = opened(there, n_prompts="8")
    page.wait_for_selector("text=No head is kept yet")
    grid = page.locator('[data-testid="number-grid"][data-ready="true"]')
    grid.locator('td[data-row="6"][data-place="2"]').click()
    page.wait_for_selector("text=/^1 node, F.C./")
    kept = page.locator('[data-testid="number-grid"] td[aria-selected="true"]')
    expect(kept).to_have_count(1, timeout=PATIENCE_MS)
    expect(kept).to_be_focused(timeout=PATIENCE_MS)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=/^2 nodes, F.C./")
    page.wait_for_url("**circuit=L6H2+L6H3**")
    page.wait_for_selector("text=/^Minimality/")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=/^1 node, F.C./")
    page.wait_for_url("**circuit=L6H2")


def test_the_search_is_cancelled_and_the_board_stands(visit):
    """Forbids a *Cancel* that leaves the page stuck, and a board without its controls."""
    page = opened(visit(), view="leaderboard", n_prompts="64", circuit="L6H2 L6H4")
    page.get_by_text("the whole model", exact=True).wait_for()
    page.get_by_text("2 random heads, the best of 4").wait_for()
    page.get_by_role("button", name="Start the search").click()
    page.wait_for_selector("text=/^step [1-9]/")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Start the search").wait_for()
    expect(page.get_by_role("cell", name="found by prune 1")).to_have_count(0)
    page.get_by_role("button", name="Put it on the leaderboard").click()
    page.get_by_role("cell", name="yours 1", exact=True).wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("view", "sign"), [("graph", "The evidence"), ("leaderboard", "place")])
def test_no_serious_fault_in_the_other_views(visit, view, sign, scheme):
    """Forbids text too faint, controls without a name, and a graph that says nothing."""
    page = opened(visit(color_scheme=scheme, height=TALL), view=view, **FEW)
    page.wait_for_selector(f"text={sign}")
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    page.wait_for_selector("text=self-check: all")
    page.wait_for_selector('[data-test-script-state="notRunning"]')
    assert grave(page) == []
