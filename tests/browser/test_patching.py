"""A visitor at the patching lab, in a real browser."""

from urllib.parse import parse_qs, urlencode, urlsplit

from playwright.sync_api import expect

from lens_core import HookedModel
from lens_core.patching import prompt_pair, sweep

CLEAN = "In Japan, the capital is"
CORRUPTED = "In Italy, the capital is"
GRID = '[data-testid="number-grid"][data-ready="true"]'


def opened(there, **settings):
    there.open("/patching?" + urlencode(settings))
    there.page.wait_for_selector("text=patched runs in")
    there.page.wait_for_selector('[data-test-script-state="notRunning"]')
    return there.page


def query(page):
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).query).items()}


def cell(page, row, place):
    """A cell of the map; the strip of tokens is the first grid."""
    return page.locator(GRID).nth(1).locator(f'td[data-row="{row}"][data-place="{place}"]')


def test_a_click_and_the_keyboard_choose_a_patch(visit):
    """Forbids a map unlike the library's, a click that is lost, a step that needs a mouse."""
    there = visit()
    page = opened(there, prompt=CLEAN, corrupted=CORRUPTED)
    model = HookedModel.from_pretrained("tiny-world")
    pair = prompt_pair(model, CLEAN, CORRUPTED, " Tokyo", " Rome")
    shares = sweep(model, pair, "resid_pre").normalised_mean
    expect(cell(page, 3, 2)).to_have_text(f"{shares[3, 2]:.2f}")
    expect(cell(page, 7, 6)).to_have_text(f"{shares[7, 6]:.2f}")
    cell(page, 7, 6).click()
    page.wait_for_url("**at=6**")
    page.get_by_text("resid_pre of layer 7 at ·is (position 6)").wait_for()
    page.wait_for_selector("text=With this patch the model now says ·Tokyo and not ·Rome")
    cell(page, 7, 6).focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.get_by_text("resid_pre of layer 6 at ·is (position 6)").wait_for()
    page.wait_for_selector("text=With this patch the model still says ·Rome")
    assert query(page)["layer"] == "6"


def test_the_page_fits_a_phone_and_shows_tokens_as_text(visit):
    """Forbids a page wider than the screen, and a token that becomes markup."""
    there = visit(width=390)
    evil = "<img src=x onerror=alert(1)>"
    page = opened(there, prompt=f"{evil} one", corrupted=f"{evil} two")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator('img[src="x"]').count() == 0


HEAD = "clean,corrupted,target,foil\n"
ROWS = f'"{CLEAN}","{CORRUPTED}",Tokyo,Rome\n"In France, the capital is","{CORRUPTED}",,\n'


def test_pairs_of_a_file_are_cancelled_and_patched_again(visit):
    """Forbids a *Cancel* that leaves the page stuck, and an average of the last one's pairs."""
    there = visit()
    there.open("/patching?" + urlencode({"view": "many pairs", "family": "your own"}))
    page = there.page
    button = page.get_by_role("button", name="Patch them")
    button.wait_for()
    file = page.locator('.st-key-own_pairs_file input[type="file"]')
    many, few = HEAD + 250 * ROWS, HEAD + ROWS + "<img src=x onerror=alert(1)>,=1+1,,\n"
    file.set_input_files({"name": "many.csv", "mimeType": "text/csv", "buffer": many.encode()})
    page.get_by_text("500 pairs, the first").wait_for()
    button.click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled. Nothing was kept.").wait_for()
    file.set_input_files({"name": "few.csv", "mimeType": "text/csv", "buffer": few.encode()})
    page.get_by_text("2 pairs, the first").wait_for()
    page.get_by_text("1 row is left out, and why").wait_for()
    page.wait_for_selector('[data-test-script-state="notRunning"]')
    button.click()
    page.get_by_text("of 2 pairs:").wait_for()
    model = HookedModel.from_pretrained("tiny-world")
    pairs = [
        prompt_pair(model, CLEAN, CORRUPTED, " Tokyo", " Rome"),
        prompt_pair(model, "In France, the capital is", CORRUPTED, " Paris", " Rome"),
    ]
    share = sweep(model, pairs, "resid_pre").normalised_mean[3, 2]
    expect(cell(page, 3, 2)).to_have_text(f"{share:.2f}")
    assert page.locator('img[src="x"]').count() == 0
