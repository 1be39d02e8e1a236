"""What a learner of the attention lab waits for: from Enter to all heads, from a click to one head.

Run as `python -m benchmarks.browser_heads`; see README.md beside this file.
"""

import argparse
import json
import time
from urllib.parse import urlencode

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from app.components.edge import Edge
from app.components.head_grid import HeadGridView, HeadPrompt, HeadScoreColumn, head_grid_data
from benchmarks.browser import FIRST, FRAMES, HEADER, PAINTED, SUBJECTS, row
from benchmarks.report import machine, table, write_section
from lens_core.attention import ALL
from scripts.lab import open_chromium, serving

GRID_S, ZOOM_S, VALUES_S = 0.8, 0.25, 0.8
PAYLOAD_KB = 500
# Timed in the browser itself, from the click to the frame after the one that shows the head.
CLICK_TO_ZOOM = """async ([layer, head]) => {
  const within = (root, wanted) => root.querySelector(wanted) ?? [...root.querySelectorAll("*")]
    .map((e) => e.shadowRoot && within(e.shadowRoot, wanted)).find(Boolean);
  const view = () => within(document, '[data-testid="head-view"]');
  const cell = within(document, `[data-testid="head-grid"] .cell[data-head="${8 * layer + head}"]`);
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const until = async (ready) => {
    while (!ready(view()?.dataset ?? {})) await frame();
    await frame();
    return performance.now() - start;
  };
  const shown = (it) => it.ready === "true" && it.head === `L${layer}H${head}`;
  const start = performance.now();
  cell.click();
  return [await until(shown), await until((it) => shown(it) && it.source === "page")];
}"""


def payload_kb() -> float:
    """The grid's data for 144 heads on 64 tokens, as JSON, without any compression."""
    values = np.random.default_rng(0).dirichlet(np.ones(64), size=(12, 12, 64))
    values = np.tril(values).astype(np.float32)
    prompt = HeadPrompt("a prompt", [f" token{i}" for i in range(64)], values)
    scores = tuple(HeadScoreColumn(name, values[:, :, 0, 0]) for name in ALL)
    view = HeadGridView("title", (prompt,), scores)
    data = head_grid_data(view, Edge(layer=0, head=0, dest=63, src=0))
    return len(json.dumps(data)) / 1000


def wait_for_heads(page: Page, prompt: str) -> None:
    """Wait until the grid of heads of this prompt has been painted."""
    ready = f'[data-testid="head-grid"][data-ready="true"][data-prompt={json.dumps(prompt)}]'
    page.locator(ready).wait_for(state="visible", timeout=60_000)
    page.evaluate(PAINTED)


def heads_s(browser: Browser, count: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds from Enter to the grid of all heads, and from a click on a head to its zoom.

    The zoom is painted twice: at once from the grid's own bytes, and again with the values that the
    server sends; both are timed.
    """
    prompts = [frame.format(city) for city in SUBJECTS for frame in FRAMES][:count]
    page = browser.new_page(viewport={"width": 1400, "height": 2400})
    grids, zooms, values = [], [], []
    with serving() as address:
        page.goto(f"{address}/attention-heads?{urlencode({'prompt': FIRST})}")
        wait_for_heads(page, FIRST)
        # The scores by which the grid can be sorted are measured meanwhile, once for the server.
        page.wait_for_timeout(15_000)
        page.reload()
        page.locator('[data-testid="head-grid"] select').wait_for(timeout=60_000)
        page.wait_for_timeout(2000)
        box = page.get_by_label("Your prompt")
        for prompt in prompts:
            box.fill(prompt)
            start = time.monotonic()
            box.press("Enter")
            wait_for_heads(page, prompt)
            grids.append(time.monotonic() - start)
            page.wait_for_timeout(300)
        for number in range(count):
            layer, head = number % 8, (3 * number + 1) % 8
            painted, complete = page.evaluate(CLICK_TO_ZOOM, [layer, head])
            zooms.append(painted / 1000)
            values.append(complete / 1000)
            page.wait_for_timeout(700)
        page.close()
    return grids, zooms, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--dry-run", action="store_true", help="print the table, write no file")
    options = parser.parse_args()

    under = machine("streamlit", "torch", "playwright")
    with sync_playwright() as playwright:
        browser = open_chromium(playwright)
        grids, zooms, values = heads_s(browser, options.count)
        browser.close()
    text = "\n\n".join(
        [
            "tiny-world, 64 heads. New prompt: from Enter to the painted grid of all heads of a "
            "prompt not seen before. A click on a head is painted from the grid's own bytes, and "
            f"again with the values that the server sends. Server and browser share this machine. "
            f"{under}",
            table(
                HEADER,
                [
                    row("new prompt", grids, GRID_S),
                    row("head to its zoom", zooms, ZOOM_S),
                    row("head to its values", values, VALUES_S),
                ],
            ),
            f"The grid of 144 heads on 64 tokens, with {len(ALL)} scores to sort by, is "
            f"{payload_kb():.0f} kB (goal {PAYLOAD_KB} kB).",
        ]
    )
    print(text)
    if not options.dry_run:
        write_section("Heads in the browser", text)


if __name__ == "__main__":
    main()
