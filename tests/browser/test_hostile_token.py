"""The pieces that draw tokens, given a token that is markup, in a real browser."""

import numpy as np
import pytest

from app.components.circuitsvis import TokenLogProbs, token_log_probs_html
from app.components.lens_grid import _HTML, _PARTS, Chosen, GridView, grid_data
from lens_core.lens import LensResult, read_lens
from lens_core.plots import QUANTITIES
from scripts.lab import ROOT

EVIL = "</script><img src=x onerror=window.top.hit=1>"
DRAW = """async ([code, html, data]) => {
    document.body.innerHTML = html;
    const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    const { default: draw } = await import(address);
    draw({ data, parentElement: document.body, setTriggerValue() {} });
}"""


@pytest.fixture
def page(chromium):
    """An empty page; at its end nothing may have run or been asked for."""
    made = chromium.new_page()
    asked = []
    made.on("request", lambda request: asked.append(request.url))
    yield made
    assert made.evaluate("window.top.hit") is None
    assert made.locator("img").count() == 0
    assert [url for url in asked if not url.startswith(("blob:", "about:"))] == []
    made.close()


def hostile(lens: LensResult) -> LensResult:
    """The same result, but every token's text is markup."""
    object.__setattr__(lens, "texts", dict.fromkeys(lens.texts, EVIL))
    return lens


def test_grid_hover_and_svg_show_it_as_text(page, tiny_world):
    """Forbids a token that becomes an element in a cell, the tip or the saved picture."""
    lens = hostile(read_lens(tiny_world, "Paris is"))
    rows = tuple(range(len(lens.row_labels)))
    view = GridView(lens, QUANTITIES["probability"], EVIL, EVIL, has_bos=False, rows=rows)
    folder = ROOT / "app" / "components"
    code = "\n".join((folder / part).read_text(encoding="utf-8") for part in _PARTS)
    page.evaluate(DRAW, [code, _HTML, grid_data(view, Chosen(row=0, column=0))])
    cell = page.locator(".cell").first
    cell.hover()
    page.locator(".tip").wait_for(state="visible")
    assert "</script><img" in cell.inner_text()
    assert "</script><img" in page.locator(".tip-token").first.inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Picture (SVG)").click()
    svg = download.value.path().read_text(encoding="utf-8")
    assert "&lt;/script&gt;" in svg
    assert "<img" not in svg


def test_circuitsvis_shows_it_as_text(page):
    """Forbids a token that becomes an element in the coloured text or under the pointer."""
    logprobs = np.log([0.5, 0.3]).tolist()
    data = TokenLogProbs([EVIL] * 3, logprobs, [1, 2], [[EVIL, "b"]] * 2, [logprobs] * 2)
    page.set_content(token_log_probs_html(data))
    token = page.locator("#tokens span span").first
    assert token.inner_text() == EVIL.replace(" ", "\N{NO-BREAK SPACE}")
    token.hover()
    page.get_by_text("Log Prob").wait_for()
    assert EVIL.replace(" ", "\N{NO-BREAK SPACE}") in page.locator("table").inner_text()
