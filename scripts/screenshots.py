"""Write the screenshots that README shows, from the lab itself: ``python scripts/screenshots.py``.

Starts the lab as README does and needs the system's Chromium, like the browser tests.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
LAPTOP, PHONE = (1400, 1000), (390, 844)
PATIENCE_MS = 180_000
LENS = "/logit-lens?" + urlencode({"prompt": "The Eiffel Tower is in", "layer": "5"})
SHOTS = {
    "logit-lens-light": (LENS, LAPTOP, "light"),
    "logit-lens-dark": (LENS + "&color=rank", LAPTOP, "dark"),
    "logit-lens-phone": (LENS, PHONE, "light"),
    "home": ("/", LAPTOP, "light"),
}


def shoot(
    browser: Browser, address: str, path: str, size: tuple[int, int], scheme: str, file: Path
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.headless=true"]
    options = ["--server.address=127.0.0.1", f"--server.port={port}"]
    server = subprocess.Popen([*command, *options], cwd=ROOT)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).read()
                break
            except OSError:
                time.sleep(0.1)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            for name, (path, size, scheme) in SHOTS.items():
                shoot(browser, address, path, size, scheme, out / f"{name}.png")
            browser.close()
    finally:
        server.terminate()
        server.wait(timeout=30)


if __name__ == "__main__":
    main()
