"""Write the screenshots that README shows, from the lab itself: ``python -m scripts.screenshots``.

Starts the lab as README does and needs the system's Chromium, like the browser tests.
"""

import argparse
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from playwright.sync_api import Browser, sync_playwright

from scripts.lab import ROOT, open_chromium, serving

Scheme = Literal["light", "dark"]
LAPTOP, PHONE = (1400, 1000), (390, 844)
PATIENCE_MS = 180_000
LENS = "/logit-lens?" + urlencode({"prompt": "The Eiffel Tower is in the city of", "layer": "6"})
SHOTS: dict[str, tuple[str, tuple[int, int], Scheme]] = {
    "logit-lens-light": (LENS, LAPTOP, "light"),
    "logit-lens-dark": (LENS + "&color=rank", LAPTOP, "dark"),
    "logit-lens-phone": (LENS, PHONE, "light"),
    "lesson": (LENS + "&step=3&lens=tuned&color=KL", LAPTOP, "light"),
    "transformer": ("/transformer?step=2", LAPTOP, "light"),
    "attention": ("/attention-heads?step=1", LAPTOP, "light"),
    "attention-head": ("/attention-heads?view=head&layer=6&head=2", LAPTOP, "dark"),
    "attribution": ("/attribution?step=1", LAPTOP, "light"),
    "induction": ("/induction?step=1", LAPTOP, "light"),
    "patching": ("/patching?step=1", LAPTOP, "light"),
    "tracing": ("/tracing?step=1", LAPTOP, "dark"),
    "wires": ("/path-patching?step=1", LAPTOP, "light"),
    "circuit": ("/circuits?" + urlencode({"circuit": "L6H2 L6H4 L7H1"}), LAPTOP, "light"),
    "editing": ("/editing?step=1", LAPTOP, "light"),
    "home": ("/", LAPTOP, "light"),
}


def shoot(
    browser: Browser, address: str, path: str, size: tuple[int, int], scheme: Scheme, file: Path
) -> None:
    """One page at one size in one theme."""
    width, height = size
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address + path)
    page.wait_for_selector("h1")
    if "logit-lens" in path:
        page.wait_for_selector('[data-testid="lens-grid"][data-ready="true"]')
        page.wait_for_selector(".js-plotly-plot .main-svg")
    page.wait_for_selector("text=self-check: all", state="attached")
    page.wait_for_selector('[data-testid="stProgress"]', state="detached")
    page.wait_for_selector('[data-test-script-state="notRunning"]')
    page.evaluate("document.fonts.ready")
    # Charts settle their size once more after they are drawn.
    page.wait_for_timeout(1500)
    page.screenshot(path=file, animations="disabled")
    page.close()


def main() -> None:
    """Start the lab, take every screenshot, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with serving() as address, sync_playwright() as playwright:
        browser = open_chromium(playwright)
        for name, (path, size, scheme) in SHOTS.items():
            shoot(browser, address, path, size, scheme, out / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
