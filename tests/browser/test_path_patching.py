"""A visitor at the wires, in a real browser."""

from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from playwright.sync_api import expect

from lens_core import HookedModel
from lens_core.patching import head_inputs, path_patching, prompt_pair, senders_before

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPTED = "When Mary and John went to the store, Mary gave a drink to"
GRID = '[data-testid="number-grid"][data-ready="true"]'
QUIET = '[data-test-script-state="notRunning"]'


def opened(there, **settings):
    there.open("/path-patching?" + urlencode(settings))
    there.page.wait_for_selector("text=wires in")
    there.page.wait_for_selector(QUIET)
    return there.page


def query(url):
    return set(parse_qsl(urlsplit(url).query))


def cell(page, row, place):
    """A cell of the map of senders; the strip of tokens is the first grid."""
    return page.locator(GRID).nth(1).locator(f'td[data-row="{row}"][data-place="{place}"]')


@pytest.fixture(scope="module")
def found():
    model = HookedModel.from_pretrained("tiny-world")
    pair = prompt_pair(model, CLEAN, CORRUPTED, " Mary", " John")
    inputs = head_inputs(model, 7, 1)
    return path_patching(model, pair, senders_before(model, inputs[0]), inputs, direction="denoise")


def test_a_wire_is_chosen_and_followed_back(visit, found):
    """Forbids a map unlike the library's, a click that is lost, a way back to another head."""
    there = visit()
    page = opened(there, prompt=CLEAN, corrupted=CORRUPTED, reads="q", layer="7", head="1")
    share = found.moved[found.senders.index("6.2"), 0]
    expect(cell(page, 6, 2)).to_have_text(f"{share:.2f}".replace("-0.00", "0.00"))
    cell(page, 6, 2).click()
    page.get_by_role("heading", name="The wire from L6H2 to Q of L7H1").wait_for()
    page.wait_for_url("**sender=L6H2**")
    page.get_by_role("button", name="Who speaks to L6H2?").click()
    page.get_by_role("heading", name="Into L6H2: Q, K or V?").wait_for()
    page.wait_for_url(lambda url: query(url) >= {("reads", "v"), ("layer", "6"), ("head", "2")})


def test_the_page_fits_a_phone(visit):
    """Forbids a page wider than the screen."""
    page = opened(visit(width=390), prompt=CLEAN, corrupted=CORRUPTED, reads="q", layer="7")
    page.wait_for_selector(".js-plotly-plot .scatterlayer")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
