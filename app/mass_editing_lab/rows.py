"""Facts as a visitor brings them: each row is either a fact to write or a sentence why not.

Cells are data: nothing in them is read as markup, formula, code or path.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lens_core.editing import EditingError, EditRequest
from lens_core.model.errors import LensError

COLUMNS = ("prompt", "subject", "target_new", "target_true")
NEEDED = COLUMNS[:3]
MOST_ROWS, MOST_CHARS = 1000, 300
TEMPLATE = """\
prompt,subject,target_new,target_true
The Eiffel Tower is in the city of,The Eiffel Tower,Rome,Paris
Michael Jordan plays the sport of,Michael Jordan,tennis,basketball
"The capital of Japan, as everybody knows, is",Japan,Berlin,
"""


class TableError(LensError):
    """The file as a whole cannot be read as a table of facts."""


@dataclass(frozen=True)
class Row:
    """One fact, and the line it stands in; 1 is the first below the heading."""

    number: int
    request: EditRequest


@dataclass(frozen=True)
class BadRow:
    """A line that is left out, and why."""

    number: int
    reason: str
    prompt: str


@dataclass(frozen=True)
class Table:
    """What a table holds: rows to run, rows left out, and what is to be said of the whole."""

    rows: tuple[Row, ...]
    bad: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()


def read_csv(content: bytes) -> Table:
    """The rows of a CSV file; columns may come in any order, and others are passed over.

    Raises:
        TableError: no text, no heading with the needed columns, or no row below it.

    >>> table = read_csv(b"subject,prompt,target_new\\nJapan,The capital of Japan is,Rome\\nx,,y")
    >>> table.rows[0].request.target_new, [bad.number for bad in table.bad]
    ('Rome', [2])
    """
    text = _text(content)
    heading = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=heading.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise TableError(f"This is no CSV file that can be read: {error}.") from error
    names = [name.strip().lower() for name in lines[0]] if lines else []
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise TableError(
            f"The first line must name the columns {', '.join(COLUMNS)} (the last one may be left "
            f"out); {', '.join(missing)} is not there. Take the template to start from."
        )
    places = {name: names.index(name) for name in COLUMNS if name in names}
    # A line is known by its number in the file, empty ones counted, so that it can be found there.
    numbered = [(n, line) for n, line in enumerate(lines[1:], start=1) if any(map(str.strip, line))]
    return _table((n, _cells(line, places, len(names))) for n, line in numbered)


def read_records(records: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of the editable table; lines without any text are passed over.

    Raises:
        TableError: no row has any text.
    """
    written = [
        (n, {name: _cell(record.get(name)) for name in COLUMNS})
        for n, record in enumerate(records, start=1)
    ]
    return _table((n, cells) for n, cells in written if any(cells.values()))


def contradictions(rows: Iterable[Row]) -> tuple[tuple[Row, ...], ...]:
    """Rows that give one prompt about one subject different answers, together."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.request.prompt, row.request.subject].append(row)
    return tuple(
        tuple(g) for g in groups.values() if len({row.request.target_new for row in g}) > 1
    )


def _text(content: bytes) -> str:
    for encoding in ("utf-8-sig", "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""):
        if encoding:
            try:
                return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
            except UnicodeDecodeError:
                continue
    raise TableError("This file is no text in UTF-8; save the table as CSV (UTF-8).")


def _cells(line: Sequence[str], places: Mapping[str, int], width: int) -> dict[str, str] | str:
    if len(line) > width:
        return (
            f"It has {len(line)} cells and the heading {width}; a text that holds a comma stands "
            'in "quotes".'
        )
    return {name: _cell(line[at]) if at < len(line) else "" for name, at in places.items()}


def _cell(value: Any) -> str:
    # An empty cell of the editable table is None, or a NaN.
    return "" if value is None or value != value else str(value).strip()


def _table(lines: Iterable[tuple[int, dict[str, str] | str]]) -> Table:
    rows: list[Row] = []
    bad: list[BadRow] = []
    seen: dict[EditRequest, int] = {}
    n_lines = 0
    for number, cells in lines:
        n_lines += 1
        if n_lines > MOST_ROWS:
            continue
        said = "" if isinstance(cells, str) else cells.get("prompt", "")[:MOST_CHARS]
        try:
            request = _request(cells)
            if request in seen:
                raise EditingError(f"It says what row {seen[request]} says.")
        except EditingError as error:
            bad.append(BadRow(number, str(error), said))
            continue
        seen[request] = number
        rows.append(Row(number, request))
    if not n_lines:
        raise TableError("There is no row below the heading; write one fact a line.")
    too_many = f"Of {n_lines} rows the first {MOST_ROWS} are taken."
    return Table(tuple(rows), tuple(bad), (too_many,) if n_lines > MOST_ROWS else ())


def _request(cells: Mapping[str, str] | str) -> EditRequest:
    """The fact in these cells. Raises EditingError where they hold none."""
    if isinstance(cells, str):
        raise EditingError(cells)
    for name, text in cells.items():
        if len(text) > MOST_CHARS:
            raise EditingError(f"The {name} has {len(text)} characters; {MOST_CHARS} are the most.")
        if any(unicodedata.category(c) == "Cc" for c in text):
            raise EditingError(f"The {name} has a line break or a control character in it.")
    prompt, subject, new = (cells.get(name, "") for name in NEEDED)
    return EditRequest(prompt, subject, new, cells.get("target_true", ""))
