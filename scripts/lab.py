"""The lab as README starts it, and Chromium: for browser tests, screenshots and timings."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Playwright

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 120
# Without these Chromium asks its maker's hosts for updates whenever it starts.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def command_from_readme() -> list[str]:
    """README's first command without its pip half, by this very Python."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^pip install .* && (python -m streamlit run .*)$", readme, re.MULTILINE)
    if found is None:
        raise RuntimeError("README holds no command that starts the lab.")
    return [sys.executable, *shlex.split(found[1])[1:]]


@contextmanager
def serving(command: Sequence[str] | None = None) -> Iterator[str]:
    """A lab on a free port, README's own unless told, up and answering; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--server.headless=true", "--server.address=127.0.0.1", f"--server.port={port}"]
    server = subprocess.Popen(
        [*(command or command_from_readme()), *options],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(server, address)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:  # a busy machine; nothing is lost by force
            server.kill()
            server.wait()


def wait_until_up(server: subprocess.Popen[bytes], address: str) -> None:
    """Return when the server answers; raise RuntimeError when it ends, or stays silent too long."""
    deadline = time.monotonic() + PATIENCE_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).read()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("The lab did not start; run README's command by hand to see why.")


def chromium_path() -> str | None:
    """Where the system's Chromium is, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def open_chromium(playwright: Playwright) -> Browser:
    """The system's Chromium without a window; Playwright's own browser is never downloaded."""
    return playwright.chromium.launch(executable_path=chromium_path(), args=list(FLAGS))
