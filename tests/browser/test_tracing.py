"""A visitor at the tracing lab, in a real browser."""

from urllib.parse import urlencode

from playwright.sync_api import expect


def opened(there, **settings):
    there.open("/tracing?" + urlencode(settings))
    there.page.wait_for_selector("text=/^Provenance: model/")
    there.page.wait_for_selector('[data-test-script-state="notRunning"]')
    return there.page


def test_a_click_chooses_a_map_and_its_cell(visit):
    """Forbids a click that is lost, or that lands in another map."""
    there = visit()
    page = opened(there, samples="1")
    page.wait_for_selector("text=values, one a cell and draw")
    grids = page.locator('[data-testid="number-grid"][data-ready="true"]')
    expect(grids).to_have_count(3)
    grids.nth(2).locator('td[data-row="6"][data-place="8"]').click()
    page.wait_for_url("**kind=attn**")
    page.wait_for_selector("text=Chosen: attentions of layers 5 to 6, at ·of (position 8)")


def test_many_facts_are_cancelled_and_traced_again(visit):
    """Forbids a *Cancel* that leaves the page stuck, and an average that is not drawn."""
    there = visit()
    page = opened(there, view="many facts", n_facts="60", samples="10")
    page.get_by_role("button", name="Trace them").click()
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector("text=Cancelled. Nothing was kept.")
    quick = visit()
    page = opened(quick, view="many facts", n_facts="4", samples="1")
    page.get_by_role("button", name="Trace them").click()
    page.wait_for_selector("text=/^4 facts/")
    expect(page.locator('[data-testid="number-grid"][data-ready="true"]')).to_have_count(3)
