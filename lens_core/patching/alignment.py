"""Pairs of prompts whose tokens answer to each other, so that one run can be patched into another.

Patching asks that a position means the same in both prompts. `prompt_pair` takes two prompts of
equal length, or with a marked span ("The [Eiffel Tower] is in") whose last tokens answer to each
other, or pads the shorter on the left if that is asked for; otherwise it refuses and says what to
change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from lens_core.model.errors import TokenError
from lens_core.patching.errors import AlignmentError

if TYPE_CHECKING:
    from lens_core import HookedModel

Align = Literal["length", "pad"]
Prompt = str | Sequence[int] | Int[Tensor, "..."]
_SPAN = re.compile(r"\[([^\[\]]+)\]")
_HINT = (
    "use words with as many tokens, mark what differs in both with [brackets], or ask for "
    'align="pad"'
)


@dataclass(frozen=True, eq=False)
class PromptPair:
    """Two prompts, and what the model should say after the clean one.

    Attributes:
        clean, corrupted: Int [pos] each, padding included.
        answer: the token that is right after the clean prompt; foil: after the corrupted one, None
            if there is none.
        matches: Int [match, 2], the positions that answer to each other, clean and corrupted.
        padding: how many tokens on the left of the clean and of the corrupted prompt are padding.
    """

    clean: Int[Tensor, " clean_pos"]
    corrupted: Int[Tensor, " corrupted_pos"]
    answer: int
    foil: int | None
    matches: Int[Tensor, "match 2"]
    padding: tuple[int, int] = (0, 0)

    @property
    def same_length(self) -> bool:
        """Whether position i of one prompt is position i of the other."""
        return bool((self.matches[:, 0] == self.matches[:, 1]).all())

    @property
    def differing(self) -> tuple[int, ...]:
        """The clean positions whose token differs from the one it answers to."""
        i, j = self.matches.T
        return tuple(i[self.clean[i] != self.corrupted[j]].tolist())


def prompt_pair(
    model: HookedModel,
    clean: Prompt,
    corrupted: Prompt,
    answer: str | int,
    foil: str | int | None = None,
    *,
    align: Align = "length",
    prepend_bos: bool | None = None,
) -> PromptPair:
    """Two prompts made ready for patching.

    Args:
        clean, corrupted: texts or token ids. A part of both texts in [brackets] is a marked span:
            the tokens before and after it must agree in number, the span itself may differ, and
            its tokens are matched from its end.
        answer, foil: a token id, or a text that is exactly one token.
        align: "length" wants equal lengths (a marked span aside); "pad" puts padding on the left of
            the shorter, so that positions are counted from the end.

    Raises:
        AlignmentError: the prompts do not match; the sentence says where and what to do.
        TokenError: an answer is not one token. Also what `to_tokens` raises.

    Example:
        >>> from lens_core import HookedModel
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> pair = prompt_pair(model, "one two three", "one four three", " five", " six")
        >>> pair.same_length
        True
    """
    if align not in ("length", "pad"):
        raise AlignmentError(f'Prompts are aligned by "length" or "pad", not {align!r}.')
    answers = (_token(model, answer), None if foil is None else _token(model, foil))
    texts = (clean, corrupted)
    spans = [isinstance(text, str) and _SPAN.search(text) is not None for text in texts]
    if all(spans):
        rows = [_spanned(model, str(text), prepend_bos) for text in texts]
        return _match_spans(rows[0], rows[1], *answers)
    if any(spans):
        raise AlignmentError("Mark the span with [brackets] in both prompts, or in neither.")
    left, right = (_row(model, text, prepend_bos) for text in texts)
    if len(left) == len(right):
        return PromptPair(left, right, *answers, _identity(0, len(left)))
    if align == "length":
        raise AlignmentError(
            f"The clean prompt has {len(left)} tokens and the corrupted one {len(right)}; {_HINT}."
        )
    return _padded(model, left, right, *answers)


def _token(model: HookedModel, answer: str | int) -> int:
    if isinstance(answer, str):
        return model.to_single_token(answer)
    if not 0 <= answer < model.cfg.d_vocab:
        raise TokenError(
            f"Token id {answer} is outside the vocabulary, which has {model.cfg.d_vocab}."
        )
    return int(answer)


def _row(model: HookedModel, prompt: Prompt, prepend_bos: bool | None) -> Tensor:
    if isinstance(prompt, str):
        return model.to_tokens(prompt, prepend_bos)[0]
    tokens = model._as_tokens(prompt if isinstance(prompt, Tensor) else list(prompt))
    if tokens.shape[0] != 1:
        raise AlignmentError("Give one prompt at a time; a sweep takes a list of pairs.")
    return tokens[0]


def _spanned(
    model: HookedModel, text: str, prepend_bos: bool | None
) -> tuple[Tensor, tuple[int, int]]:
    """The tokens of a text with its mark taken out, and where the span begins and ends in them."""
    marks = list(_SPAN.finditer(text))
    if len(marks) != 1:
        raise AlignmentError(f"Mark one span in each prompt; {text!r:.60} has {len(marks)}.")
    start, end = marks[0].span()
    before, inside, after = text[:start], marks[0][1], text[end:]
    whole = model.to_tokens(before + inside + after, prepend_bos)[0]
    # A tokenizer joins a space to the word after it: count what lies before and through the span.
    offset = len(whole) - len(_ids(model, before + inside + after))
    first = offset + len(_ids(model, before.rstrip(" ")))
    last = offset + len(_ids(model, before + inside))
    pieces = [_ids(model, before.rstrip(" ")), _ids(model, before + inside)]
    found = whole.tolist()[offset:]
    if any(found[: len(piece)] != piece for piece in pieces) or first >= last:
        raise AlignmentError(
            f"The span {inside!r:.40} does not begin and end where tokens do; mark whole words."
        )
    return whole, (first, last)


def _ids(model: HookedModel, text: str) -> list[int]:
    return list(model._tokenizer().encode(text, add_special_tokens=False)) if text else []


def _match_spans(
    clean: tuple[Tensor, tuple[int, int]],
    corrupted: tuple[Tensor, tuple[int, int]],
    answer: int,
    foil: int | None,
) -> PromptPair:
    (left, (start, end)), (right, (other_start, other_end)) = clean, corrupted
    for what, a, b in (
        ("before", start, other_start),
        ("after", len(left) - end, len(right) - other_end),
    ):
        if a != b:
            raise AlignmentError(
                f"The prompts have {a} and {b} tokens {what} the marked span; outside of it they "
                "must have as many."
            )
    shared = min(end - start, other_end - other_start)
    spans = torch.stack([torch.arange(-shared, 0) + end, torch.arange(-shared, 0) + other_end], 1)
    tail = torch.stack([torch.arange(end, len(left)), torch.arange(other_end, len(right))], 1)
    return PromptPair(
        left, right, answer, foil, torch.cat([_identity(0, start), spans, tail]), (0, 0)
    )


def _padded(
    model: HookedModel, left: Tensor, right: Tensor, answer: int, foil: int | None
) -> PromptPair:
    width = max(len(left), len(right))
    padding = (width - len(left), width - len(right))
    rows = [
        torch.cat([row.new_full((n,), max(model.pad_id, 0)), row])
        for row, n in zip((left, right), padding, strict=True)
    ]
    return PromptPair(
        rows[0], rows[1], answer, foil, _identity(max(padding), width), (padding[0], padding[1])
    )


def _identity(start: int, stop: int) -> Tensor:
    return torch.arange(start, stop)[:, None].expand(-1, 2)
