"""The results file: one section a script, each replaced whole by the run that makes it."""

import os
import platform
import random
import re
import statistics
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).with_name("results.md")
HEADING = "# Results\n\nWritten by the scripts in this folder; `README.md` says how to run them.\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def interval(values: Sequence[float], seed: int = 0, resamples: int = 2000) -> tuple[float, float]:
    """95% bootstrap interval of the median."""
    draw = random.Random(seed)
    medians = sorted(
        statistics.median(draw.choices(values, k=len(values))) for _ in range(resamples)
    )
    return medians[int(0.025 * resamples)], medians[int(0.975 * resamples)]


def machine(*packages: str) -> str:
    """What was measured on, and the load before: times from a busy machine say little."""
    cpu = platform.processor() or platform.machine()
    details = Path("/proc/cpuinfo")
    if details.exists():  # Linux; elsewhere the platform's own word for the processor stands
        found = re.search(r"model name\s*: (.*)", details.read_text())
        cpu = found[1].strip() if found else cpu
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{date.today()}, {cpu}, {os.cpu_count()} cores, load before {os.getloadavg()[0]:.2f}; "
        f"Python {platform.python_version()}, {versions}."
    )


def write_section(title: str, text: str) -> None:
    """Put `text` under `## title`, in place of what stood there."""
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else HEADING
    section = f"## {title}\n\n{text.strip()}\n"
    pattern = rf"## {re.escape(title)}\n.*?(?=\n## |\Z)"
    if re.search(pattern, old, re.DOTALL):
        new = re.sub(pattern, lambda _: section, old, count=1, flags=re.DOTALL)
    else:
        new = f"{old.rstrip()}\n\n{section}"
    RESULTS.write_text(new, encoding="utf-8")
