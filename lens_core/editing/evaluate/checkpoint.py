"""Work that can be stopped and gone on with: one line of JSON a finished piece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lens_core.editing.errors import EditingError


class Checkpoint:
    """A file of finished pieces that belong to one kind of work.

    The first line says what the work is; a file of another work is refused. A last line that was
    cut off by the end of the program is forgotten.
    """

    def __init__(self, path: Path | None, work: dict[str, Any]) -> None:
        """Open, or begin, the file; without a path nothing is kept.

        Raises:
            EditingError: the file belongs to other work.
        """
        self.path = path
        self.pieces: list[dict[str, Any]] = []
        if path is None:
            return
        header = json.dumps({"work": work}, sort_keys=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        whole = [line for line in lines if _is_json(line)]
        if whole and json.loads(whole[0]) != json.loads(header):
            raise EditingError(
                f"{path.name} holds the results of other settings, records or weights; delete it "
                "or name another file."
            )
        self.pieces = [json.loads(line) for line in whole[1:]]
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line}\n" for line in [header, *whole[1:]])
        path.write_text(text, encoding="utf-8")

    def add(self, piece: dict[str, Any]) -> None:
        """Note a finished piece."""
        self.pieces.append(piece)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(piece) + "\n")


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
