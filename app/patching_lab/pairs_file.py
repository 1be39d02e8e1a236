"""A visitor's pairs as CSV, read row by row: a bad row is told with its reason, the rest is kept.

A cell is a text and nothing else: no formula is computed and no markup obeyed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from app.patching_lab.pairs import MAX_CHARS
from lens_core.patching import PatchingError

MOST_ROWS, MOST_BYTES = 500, 500_000
TEMPLATE = """\
clean,corrupted,target,foil
"In Japan, the capital is","In Italy, the capital is",Tokyo,Rome
"In France, the capital is","In Italy, the capital is",,
"""
_NAMES = ("clean", "corrupted", "target", "foil")
_QUOTES = 'a text that holds a comma stands in "quotes"'


@dataclass(frozen=True)
class Row:
    """One pair as it was typed; `number` is its row in the file, the first being 1."""

    number: int
    clean: str
    corrupted: str
    target: str
    foil: str


@dataclass(frozen=True)
class LeftOut:
    """A row that cannot be used, and why, in a sentence."""

    number: int
    reason: str


def decoded(content: bytes) -> str:
    """A file's text.

    Raises:
        PatchingError: it is too large, or no text.
    """
    if len(content) > MOST_BYTES:
        raise PatchingError(
            f"The file has {len(content) / 1000:.0f} kB, and this page reads {MOST_BYTES // 1000} "
            f"kB and {MOST_ROWS} rows at most; upload a part of it."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PatchingError(
            "The file is no text in UTF-8; save the table as CSV (UTF-8) and upload that."
        ) from None


def read_rows(text: str) -> tuple[tuple[Row, ...], tuple[LeftOut, ...]]:
    """The rows that have two prompts, and those that have not.

    Columns are clean, corrupted, target and foil, in this order or as the first row names them.

    Raises:
        PatchingError: the columns are named, and clean or corrupted is missing.
    """
    kept: list[Row] = []
    left_out: list[LeftOut] = []
    columns: list[str] | None = None
    for number, cells in _cells(text, left_out):
        if columns is None:
            columns = _header(cells)
            if columns is not None:
                continue
            columns = list(_NAMES)
        if len(kept) == MOST_ROWS:
            left_out.append(LeftOut(number, f"Only {MOST_ROWS} rows are read; it and what follows "
                                            "are left out."))  # fmt: skip
            break
        reason = _reason(cells, columns)
        if reason:
            left_out.append(LeftOut(number, reason))
            continue
        given = dict(zip(columns, cells, strict=False))
        kept.append(Row(number, *(given.get(name, "") for name in _NAMES)))
    return tuple(kept), tuple(left_out)


def _cells(text: str, left_out: list[LeftOut]) -> Iterator[tuple[int, list[str]]]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    semicolons = first.count(";") > first.count(",")
    delimiter = "\t" if "\t" in first else ";" if semicolons else ","
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    number = 0
    while True:
        number += 1
        try:
            cells = [cell.strip() for cell in next(rows)]
        except StopIteration:
            return
        except csv.Error:
            left_out.append(LeftOut(number, f"It cannot be read as CSV; {_QUOTES}."))
            continue
        if any(cells):
            yield number, cells


def _header(cells: list[str]) -> list[str] | None:
    """The columns' names if this row has them."""
    names = ["target" if cell.lower() == "answer" else cell.lower() for cell in cells]
    found = {"clean", "corrupted"}.intersection(names)
    if len(found) == 1:
        missing = ({"clean", "corrupted"} - found).pop()
        raise PatchingError(
            f"The first row names the columns, and none is named {missing}; the names are "
            f"{', '.join(_NAMES)}, the last two if you like."
        )
    return names if found else None


def _reason(cells: list[str], columns: list[str]) -> str:
    if len(cells) > len(columns) and any(cells[len(columns) :]):
        return f"It has {len(cells)} cells for {len(columns)} columns; {_QUOTES}."
    given = dict(zip(columns, cells, strict=False))
    for name in ("clean", "corrupted"):
        if not given.get(name):
            return f"It has no {name} prompt."
    for name, cell in given.items():
        if len(cell) > MAX_CHARS:
            return f"Its {name} has {len(cell)} characters, and {MAX_CHARS} are the most."
    return ""
