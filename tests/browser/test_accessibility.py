"""axe-core on the pages, in both themes: no serious or critical fault."""

from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe

HEAD = {"layer": "6", "head": "2"}
PAGES = {
    "lens": ("/logit-lens?" + urlencode({"prompt": "Paris is the capital of"}), "lens-grid"),
    "transformer": ("/transformer", "number-grid"),
    "heads": ("/attention-heads?" + urlencode(HEAD), "head-grid"),
    "one head": ("/attention-heads?" + urlencode(HEAD | {"view": "head"}), "head-view"),
    "neurons": (
        "/attention-heads?" + urlencode(HEAD | {"view": "head", "drawn": "neuron view"}),
        "neuron-view",
    ),
    "scores": ("/induction?" + urlencode(HEAD), "number-grid"),
    "answer": ("/attribution?" + urlencode(HEAD | {"parts": "heads"}), "number-grid"),
    "block": ("/attribution?" + urlencode(HEAD | {"view": "block it"}), "number-grid"),
    "patching": ("/patching?" + urlencode({"layer": "7", "at": "8"}), "number-grid"),
    "patched heads": ("/patching?" + urlencode(HEAD | {"view": "heads"}), "number-grid"),
    "own pairs": (
        "/patching?" + urlencode({"view": "many pairs", "family": "your own"}),
        "number-grid",
    ),
    "circuit": ("/circuits?" + urlencode({"circuit": "L6H2", "n_prompts": "8"}), "number-grid"),
    "tracing": ("/tracing?" + urlencode({"samples": "1", "severed": "MLPs"}), "number-grid"),
    "estimates": ("/patching?" + urlencode({"view": "two passes"}), "number-grid"),
    "wires": ("/path-patching?" + urlencode(HEAD | {"reads": "v"}), "number-grid"),
    "attribution": ("/attribution-patching", "number-grid"),
    "editing": ("/editing?" + urlencode({"view": "lens"}), "lens-grid"),
}


# axe judges colours only of what is on the screen, so the screen is as tall as the page.
TALL = 5000
SPOIL = """() => {
    const find = (root) => root.querySelector(".grid") ?? [...root.querySelectorAll("*")]
        .map((e) => e.shadowRoot && find(e.shadowRoot)).find(Boolean);
    const cell = find(document).querySelector(".cell:not(.echo)");
    cell.style.color = "#888";
    cell.style.backgroundColor = "#999";
}"""


def grave(page):
    """The serious and critical faults, each with its elements, to be read in a failure."""
    for frame in page.frames[1:]:
        frame.evaluate(Axe().axe_script)
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {node['target']} {node['html'][:200]} {node['failureSummary'][:200]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", list(PAGES))
def test_no_serious_fault(visit, name, scheme):
    """Forbids text too faint, controls without a name, and roles that do not hold together."""
    path, grid = PAGES[name]
    there = visit(color_scheme=scheme, height=TALL)
    there.open(path)
    there.page.wait_for_selector(f'[data-testid="{grid}"][data-ready="true"]')
    there.page.wait_for_selector("text=self-check: all")
    main = there.page.get_by_test_id("stMain")
    assert main.evaluate("(e) => e.scrollHeight <= e.clientHeight"), "make TALL taller"
    assert grave(there.page) == []


def test_a_fault_in_the_grid_is_found(visit):
    """Forbids an inspection that passes because it does not see into our components."""
    there = visit(height=TALL)
    there.open(PAGES["lens"][0])
    there.grid()
    there.page.evaluate(SPOIL)
    assert [fault for fault in grave(there.page) if "color-contrast" in fault]


def test_the_prompts_tokens_are_drawn_and_explained(visit):
    """Forbids an empty frame where CircuitsVis should draw, and a fault in the opened view."""
    there = visit(height=TALL)
    there.open(PAGES["lens"][0])
    there.grid()
    there.page.get_by_text("The prompt's tokens", exact=True).click()
    frame = there.page.frame_locator("iframe[title*='tokens']")
    token = frame.get_by_text("capital")
    token.wait_for()
    there.page.wait_for_selector('[data-test-script-state="notRunning"]')
    token.hover()
    frame.get_by_text("Log Prob").wait_for()
    assert grave(there.page) == []
