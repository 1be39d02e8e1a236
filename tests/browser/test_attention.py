"""A visitor at the attention lab, in a real browser."""

import json
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import expect

from lens_core import HookedModel
from lens_core.attention import read_attention
from lens_core.attribution import ablate, direct_logit_attribution

from .conftest import PATIENCE_MS

expect.set_options(timeout=PATIENCE_MS)
PROMPT = "When Mary and John went to the store, John gave a drink to"
GRID = '[data-testid="head-grid"][data-ready="true"]'
FOCUSED = """() => {
    let node = document.activeElement;
    while (node?.shadowRoot?.activeElement) node = node.shadowRoot.activeElement;
    return {role: node.getAttribute("role") ?? "", tag: node.tagName.toLowerCase(),
            label: node.getAttribute("aria-label") ?? "", text: (node.innerText ?? "").trim()};
}"""


@pytest.fixture(scope="module")
def model():
    return HookedModel.from_pretrained("tiny-world")


def query(page):
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).query).items()}


def opened(there, page="attention-heads", **settings):
    there.open(f"/{page}?" + urlencode(settings))
    there.page.wait_for_selector("text=/^Provenance: model/")
    still(there)
    return there.page


def still(there):
    there.page.wait_for_selector('[data-test-script-state="notRunning"]')


def painted(there, prompt=PROMPT):
    there.page.wait_for_selector(f"{GRID}[data-prompt={json.dumps(prompt)}]")


def head(there, layer, number, n_heads=8):
    return there.page.locator(
        f'[data-testid="head-grid"] .cell[data-head="{layer * n_heads + number}"]'
    ).first


def tab_until(page, wanted):
    """Tab from element to element, round and round while the page may still be redrawn."""
    passed: list[str] = []
    give_up = time.monotonic() + PATIENCE_MS / 2000
    while time.monotonic() < give_up:
        page.keyboard.press("Tab")
        here = page.evaluate(FOCUSED)
        if wanted(here):
            return here
        passed.append(here["label"] or here["text"][:30] or here["tag"])
        if here["tag"] == "body":  # the end of a round
            page.wait_for_selector('[data-test-script-state="notRunning"]')
    raise AssertionError(f"the keyboard does not get there, but to {passed[-99:]}")


def test_the_keyboard_alone_goes_from_a_prompt_to_a_head_s_ablation(visit, model):
    """Forbids a step that needs a mouse, and numbers unlike the library's."""
    there = visit()
    page = opened(there)
    prompt = "The Eiffel Tower is in the city of"
    tab_until(page, lambda here: here["label"] == "Your prompt")
    page.keyboard.press("Control+a")
    page.keyboard.type(prompt)
    page.keyboard.press("Enter")
    painted(there, prompt)
    still(there)
    tab_until(page, lambda here: here["role"] == "gridcell" and "ead" in here["label"])
    for key in ["ArrowDown"] * 6 + ["ArrowRight"] * 4:
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_url("**head=4**")
    still(there)
    zoom = page.locator('[data-testid="head-view"][data-ready="true"]')
    expect(zoom).to_have_attribute("data-head", "L6H4")
    tab_until(page, lambda here: here["tag"] == "button" and "Block L6H4" in here["text"])
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Without L6H4")
    assert query(page)["view"] == "block it"
    live = read_attention(model, prompt)
    found = ablate(model, prompt, [(6, 4)], *live.top_ids[-1, :2].tolist())
    page.wait_for_selector(f"text={found.before.value:.2f}")
    shown = page.get_by_test_id("stMetricValue")
    expect(shown.nth(0)).to_have_text(f"{found.total_effect:+.2f}")
    expect(shown.nth(1)).to_have_text(f"{found.direct_effect:+.2f}")


def test_a_click_opens_a_head_and_the_link_keeps_it(visit):
    """Forbids a click that is lost, a zoom of another head, and a link that loses the selection."""
    there = visit()
    page = opened(there, prompt=PROMPT)
    painted(there)
    head(there, 4, 7).click()
    zoom = page.locator('[data-testid="head-view"]')
    expect(zoom).to_have_attribute("data-head", "L4H7")
    page.wait_for_url("**layer=4**")
    still(there)
    page.get_by_role("button", name="Open L4H7").click()
    page.wait_for_url("**view=head**")
    still(there)
    expect(zoom).to_have_attribute("data-head", "L4H7")
    # The page's first prompt is its default, which the address leaves out.
    assert query(page) == {"view": "head", "layer": "4", "head": "7"}

    again = visit()
    elsewhere = opened(again, **query(page))
    expect(elsewhere.locator('[data-testid="head-view"]')).to_have_attribute("data-head", "L4H7")


def test_a_cell_of_the_map_opens_its_head(visit, model):
    """Forbids a map of heads that leads nowhere, or shows other numbers than the library."""
    there = visit()
    page = opened(there, "attribution", prompt=PROMPT, parts="heads", target="Mary", foil="John")
    direct = direct_logit_attribution(model, PROMPT, " Mary", " John")
    cell = page.locator('[data-testid="number-grid"] td[data-row="6"][data-place="2"]')
    expect(cell).to_have_text(f"{direct.by_head[6, 2]:.2f}")
    cell.click()
    page.wait_for_url("**view=head**")
    still(there)
    zoom = page.locator('[data-testid="head-view"]')
    expect(zoom).to_have_attribute("data-head", "L6H2")
    page.get_by_role("button", name="Block L6H2").wait_for()


def test_options_of_a_head_are_in_the_address(visit):
    """Forbids lines, a share of the mass or a hidden start token that a link does not keep."""
    there = visit()
    page = opened(there, prompt=PROMPT, view="head", layer="6", head="2")
    page.get_by_role("button", name="Start token").click()
    page.wait_for_url("**show_bos=False**")
    still(there)
    page.reload()
    page.wait_for_selector('[data-testid="head-view"][data-ready="true"]')
    expect(page.get_by_role("button", name="Start token")).to_have_attribute(
        "aria-pressed", "false"
    )


def test_the_selection_travels_to_the_other_labs(visit):
    """Forbids losing the head on the way, and a lens lab that trips over it."""
    there = visit()
    page = opened(there, prompt=PROMPT, layer="4", head="7", position="3", target="Mary")
    painted(there)
    head(there, 5, 3).click()
    page.wait_for_url("**layer=5**")
    still(there)
    for name in ("Direct logit attribution", "Induction heads"):
        page.get_by_test_id("stSidebar").get_by_role("link", name=name).click()
        page.wait_for_selector(f"h1:has-text('{name}')")
        page.get_by_role("button", name="Block L5H3").wait_for()
        assert page.get_by_label("Your prompt").input_value() == PROMPT
        still(there)
    page.get_by_test_id("stSidebar").get_by_role("link", name="Logit and tuned lens").click()
    there.grid(PROMPT)
    assert there.selected() == (6, 3)


def test_a_phone_scrolls_down_and_taps(visit):
    """Forbids a page wider than the screen, and heads that a finger cannot hit."""
    there = visit(width=390, height=844)
    page = opened(there, prompt=PROMPT)
    painted(there)
    widths = page.evaluate(
        "[document.documentElement.scrollWidth, "
        "document.querySelector('[data-testid=stMain]').scrollWidth, window.innerWidth]"
    )
    assert max(widths[:2]) <= widths[2]
    box = head(there, 5, 3).bounding_box()
    assert min(box["width"], box["height"]) >= 24
    head(there, 5, 3).tap()
    page.wait_for_url("**head=3**")
    still(there)
    button = page.get_by_role("button", name="Block L5H3")
    assert button.bounding_box()["height"] >= 36
    button.tap()
    page.wait_for_selector("text=Without L5H3")


def test_two_visitors_at_once(visit):
    """Forbids one visitor's model, prompt or head on the other's page."""
    words = "fox owl bee cat fox owl"
    first, second = visit(), visit()
    first.page.goto(first.address + "/attention-heads?" + urlencode({"prompt": PROMPT}))
    second.page.goto(
        second.address
        + "/attention-heads?"
        + urlencode({"prompt": words, "model": "glass-induction"})
    )
    painted(first)
    painted(second, words)
    head(first, 4, 7).click()
    head(second, 1, 1, read_heads("glass-induction")).click()
    first.page.wait_for_url("**layer=4**")
    second.page.wait_for_url("**layer=1**")
    for there, name in ((first, "L4H7"), (second, "L1H1")):
        still(there)
        zoom = there.page.locator('[data-testid="head-view"][data-ready="true"]')
        expect(zoom).to_have_attribute("data-head", name)
    assert "glass" not in first.page.locator('[data-testid="head-grid"] .title').inner_text()
    assert "glass" in second.page.locator('[data-testid="head-grid"] .title').inner_text()
    assert query(second.page)["prompt"] == words


def read_heads(name):
    return HookedModel.from_pretrained(name).cfg.n_heads


@pytest.mark.parametrize("drawn", ["pattern", "neuron view", "CircuitsVis"])
def test_hostile_tokens_are_shown_as_text(visit, drawn):
    """Forbids running or fetching what a shared link has put into the prompt."""
    prompt = "</script><img src=x onerror=document.title='owned'>"
    there = visit()
    page = opened(there, prompt=prompt, view="head", drawn=drawn)
    if drawn == "CircuitsVis":
        frame = page.frame_locator("iframe[title*='CircuitsVis']")
        frame.get_by_text("Zoomed").wait_for()
        assert frame.locator("img").count() == 0
    assert page.title() != "owned"
    assert page.locator("img[src='x']").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_draws_without_a_complaint(visit, scheme):
    """Forbids an error in the console of a view, in either theme."""
    there = visit(color_scheme=scheme)
    page = opened(there, "induction", prompt=PROMPT, layer="6", head="2")
    for view in ("grid", "head", "who wrote the answer", "block it", "what heads do"):
        page.get_by_role("radio", name=view, exact=True).click()
        page.wait_for_timeout(300)
        still(there)
        assert page.get_by_test_id("stAlert").count() == 0
    page.get_by_text("Show the code").click()
    page.wait_for_selector("code >> text=head_scores")
