"""The lab as README starts it, in the system's Chromium; skipped where there is none, but in CI."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from scripts.lab import chromium_path, open_chromium, serving

PATIENCE_MS = 120_000
GRID = '[data-testid="lens-grid"][data-ready="true"]'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def lab() -> Iterator[str]:
    """The address of the lab, started by README's first command."""
    with serving() as address:
        yield address


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, headless."""
    if chromium_path() is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium on this system; CI must have one")
        pytest.skip("no Chromium on this system")
    with sync_playwright() as playwright:
        browser = open_chromium(playwright)
        yield browser
        browser.close()


@dataclass
class Visit:
    """One page in a browser of its own, and what went wrong or abroad while it was open."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Go to a page of the lab and wait for its title."""
        self.page.goto(self.address + path)
        self.page.wait_for_selector("h1", timeout=PATIENCE_MS)

    def grid(self, prompt: str | None = None) -> None:
        """Wait until the grid, of this prompt if one is given, has been painted."""
        which = "" if prompt is None else f"[data-prompt={json.dumps(prompt)}]"
        self.page.wait_for_selector(GRID + which, timeout=PATIENCE_MS)

    def cell(self, row: int, column: int):
        """A cell of the grid; row 0 is the embedding."""
        return self.page.locator(f'.cell[data-row="{row}"][data-column="{column}"]')

    def selected(self) -> tuple[int, int]:
        """Row and column of the chosen cell."""
        chosen = self.page.locator('.cell[aria-selected="true"]')
        row, column = chosen.get_attribute("data-row"), chosen.get_attribute("data-column")
        return int(row or -1), int(column or -1)


@pytest.fixture
def visit(chromium: Browser, lab: str) -> Iterator[Callable[..., Visit]]:
    """``visit()``: a fresh visitor; ``visit(width=390, color_scheme="dark")`` for another screen.

    At the end of the test no visitor may have seen an error in the console or asked another host.
    """
    contexts: list[BrowserContext] = []
    visits: list[Visit] = []

    def new(
        *, width: int = 1280, height: int = 900, color_scheme: str = "light", address: str = lab
    ) -> Visit:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme=color_scheme,  # type: ignore[arg-type]
            has_touch=width < 500,
        )
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        made = Visit(context.new_page(), address)
        visits.append(made)

        def on_console(message) -> None:
            # Streamlit asks for its own files beside a page's address first, and is told 404.
            probing = "404" in message.text and "/_stcore/" in (message.location or {}).get(
                "url", ""
            )
            if message.type == "error" and not probing:
                made.complaints.append(message.text)

        def on_request(request) -> None:
            if not request.url.startswith(
                (address, "data:", "blob:", address.replace("http", "ws"))
            ):
                made.foreign.append(request.url)

        def on_socket(opened) -> None:
            if not opened.url.startswith(address.replace("http", "ws")):
                made.foreign.append(opened.url)

        made.page.on("console", on_console)
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        made.page.on("request", on_request)
        made.page.on("websocket", on_socket)
        return made

    yield new
    for context in contexts:
        context.close()
    for made in visits:
        assert made.complaints == []
        assert made.foreign == []
