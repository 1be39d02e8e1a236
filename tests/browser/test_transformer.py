"""Lesson 1's grid of numbers in a real browser."""

import re
from urllib.parse import urlencode

GRID = '[data-testid="number-grid"][data-ready="true"]'


def opened(visit, **params):
    seen = visit()
    seen.open("/transformer?" + urlencode(params))
    seen.page.wait_for_selector(GRID)
    return seen


def cell(seen, row, place):
    return seen.page.locator(f'td[data-row="{row}"][data-place="{place}"]')


def test_keys_choose_a_cell_and_the_address_keeps_it(visit):
    """Forbids a grid that only a mouse can use, and a choice that a shared link loses."""
    seen = opened(visit, tensor="pattern.1", row="4", column="2 bee")
    cell(seen, 4, 2).focus()
    seen.page.keyboard.press("ArrowLeft")
    seen.page.keyboard.press("ArrowUp")
    seen.page.keyboard.press("Enter")
    seen.page.wait_for_selector('td[data-row="3"][data-place="1"][aria-selected="true"]')
    assert re.search(r"row=3", seen.page.url)
    assert "column=1" in seen.page.url


def test_the_arithmetic_is_shown_on_hover_and_leaves_again(visit):
    """Forbids a note without the numbers, or one that stays in the way."""
    seen = opened(visit, tensor="pattern.1", row="4", column="2 bee")
    cell(seen, 4, 0).hover()
    tip = seen.page.locator(".tip:visible")
    assert "exp(4.082)" in tip.inner_text()
    seen.page.mouse.move(5, 5)
    tip.wait_for(state="hidden")


def test_a_hostile_word_is_text_everywhere(visit):
    """Forbids a word that becomes an element: in the grid, the note or the answer."""
    seen = opened(visit, sentence="<img/src=x/onerror=window.hit=1> ant", tensor="embed")
    assert seen.page.evaluate("window.hit") is None
    assert seen.page.locator("img[src='x']").count() == 0


def test_next_walks_on_by_one_tensor(visit):
    """Forbids a step button that jumps back to the first tensor of an opened link."""
    seen = opened(visit, tensor="pattern.1")
    seen.page.get_by_role("button", name="Next", exact=True).click()
    seen.page.wait_for_selector("text=mixed values")
    assert "tensor=z.1" in seen.page.url


def test_the_grid_is_kept_as_a_picture_with_the_numbers_of_the_page(visit):
    """Forbids a picture that lacks numbers, or a button that gives none."""
    seen = opened(visit, tensor="pattern.1", row="4", column="2 bee")
    with seen.page.expect_download() as download:
        seen.page.get_by_role("button", name="Picture (SVG)").click()
    drawn = download.value.path().read_text()
    shown = [seen.page.locator("td[data-row]").nth(i).inner_text() for i in range(25)]
    assert re.findall(r"<text[^>]*>([^<]*)</text></g>", drawn) == shown
    with seen.page.expect_download() as download:
        seen.page.get_by_role("button", name="Picture (PNG)").click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
