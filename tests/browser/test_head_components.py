"""Grid of heads, view of one head, and query-key view, as a learner uses them."""

from urllib.parse import urlencode

import pytest

PROMPT = "When Mary and John went to the store, John gave a drink to"
LAB = "/attention-heads?" + urlencode({"prompt": PROMPT})
GRID = '[data-testid="head-grid"]'
VIEW = '[data-testid="head-view"]'
NEURONS = '[data-testid="neuron-view"]'
READY = '[data-ready="true"]'
# What a canvas inside a component holds, as one text.
PIXELS = "(canvas) => canvas.toDataURL()"
# From a click to the frame in which the head view shows that head, in milliseconds.
CLICK_TO_PAINT = """(cell) => new Promise((done) => {
    const find = (root, id) => root.querySelector(id) ?? [...root.querySelectorAll("*")]
        .map((e) => e.shadowRoot && find(e.shadowRoot, id)).find(Boolean);
    const view = find(document, '[data-testid="head-view"]');
    const want = `L${Math.floor(cell.dataset.head / 8)}H${cell.dataset.head % 8}`;
    const start = performance.now();
    const look = () => {
        const there = view.dataset.head === want && view.dataset.ready === "true";
        if (there) done(performance.now() - start);
        else requestAnimationFrame(look);
    };
    cell.click();
    look();
})"""


@pytest.fixture
def lab(visit):
    """A visitor before the painted grid: ``lab(prompt=..., color_scheme=...)``."""

    def opened(path=LAB, wait_for=(GRID, VIEW), **settings):
        there = visit(**settings)
        there.open(path)
        for component in wait_for:
            there.page.wait_for_selector(component + READY)
        return there

    return opened


def head(page, layer, in_layer):
    return page.locator(f'{GRID} .cell[data-head="{8 * layer + in_layer}"]')


def shows(page, layer, in_layer):
    page.wait_for_selector(f'{VIEW}[data-head="L{layer}H{in_layer}"][data-source="page"]{READY}')


def test_a_click_paints_the_head_before_the_page_has_answered(lab):
    """Forbids a zoom that waits for the server: the grid's own data draw it at once."""
    page = lab().page
    times = sorted(head(page, 1 + n % 7, n % 8).evaluate(CLICK_TO_PAINT) for n in range(9))
    assert times[4] <= 250


def test_the_page_then_draws_the_same_head_exactly(lab):
    """Forbids a preview that stays, or that is of another head or a transposed one."""
    page = lab().page
    head(page, 6, 3).click()
    shows(page, 6, 3)
    page.wait_for_url("**head=3**")
    assert head(page, 6, 3).get_attribute("aria-selected") == "true"
    assert page.locator(f'{GRID} .cell[aria-selected="true"]').count() == 1


def test_the_keyboard_opens_a_head_and_selects_an_edge(lab):
    """Forbids a grid, or a matrix on a canvas, that only a mouse can use."""
    page = lab().page
    head(page, 0, 0).focus()
    for key in ("ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    shows(page, 1, 1)
    field = page.locator(f"{VIEW} .field")
    field.focus()
    for key in ("ArrowUp", "Home", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.wait_for_url("**src=1**")
    said = page.locator(f"{VIEW} .readout").inner_text()
    assert "looks at When (1)" in said
    assert page.locator("#cursor").get_attribute("aria-label") in said


def test_a_locked_token_stays_until_it_is_released(lab):
    """Forbids a lock that follows the pointer, or that only a second click can end."""
    page = lab().page
    tokens = page.locator(f"{VIEW} .token")
    tokens.nth(4).click()
    page.wait_for_url("**dest=4**")
    tokens.nth(9).hover()
    assert "shown" in tokens.nth(4).get_attribute("class")
    assert "·John" in page.locator(f"{VIEW} .tip").inner_text()
    tokens.nth(4).focus()
    page.keyboard.press("Escape")
    tokens.nth(7).hover()
    assert "shown" in tokens.nth(7).get_attribute("class")


def test_fewer_edges_are_drawn_when_less_mass_is_asked_for(lab):
    """Forbids a slider that changes its number and not the picture."""
    page = lab().page
    canvas = page.locator(f"{VIEW} canvas.picture")
    filled = "(c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.reduce(" \
        "(n, v, i) => n + (i % 4 === 3 && v > 0), 0)"  # fmt: skip
    size = page.locator(f"{VIEW} .token").count()
    assert canvas.evaluate(filled) == size * (size + 1) / 2
    page.locator(f"{VIEW} input[type=range]").fill("50")
    fewer = canvas.evaluate(filled)
    assert size <= fewer < size * (size + 1) / 4
    page.locator(VIEW).get_by_role("button", name="Start token").click()
    assert canvas.evaluate("(c) => c.width") == size - 1


def test_lines_of_several_heads_and_of_one_token(lab):
    """Forbids lines of heads that are not on, and a hover that hides nothing."""
    page = lab().page
    page.locator(VIEW).get_by_role("button", name="Lines", exact=True).click()
    lines = page.locator(f"{VIEW} .line-shapes line:visible")
    one = lines.count()
    page.locator(f"{VIEW} .head").nth(5).click()
    page.wait_for_selector(f'{VIEW} .head[aria-pressed="true"] >> nth=1')
    assert lines.count() > one
    page.locator(f"{VIEW} .side.left .line-token").nth(2).hover()
    assert lines.count() <= 6
    page.locator(f"{VIEW} .head").nth(5).dblclick()
    page.wait_for_url("**head=5**")
    assert page.locator(f'{VIEW} .head[aria-pressed="true"]').count() == 1


@pytest.mark.parametrize("lines", [False, True])
def test_hostile_tokens_are_text_in_every_view(lab, lines):
    """Forbids a token that becomes an element in strip, matrix, lines, tip or neuron view."""
    prompt = "<img src=x> </script>" if lines else "<img src=x onerror=document.title='owned'>"
    path = "/attention-heads?" + urlencode({"prompt": prompt, "view": "head"})
    there = lab(path, wait_for=(VIEW,))
    page = there.page
    if lines:
        page.locator(VIEW).get_by_role("button", name="Lines", exact=True).click()
        page.locator(f"{VIEW} .line-token").first.hover()
    else:
        page.locator(f"{VIEW} .token").nth(2).hover()
    assert "<" in page.locator(f"{VIEW} .stage").inner_text()
    assert page.title() != "owned"
    assert page.locator(f"{VIEW} img, {VIEW} script").count() == 0


@pytest.mark.parametrize("component", [GRID, VIEW])
@pytest.mark.parametrize(("kind", "start"), [("PNG", b"\x89PNG"), ("SVG", b"<svg")])
def test_pictures_are_saved(lab, component, kind, start):
    """Forbids a button that saves an empty file or none."""
    page = lab().page
    with page.expect_download() as download:
        page.locator(component).get_by_role("button", name=f"Picture ({kind})").click()
    saved = download.value.path().read_bytes()
    assert saved.startswith(start)
    assert len(saved) > 2000


def test_a_change_of_theme_repaints_the_canvases(lab):
    """Forbids pictures that keep the colours of the other theme."""
    page = lab().page
    before = [head(page, 0, 0).locator("canvas"), page.locator(f"{VIEW} canvas.picture")]
    pixels = [canvas.evaluate(PIXELS) for canvas in before]
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        """(old) => {
            const find = (root, id) => root.querySelector(id) ?? [...root.querySelectorAll("*")]
                .map((e) => e.shadowRoot && find(e.shadowRoot, id)).find(Boolean);
            return find(document, ".field canvas").toDataURL() !== old;
        }""",
        arg=pixels[1],
    )
    assert head(page, 0, 0).locator("canvas").evaluate(PIXELS) != pixels[0]


def test_on_a_phone_everything_stays_on_the_screen_and_a_tap_selects(lab):
    """Forbids a component wider than a phone, and an edge that needs a mouse's hover."""
    page = lab(width=390, height=844).page
    for component in (GRID, VIEW):
        box = page.locator(component).evaluate("(e) => [e.scrollWidth, e.clientWidth]")
        assert box[0] <= box[1]
        tools = page.locator(f"{component} .option")
        heights = [tools.nth(n).bounding_box()["height"] for n in range(tools.count())]
        assert min(heights) >= 43.5
    field = page.locator(f"{VIEW} .field")
    field.scroll_into_view_if_needed()
    field.tap(position={"x": 4, "y": field.bounding_box()["height"] - 4})
    page.wait_for_url("**src=0**")
    assert "looks at <|endoftext|> (0)" in page.locator(f"{VIEW} .readout").inner_text()


def test_the_products_lead_to_the_weight_and_to_another_source(lab):
    """Forbids a query-key view whose sources are only to be looked at."""
    path = LAB + "&" + urlencode({"view": "head", "drawn": "neuron view"})
    page = lab(path, wait_for=(NEURONS,)).page
    weights = page.locator(f"{NEURONS} .weight")
    weights.nth(2).click()
    page.wait_for_url("**src=2**")
    page.wait_for_selector(f'{NEURONS}[data-edge$=" 2"]{READY}')
    assert weights.nth(2).get_attribute("aria-selected") == "true"
    shown = weights.nth(2).inner_text().split()[-1]
    assert shown in page.locator(f"{NEURONS} .sum").inner_text()
    # Query, key, product and running sum of 32 dimensions.
    assert page.locator(f"{NEURONS} .bar-cell").count() == 4 * 32
