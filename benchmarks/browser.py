"""What a learner waits for: from README's command to a painted grid, from Enter to the next.

Run as `python -m benchmarks.browser`; see README.md beside this file.
"""

import argparse
import json
import statistics
import time
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.report import machine, table, write_section
from scripts.lab import open_chromium, serving

LIMITS_S = {"cold start": 10.0, "new prompt": 1.0, "colour changed": 0.5}
PAYLOAD_KB = 200
HEADER = ["what", "n", "median s", "fastest s", "slowest s", "goal s"]
LONG = "When Mary and John went to the store, " * 3 + "John gave a drink to"
UNTIL_REPLACED = """node => new Promise(done => {
  const look = () => (node.isConnected ? requestAnimationFrame(look) : done());
  look();
})"""
PAINTED = "() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"
COLOURS = ("rank", "entropy", "KL", "probability")
FIRST = "The Eiffel Tower is in the city of"
SUBJECTS = (
    "Rome",
    "Paris",
    "Tokyo",
    "Berlin",
    "London",
    "Madrid",
    "Cairo",
    "Lima",
    "Oslo",
    "Vienna",
)
FRAMES = ("People who live in {} speak", "The city of {} is in", "A train left {} for")


def wait_for_grid(page: Page, prompt: str, timeout_s: float = 60) -> None:
    """Wait until the grid of this prompt is in the page and the browser has painted it."""
    ready = f'[data-testid="lens-grid"][data-ready="true"][data-prompt={json.dumps(prompt)}]'
    page.locator(ready).wait_for(state="visible", timeout=1000 * timeout_s)
    page.evaluate(PAINTED)


def cold_start_s(browser: Browser) -> float:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    start = time.monotonic()
    with serving() as address:
        page.goto(f"{address}/logit-lens?{urlencode({'prompt': FIRST})}")
        wait_for_grid(page, FIRST)
        elapsed = time.monotonic() - start
        page.close()
    return elapsed


def new_prompts_s(browser: Browser, count: int) -> list[float]:
    prompts = [frame.format(city) for city in SUBJECTS for frame in FRAMES][:count]
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    times = []
    with serving() as address:
        page.goto(f"{address}/logit-lens?{urlencode({'prompt': FIRST})}")
        wait_for_grid(page, FIRST)
        box = page.get_by_label("Your prompt")
        for prompt in prompts:
            box.fill(prompt)
            start = time.monotonic()
            box.press("Enter")
            wait_for_grid(page, prompt)
            times.append(time.monotonic() - start)
        page.close()
    return times


def colour_changes_s(browser: Browser, count: int) -> tuple[list[float], float]:
    """Seconds from a chosen colour to its painted grid, and the kB that came after the first load.

    The prompt has 30 tokens or so; what came is what the server sent over the page's socket.
    """
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    received: list[int] = []
    page.on(
        "websocket",
        lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))),
    )
    times = []
    with serving() as address:
        page.goto(f"{address}/logit-lens?{urlencode({'prompt': LONG})}")
        wait_for_grid(page, LONG)
        page.wait_for_timeout(5000)
        box = page.get_by_role("combobox", name="Colour shows")
        legend = page.locator('[data-testid="lens-grid"] .legend-label')
        sizes = []
        for number in range(count + 1):
            colour = COLOURS[number % len(COLOURS)]
            box.click()
            box.fill(colour)
            received.clear()
            shown = legend.element_handle()
            start = time.monotonic()
            box.press("Enter")
            shown.evaluate(UNTIL_REPLACED)
            wait_for_grid(page, LONG)
            times.append(time.monotonic() - start)
            page.wait_for_timeout(700)
            sizes.append(sum(received) / 1000)
        page.close()
    return times[1:], statistics.median(sizes[1:])


def row(what: str, values: list[float], limit: float) -> list[str]:
    """One line of the table, with whether the goal was met."""
    met = statistics.median(values) <= limit
    verdict = "met" if max(values) <= limit else "met by the median" if met else "not met"
    return [
        what, str(len(values)), f"{statistics.median(values):.2f}", f"{min(values):.2f}",
        f"{max(values):.2f}", f"{limit:g} ({verdict})",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--dry-run", action="store_true", help="print the table, write no file")
    options = parser.parse_args()

    under = machine("streamlit", "torch", "playwright")
    with sync_playwright() as playwright:
        browser = open_chromium(playwright)
        starts = [cold_start_s(browser) for _ in range(options.starts)]
        prompts = new_prompts_s(browser, options.prompts)
        colours, payload_kb = colour_changes_s(browser, options.prompts)
        browser.close()
    text = "\n\n".join(
        [
            "Cold start: from starting the process to a painted grid, the browser already open. "
            "New prompt: from Enter to the painted grid of a prompt not seen before. "
            f"Server and browser share this machine. {under}",
            table(
                HEADER,
                [
                    row("cold start", starts, LIMITS_S["cold start"]),
                    row("new prompt", prompts, LIMITS_S["new prompt"]),
                    row("colour changed", colours, LIMITS_S["colour changed"]),
                ],
            ),
            f"A colour change on a prompt of about thirty tokens sends {payload_kb:.0f} kB to the "
            f"browser (median; goal {PAYLOAD_KB} kB for the whole grid).",
        ]
    )
    print(text)
    if not options.dry_run:
        write_section("In the browser", text)


if __name__ == "__main__":
    main()
