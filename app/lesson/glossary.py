"""The glossary, and its terms in a lesson's text: ``{term}`residual stream```."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from app.lesson import plain_yaml

_FILE = Path(__file__).resolve().parent.parent.parent / "content" / "glossary.yaml"
_TERM = re.compile(r"\{term\}`([^`<]+?)(?:\s*<([^`>]+)>)?`")


@lru_cache(maxsize=1)
def terms() -> dict[str, str]:
    """Every term, in small letters, with its definition."""
    return {
        str(k).lower(): str(v).strip() for k, v in plain_yaml.load(_FILE.read_text("utf-8")).items()
    }


def uses(text: str) -> Iterator[tuple[int, str]]:
    """Each term in a text: where it stands, and its entry in the glossary."""
    for match in _TERM.finditer(text):
        yield match.start(), _entry(match)


def replace(text: str, by: Callable[[str, str], str]) -> str:
    """The text with each term replaced by what ``by(shown, entry)`` gives."""
    return _TERM.sub(lambda match: by(match.group(1), _entry(match)), text)


def plain_text(text: str) -> str:
    """The text with each term as mere words."""
    return replace(text, lambda shown, _: shown)


def _entry(match: re.Match[str]) -> str:
    return (match.group(2) or match.group(1)).strip().lower()
