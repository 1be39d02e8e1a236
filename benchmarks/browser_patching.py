"""What a learner of the patching and tracing labs waits for: from Enter or a click to the map.

Run as `python -m benchmarks.browser_patching`; see README.md beside this file.
"""

import argparse
import re
import statistics
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from playwright.sync_api import Browser, Locator, Page, sync_playwright

from app.tracing_lab.facts import FIRST, offered_facts
from benchmarks.browser import FRAMES, HEADER, PAINTED, SUBJECTS, row
from benchmarks.report import machine, table, write_section
from lens_core import HookedModel
from lens_core.plots import visible
from lens_core.tracing import locate
from scripts.lab import open_chromium, serving

MAP_S, CLICK_S, TRACE_S = 0.7, 0.7, 2.0
OTHER = "Athens"
GRID = '[data-testid="number-grid"][data-ready="true"]'
IDLE = '[data-test-script-state="notRunning"]'
# The page's own word for how long the model ran; the rest is the page.
TOOK = re.compile(r"in (\d+) ms\.")


@dataclass
class Waits:
    """Seconds of each round: until the map is painted, and of these the model's own."""

    whole: list[float] = field(default_factory=list)
    computed: list[float] = field(default_factory=list)


def rest(page: Page) -> None:
    """Let the page come to rest before the next question."""
    page.wait_for_selector(IDLE, timeout=60_000)
    page.wait_for_timeout(300)


def header(page: Page, grid: int, text: str) -> Locator:
    """The column with this text above it, of one of the page's maps."""
    return page.locator(GRID).nth(grid).locator("thead th", has_text=text)


def painted(page: Page, mark: Locator) -> None:
    """Wait until the mark is in the page and the browser has painted it."""
    mark.first.wait_for(state="visible", timeout=60_000)
    page.evaluate(PAINTED)


def took_s(page: Page, line: str) -> float:
    """The compute time that the page states in a line."""
    said = TOOK.search(page.locator(f"text=/{line}/").first.inner_text())
    return float(said[1]) / 1000 if said else float("nan")


def maps(browser: Browser, address: str, count: int) -> tuple[Waits, list[float]]:
    """A new corrupted prompt to its map of layers by positions; a click on a cell to its patch."""
    page = browser.new_page(viewport={"width": 1400, "height": 2400})
    waits, clicks = Waits(), []
    for frame in FRAMES:
        first = {"prompt": frame.format("Dublin"), "corrupted": frame.format(OTHER)}
        page.goto(f"{address}/patching?{urlencode(first)}")
        painted(page, header(page, 1, OTHER))
        rest(page)
        for number, city in enumerate(SUBJECTS):
            if len(waits.whole) == count:
                break
            box = page.get_by_role("textbox", name="Corrupted prompt")
            box.fill(frame.format(city))
            start = time.monotonic()
            box.press("Enter")
            painted(page, header(page, 1, city))
            waits.whole.append(time.monotonic() - start)
            rest(page)
            waits.computed.append(took_s(page, "patched runs in"))
            layer, place = number % 7 + 1, number % 3 + 1
            grid = page.locator(GRID).nth(1)
            start = time.monotonic()
            grid.locator(f'td[data-row="{layer}"][data-place="{place}"]').click()
            painted(page, page.locator(f"text=/of layer {layer} at .*position {place}/"))
            clicks.append(time.monotonic() - start)
            rest(page)
    page.close()
    return waits, clicks


def traces(browser: Browser, address: str, count: int) -> Waits:
    """A fact chosen from the list to its three maps, ten draws of noise."""
    model = HookedModel.from_pretrained("tiny-world")
    page = browser.new_page(viewport={"width": 1400, "height": 3200})
    page.goto(f"{address}/tracing?{urlencode({'prompt': FIRST[0], 'subject': FIRST[1]})}")
    painted(page, header(page, 2, "Tower*"))
    rest(page)
    waits, before = Waits(), ""
    for fact in offered_facts(model):
        tokens, (_, last) = locate(model, fact.prompt, fact.subject)
        label = f"{last} {visible(model.to_str_tokens(tokens[0])[last])}*"
        if label == before or len(waits.whole) == count:
            continue
        before = label
        box = page.get_by_role("combobox", name="Or a fact that this model knows")
        box.click()
        box.fill(f"{fact.prompt} {fact.object}")
        start = time.monotonic()
        box.press("Enter")
        painted(page, header(page, 2, label))
        waits.whole.append(time.monotonic() - start)
        rest(page)
        waits.computed.append(took_s(page, "one a cell and draw"))
    page.close()
    return waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--dry-run", action="store_true", help="print the table, write no file")
    options = parser.parse_args()

    under = machine("streamlit", "torch", "playwright")
    with sync_playwright() as playwright, serving() as address:
        browser = open_chromium(playwright)
        patched, clicks = maps(browser, address, options.count)
        traced = traces(browser, address, options.count)
        browser.close()
    own = [f"{1000 * statistics.median(waits.computed):.0f} ms" for waits in (patched, traced)]
    text = "\n\n".join(
        [
            "tiny-world, warm, all prompts new to the server. Map: from Enter after a new "
            "corrupted prompt to the painted map of its 8 layers by its positions. Patch: from a "
            "click in the map to what that patch makes of the next token. Trace: from the choice "
            "of a fact to its three painted maps, ten draws of noise. Server and browser share "
            "this machine. "
            f"{under}",
            table(
                HEADER,
                [
                    row("map of layers by positions", patched.whole, MAP_S),
                    row("a cell's patch", clicks, CLICK_S),
                    row("causal trace, three maps", traced.whole, TRACE_S),
                ],
            ),
            f"Of these the model's own time is {own[0]} for the map and {own[1]} for the trace "
            "(medians).",
        ]
    )
    print(text)
    if not options.dry_run:
        write_section("Patching in the browser", text)


if __name__ == "__main__":
    main()
