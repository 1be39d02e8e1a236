"""A visitor at the logit lens, in a real browser."""

import sys
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from lens_core import HookedModel
from lens_core.lens import read_lens
from lens_core.plots import visible
from scripts.lab import ROOT, serving

from .conftest import PATIENCE_MS

PROMPT = "When Mary and John went to the store, John gave a drink to"
LEAST_CONTRAST = """() => {
    const find = (root) => root.querySelector(".grid") ?? [...root.querySelectorAll("*")]
        .map((e) => e.shadowRoot && find(e.shadowRoot)).find(Boolean);
    const light = (css) => {
        const [r, g, b] = css.match(/\\d+/g).map((v) => v / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    return Math.min(...[...find(document).querySelectorAll(".cell")].map((cell) => {
        const style = getComputedStyle(cell);
        const pair = [light(style.color), light(style.backgroundColor)];
        return Math.max(...pair) / Math.min(...pair);
    }));
}"""


@pytest.fixture(scope="module")
def lens():
    """What the library says about the prompt."""
    return read_lens(HookedModel.from_pretrained("tiny-world"), PROMPT)


def query(page):
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).query).items()}


def test_a_visitor_types_reads_selects_and_comes_back(visit, lens):
    """Forbids a grid unlike the library's, a dead cell, and a link that loses the state."""
    there = visit()
    there.open("/")
    there.page.get_by_test_id("stMain").get_by_role("link", name="Logit and tuned lens").click()
    there.grid()
    box = there.page.get_by_label("Your prompt")
    box.fill(PROMPT)
    box.press("Enter")
    there.grid(PROMPT)
    last = len(lens.tokens) - 1
    for row, label in enumerate(lens.row_labels):
        shown = there.cell(row, last).inner_text()
        assert shown == visible(lens.texts[int(lens.top_ids[row, last, 0])]), label
    assert there.selected() == (8, last)

    there.cell(4, 6).click()
    there.page.wait_for_url("**position=6**", timeout=PATIENCE_MS)
    assert there.selected() == (4, 6)
    there.page.keyboard.press("ArrowUp")
    there.page.keyboard.press("ArrowRight")
    there.page.keyboard.press("Enter")
    there.page.wait_for_url("**position=7**", timeout=PATIENCE_MS)
    assert there.selected() == (5, 7)
    color = there.page.get_by_role("combobox", name="Colour shows")
    color.click()
    color.fill("entropy")
    color.press("Enter")
    there.page.wait_for_url("**color=entropy**", timeout=PATIENCE_MS)
    assert query(there.page) == {
        "prompt": PROMPT,
        "color": "entropy",
        "layer": "4",
        "position": "7",
    }

    elsewhere = visit()
    elsewhere.open(there.page.url.removeprefix(there.address))
    elsewhere.grid(PROMPT)
    assert elsewhere.selected() == (5, 7)
    assert elsewhere.page.get_by_label("Your prompt").input_value() == PROMPT
    assert "Entropy" in elsewhere.page.locator(".legend-label").inner_text()
    title = f"Best guesses after block 4, at {visible(lens.tokens[7])}"
    elsewhere.page.get_by_text(title).wait_for()


def test_the_prompt_travels_with_the_links(visit):
    """Forbids losing the case file on the way through the course."""
    there = visit()
    there.open("/logit-lens?" + urlencode({"prompt": "Paris is the capital of"}))
    there.grid("Paris is the capital of")
    there.page.get_by_test_id("stSidebar").get_by_role("link", name="Overview").click()
    there.page.wait_for_selector("text=To come")
    there.page.get_by_test_id("stMain").get_by_role("link", name="Logit and tuned lens").click()
    there.grid("Paris is the capital of")


def test_the_tip_shows_the_ten_best_guesses(visit):
    """Forbids a hover without its figures, and one that the keyboard cannot close."""
    there = visit()
    there.open("/logit-lens")
    there.grid()
    there.cell(5, 5).hover()
    tip = there.page.locator(".tip")
    tip.wait_for(state="visible")
    assert tip.locator(".tip-token").count() == 10
    assert "entropy" in tip.inner_text()
    box = tip.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280
    there.cell(5, 5).click()
    there.page.keyboard.press("Escape")
    tip.wait_for(state="hidden")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_are_legible_and_in_our_fonts(visit, scheme):
    """Forbids dark text on dark cells, and a fallback font because a file has moved."""
    there = visit(color_scheme=scheme)
    there.open("/logit-lens")
    there.grid()
    background = there.page.evaluate(
        "getComputedStyle(document.querySelector('.stApp')).backgroundColor"
    )
    assert background == {"light": "rgb(251, 250, 246)", "dark": "rgb(20, 23, 26)"}[scheme]
    assert there.page.evaluate(LEAST_CONTRAST) >= 4.5
    loaded = there.page.evaluate(
        "[...document.fonts].filter((f) => f.status === 'loaded').map((f) => f.family)"
    )
    assert {"Source Serif", "Plex Mono"} <= {family.strip("'\"") for family in loaded}


@pytest.mark.parametrize("path", ["/", "/logit-lens?" + urlencode({"prompt": PROMPT})])
def test_a_phone_scrolls_down_and_never_sideways(visit, path):
    """Forbids a page wider than the screen; the grid scrolls inside itself."""
    there = visit(width=390, height=844)
    there.open(path)
    if "logit" in path:
        there.grid(PROMPT)
        scroller = there.page.locator(".scroller")
        assert scroller.evaluate("(e) => e.scrollWidth > e.clientWidth")
    widths = there.page.evaluate(
        "[document.documentElement.scrollWidth, "
        "document.querySelector('[data-testid=stMain]').scrollWidth, window.innerWidth]"
    )
    assert max(widths[:2]) <= widths[2]


def test_hostile_text_is_shown_as_text(visit):
    """Forbids running or fetching what a shared link has put into the prompt."""
    prompt = "</script><img src=x onerror=document.title='owned'> ![x](https://evil.example/p.png)"
    there = visit()
    there.open("/logit-lens?" + urlencode({"prompt": prompt}))
    there.grid(prompt)
    there.cell(8, 3).click()
    there.page.wait_for_url("**position=3**", timeout=PATIENCE_MS)
    assert there.page.title() != "owned"
    assert there.page.locator("img[src='x']").count() == 0


def test_the_server_launcher_keeps_everything_at_home(visit):
    """Forbids a policy that breaks the page, and answers without one."""
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app" / "server.py")]
    with serving(command) as address:
        there = visit(address=address)
        answer = there.page.goto(address)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        there.open("/logit-lens")
        there.grid()
        fetched = there.page.evaluate(
            "fetch('https://example.org/').then(() => 'left', () => 'stayed')"
        )
        assert fetched == "stayed"
        # The refusal above is itself reported in the console.
        there.complaints.clear()
        there.foreign.clear()
        there.page.close()
