"""Documents for lenses: from a file, from the generated world, or from a hub dataset by name."""

from __future__ import annotations

import importlib
import io
import json
import random
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from lens_core.lens.errors import LensDataError
from lens_core.model.errors import HubUnreachableError, MissingDependencyError
from lens_core.model.sources import hub_answers

WORLD = "world"
FILE_KINDS = (".jsonl", ".jsonl.zst", ".txt", ".txt.zst")
_WORLD_NAME = re.compile(r"world(:(\d+))?")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?( [\w.-]+)?")


def documents_of(
    source: str | Path | Iterable[str], *, text_column: str, split: str, revision: str | None
) -> tuple[str, Iterator[str]]:
    """A name for the source, and its documents in order, made one by one."""
    if not isinstance(source, str | Path):
        return "documents", iter(source)
    text = str(source).strip()
    path = Path(text).expanduser()
    if isinstance(source, str) and not path.is_file():
        world = _WORLD_NAME.fullmatch(text)
        if world is not None:
            return text, world_documents(int(world[2] or 0))
        if not text.endswith(FILE_KINDS) and _HUB_NAME.fullmatch(text):
            return f"{text} {split}", _hub_documents(text, text_column, split, revision)
    if not path.is_file():
        raise LensDataError(f"There is no file {text[:200]!r}; check the path.")
    if not path.name.endswith(FILE_KINDS):
        raise LensDataError(
            f"{path.name[:100]!r} is not a text file that is read here; use one of: "
            f"{', '.join(FILE_KINDS)}."
        )
    return path.name, _file_documents(path, text_column)


def world_documents(seed: int = 0) -> Iterator[str]:
    """Endless documents of the generated world, in the shares that the shipped model ended with.

    A seed that is a text never equals one of the numbers that the training run drew from.
    """
    from lens_core.world.mix import PHASES, document

    shares = list(PHASES.values())[-1]
    rng = random.Random(f"lens corpus {seed}")
    while True:
        yield document(rng, shares)[1]


def _file_documents(path: Path, text_column: str) -> Iterator[str]:
    is_json = ".jsonl" in path.suffixes
    try:
        with _opened(path) as lines:
            if is_json:
                yield from _json_documents(path.name, lines, text_column)
            else:
                yield from _paragraphs(lines)
    except (UnicodeDecodeError, OSError) as error:
        raise LensDataError(f"{path.name} cannot be read as UTF-8 text.") from error


def _opened(path: Path) -> IO[str]:
    if path.suffix != ".zst":
        return path.open(encoding="utf-8")
    zstandard = _needed("zstandard", f"to read {path.name}")
    stream = _Decompressed(path.open("rb"), zstandard)
    return io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8")


class _Decompressed(io.RawIOBase):
    """A zstd stream whose errors are `OSError`, like those of any other file."""

    def __init__(self, raw: IO[bytes], zstandard: Any) -> None:
        self._raw, self._error = raw, zstandard.ZstdError
        self._stream = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return int(self._stream.readinto(buffer))
        except self._error as error:
            raise OSError(str(error)) from error

    def close(self) -> None:
        self._raw.close()
        super().close()


def _json_documents(name: str, lines: Iterable[str], column: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise LensDataError(f"Line {number} of {name} is not JSON.") from error
        yield _text_of(record, column, f"Line {number} of {name}")


def _text_of(record: Any, column: str, where: str) -> str:
    text = record.get(column) if isinstance(record, dict) else None
    if not isinstance(text, str):
        columns = sorted(map(str, record))[:10] if isinstance(record, dict) else []
        raise LensDataError(
            f"{where} has no text in {column[:50]!r}; name the column with text_column "
            f"(there is: {', '.join(columns) or 'no column'})."
        )
    return text


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Documents of a plain text: what stands between blank lines."""
    part: list[str] = []
    for line in lines:
        if line.strip():
            part.append(line)
        elif part:
            yield "".join(part).strip("\n")
            part = []
    if part:
        yield "".join(part).strip("\n")


def _hub_documents(text: str, column: str, split: str, revision: str | None) -> Iterator[str]:
    datasets = _needed("datasets", f"to fetch {text!r} from the hub")
    if not hub_answers():
        raise HubUnreachableError(
            f"{text!r} is no file here, and the hub cannot be reached; give a .jsonl, .jsonl.zst "
            f"or .txt file, or {WORLD!r} for generated text."
        )
    name, _, config = text.partition(" ")
    try:
        stream = datasets.load_dataset(
            name, config or None, split=split, revision=revision, streaming=True
        )
        first = list(islice(iter(stream), 1))
    except Exception as error:  # the package raises many kinds, its own among them
        raise LensDataError(
            f"The hub has no dataset {text!r} with the split {split!r} that opens without running "
            "its own code; check the name, or download it as .jsonl."
        ) from error
    if not first:
        raise LensDataError(f"The split {split!r} of {text!r} is empty.")
    return (_text_of(record, column, f"A record of {text}") for record in stream)


def _needed(package: str, why: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(
            f"The package {package!r} is needed {why}; install it with pip install {package}."
        ) from error
