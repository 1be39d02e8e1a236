"""A visitor at the mass-editing lab, in a real browser."""

from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE_MS
from tests.browser.test_accessibility import TALL, grave

HOSTILE = "</script><img src=x onerror=alert(1)>"
FILE = f"""\
prompt,subject,target_new,target_true
The Colosseum is in the city of,The Colosseum,London,Rome
The Louvre is in the city of,,Rome,Paris
{HOSTILE} is in,nobody,Rome,
The Louvre is in the city of,The Louvre,Rome,Paris
"""
DONE = '[data-test-script-state="notRunning"]'


def opened(there, **settings):
    there.open("/mass-editing?" + urlencode(settings))
    there.page.wait_for_selector("text=/^Provenance: model/")
    there.page.wait_for_selector(DONE)
    return there.page


def test_a_file_with_bad_rows_runs_without_them(visit):
    """Forbids one bad row that stops all others, and a cell that is taken for markup."""
    there = visit()
    page = opened(there, source="your table")
    page.locator('input[type="file"][accept*="csv"]').set_input_files(
        {"name": "facts.csv", "mimeType": "text/csv", "buffer": FILE.encode()}
    )
    page.wait_for_selector("text=/In the file 2 rows are no fact/")
    expect(page.get_by_role("button", name="Write 2 facts")).to_be_enabled(timeout=PATIENCE_MS)


def test_facts_are_written_scored_and_kept(visit):
    """Forbids curves that never come, and edits that do not reach the ledger."""
    there = visit()
    chosen = {"run_rome": "false", "run_memit": "false", "run_ft": "true", "n_facts": "1"}
    page = opened(there, **chosen)
    page.get_by_role("button", name="Write 1 fact").click()
    page.wait_for_selector("text=/FT has/")
    page.get_by_test_id("stPlotlyChart").first.wait_for()
    page.get_by_role("button", name="Keep FT's 1 edit").click()
    page.wait_for_selector("text=Your ledger has 1 line now.")


def test_cancel_keeps_the_page_alive(visit):
    """Forbids a *Cancel* that is not heard, or that leaves the page stuck."""
    there = visit()
    page = opened(there, run_memit="false", n_facts="60")
    page.get_by_role("button", name="Write 60 facts").click()
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector("text=/Cancelled/")
    expect(page.get_by_role("button", name="Write 60 facts")).to_be_enabled(timeout=PATIENCE_MS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("chosen", [{"source": "your table"}, {"view": "does locating help"}])
def test_no_serious_fault(visit, chosen, scheme):
    """Forbids text too faint, controls without a name, and roles that do not hold together."""
    there = visit(color_scheme=scheme, height=TALL)
    page = opened(there, **chosen)
    page.wait_for_selector("text=self-check: all")
    main = page.get_by_test_id("stMain")
    assert main.evaluate("(e) => e.scrollHeight <= e.clientHeight"), "make TALL taller"
    faults = grave(page)
    for _ in range(5):  # what is being redrawn is faded for a moment, and faded text is faint
        if not faults:
            break
        page.wait_for_timeout(1000)
        page.wait_for_selector(DONE)
        faults = grave(page)
    assert faults == []
