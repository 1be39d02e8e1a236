"""The labs of Lens Lab, those that are open and those to come, in the order of the course."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import yaml

_FILE = Path(__file__).resolve().parent.parent / "content" / "syllabus.yaml"


@dataclass(frozen=True)
class Lab:
    """One lab: its unit, title and question; once open, its file in ``pages/`` and a summary."""

    unit: str
    title: str
    question: str
    page: str | None = None
    summary: str = ""


LABS: tuple[Lab, ...] = tuple(
    Lab(unit=unit["unit"], **lab)
    for unit in yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    for lab in unit["labs"]
)


def by_unit() -> list[tuple[str, list[Lab]]]:
    """The labs grouped by unit, in order."""
    return [(unit, list(labs)) for unit, labs in groupby(LABS, key=lambda lab: lab.unit)]
