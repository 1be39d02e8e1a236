"""The text of single tokens, honest about those that are no text by themselves.

A token of a byte-level vocabulary may be half a character, and a head may have more rows than its
tokenizer has tokens. Decoding turns the first into the replacement character and the second into
nothing, so that different tokens look the same; here they stay apart: ``<0xE2>``, ``id:50290``.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lens_core import HookedModel

_REPLACEMENT = "\ufffd"
_BYTE_PIECE = re.compile(r"(<0x[0-9A-Fa-f]{2}>)+")


def token_text(model: HookedModel, token_id: int) -> str:
    """The token as text, with bytes that are no text as ``<0x..>`` and unnamed ids as ``id:..``."""
    if model.tokenizer is None:
        return f"id:{token_id}"
    piece = model.tokenizer.convert_ids_to_tokens(token_id)
    if piece is None:
        return f"id:{token_id}"
    text = model.to_string([token_id])
    if _REPLACEMENT not in text:
        return text or str(piece)
    if _BYTE_PIECE.fullmatch(piece):
        return str(piece)
    letters = _byte_of_letter()
    if any(letter not in letters for letter in piece):
        return str(piece)
    raw = bytes(letters[letter] for letter in piece)
    # The two-digit escapes are what Python writes for bytes that it cannot decode.
    return re.sub(
        r"\\x([0-9a-f]{2})",
        lambda match: f"<0x{match[1].upper()}>",
        raw.decode("utf-8", errors="backslashreplace"),
    )


@cache
def _byte_of_letter() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for, as GPT-2 numbered them.

    Printable Latin-1 letters stand for themselves; the other bytes, in order, are the letters from
    256 on.
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    letters = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    return letters | {chr(256 + n): byte for n, byte in enumerate(others)}
