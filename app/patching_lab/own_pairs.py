"""From a visitor's rows to pairs that one sweep can average, and what is left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from app.lens_cache import MAX_TOKENS
from app.lens_lab.request import one_token
from app.patching_lab.pairs import PairKey
from app.patching_lab.pairs_file import LeftOut, Row, read_rows
from app.patching_lab.settings import Settings
from lens_core.model.errors import LensError, PromptTooLongError
from lens_core.patching import PatchingError, PromptPair

if TYPE_CHECKING:
    from lens_core import HookedModel

_PROMPTS_AT_ONCE = 64


@dataclass(frozen=True)
class ManyPairs:
    """The pairs of a sweep, all of one length, and the rows that are none of them."""

    keys: tuple[PairKey, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, eq=False)
class _Ready:
    """A row whose prompts match; an answer is None where the row leaves it to the model."""

    row: Row
    pair: PromptPair
    target: int | None
    foil: int | None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.pair.clean), len(self.pair.corrupted)


def own_pairs(model: HookedModel, settings: Settings) -> ManyPairs:
    """The visitor's pairs of the commonest length.

    Without a target, it is what the model says after the clean prompt; without a foil, what it says
    after the corrupted one.

    Raises:
        PatchingError: fewer than two rows can be used; the sentence has the first reasons.
    """
    rows, bad = read_rows(settings.own_pairs)
    left_out = list(bad)
    ready = _of_one_shape(_matched(model, rows, settings, left_out), left_out)
    keys = _answered(model, ready, settings, left_out)
    left_out.sort(key=lambda row: row.number)
    if len(keys) < 2:
        raise PatchingError(_too_few(len(rows) + len(bad), left_out))
    return ManyPairs(tuple(keys), tuple(left_out))


def _too_few(n_rows: int, left_out: list[LeftOut]) -> str:
    if not n_rows:
        return (
            "An average needs two pairs or more, one a row: clean, corrupted and, if you like, "
            "target and foil."
        )
    reasons = " ".join(f"Row {row.number}: {row.reason}" for row in left_out[:3])
    if len(left_out) > 3:
        reasons += f" {len(left_out) - 3} more are left out."
    return f"An average needs two pairs, and fewer of these {n_rows} rows can be used. {reasons}"


def _matched(
    model: HookedModel, rows: tuple[Row, ...], settings: Settings, left_out: list[LeftOut]
) -> list[_Ready]:
    """The rows whose prompts answer to each other token by token, and whose answers are tokens."""
    found = []
    for row in rows:
        try:
            found.append(_ready(model, row, settings))
        except LensError as error:
            left_out.append(LeftOut(row.number, str(error)))
    return found


def _ready(model: HookedModel, row: Row, settings: Settings) -> _Ready:
    pair = PairKey(row.clean, row.corrupted, 0, None, settings.align, settings.bos).pair(model)
    longest = max(len(pair.clean), len(pair.corrupted))
    if longest > MAX_TOKENS:
        raise PromptTooLongError(
            f"A prompt has {longest} tokens, and this page takes {MAX_TOKENS} at most."
        )
    if not pair.differing:
        raise PatchingError("The two prompts are the same, so there is nothing to patch.")
    target = one_token(model, row.target) if row.target else None
    return _Ready(row, pair, target, one_token(model, row.foil) if row.foil else None)


def _of_one_shape(ready: list[_Ready], left_out: list[LeftOut]) -> list[_Ready]:
    """Those of the commonest length: a position means the same in them alone."""
    if not ready:
        return []
    ((common, _),) = Counter(one.shape for one in ready).most_common(1)
    for one in ready:
        if one.shape != common:
            here, there = (
                f"{n}" if n == m else f"{n} and {m}" for n, m in (one.shape, common)
            )  # fmt: skip
            left_out.append(
                LeftOut(
                    one.row.number,
                    f"Its prompts have {here} tokens and those of most rows {there}, so a position "
                    "would not mean the same.",
                )
            )
    return [one for one in ready if one.shape == common]


def _answered(
    model: HookedModel, ready: list[_Ready], settings: Settings, left_out: list[LeftOut]
) -> list[PairKey]:
    keys = []
    said = _said(model, [one.pair for one in ready])
    for one, (clean, corrupted) in zip(ready, said, strict=True):
        target = clean[0] if one.target is None else one.target
        foil = one.foil
        if foil is None:
            foil = next(i for i in corrupted if i != target)
        if foil == target:
            left_out.append(LeftOut(one.row.number, "Target and foil are the same token."))
            continue
        row = one.row
        keys.append(PairKey(row.clean, row.corrupted, target, foil, settings.align, settings.bos))
    return keys


def _said(model: HookedModel, pairs: list[PromptPair]) -> list[tuple[list[int], list[int]]]:
    """The two likeliest tokens after each pair's prompts, of which all pairs have one length."""
    sides = []
    for side in (0, 1):
        rows = [(p.clean, p.corrupted)[side] for p in pairs]
        pads = [p.padding[side] for p in pairs]
        best: list[list[int]] = []
        for start in range(0, len(rows), _PROMPTS_AT_ONCE):
            part = slice(start, start + _PROMPTS_AT_ONCE)
            best += _best(model, torch.stack(rows[part]), pads[part])
        sides.append(best)
    return list(zip(*sides, strict=True))


def _best(model: HookedModel, tokens: Tensor, padding: list[int]) -> list[list[int]]:
    mask = torch.ones_like(tokens)
    for row, n in zip(mask, padding, strict=True):
        row[:n] = 0
    logits = model.run(tokens, attention_mask=mask, last_logits_only=True)[:, -1]
    best: list[list[int]] = logits.topk(2).indices.tolist()
    return best
