"""Pairs of prompts made ready to run: those of one length together, answers beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lens_core.patching.alignment import PromptPair
from lens_core.patching.errors import PatchingError
from lens_core.patching.metrics import Answers, Metric
from lens_core.patching.result import Direction
from lens_core.patching.sources import Other

_PAIRS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Group:
    """Some pairs whose two prompts have the same lengths and padding.

    Attributes:
        pairs: their numbers; tokens, mask: of the runs that are patched; other: of the others.
    """

    pairs: tuple[int, ...]
    tokens: Tensor
    mask: Tensor | None
    other: Other


def as_pairs(pairs: PromptPair | Sequence[PromptPair], metric: Metric) -> tuple[PromptPair, ...]:
    """A tuple of pairs that the metric can measure.

    Raises:
        PatchingError: there is no pair, or the metric needs a foil and one pair has none.
    """
    found = (pairs,) if isinstance(pairs, PromptPair) else tuple(pairs)
    if not found:
        raise PatchingError("There is no pair of prompts to patch between; give at least one.")
    for number, pair in enumerate(found):
        if not isinstance(pair, PromptPair):
            raise PatchingError(f"A pair comes from prompt_pair; {pair!r:.60} is none.")
        if metric.needs_foil and pair.foil is None:
            raise PatchingError(
                f"The {metric.name} compares two answers; give pair {number} a foil, or use "
                "another metric."
            )
    return found


def group_pairs(
    pairs: Sequence[PromptPair], direction: Direction, device: torch.device
) -> list[Group]:
    """Pairs of one shape together, in the order in which they were given.

    Raises:
        PatchingError: an unknown direction.
    """
    if direction not in ("denoise", "noise"):
        raise PatchingError(f'The direction is "denoise" or "noise", not {direction!r}.')
    base_side = 1 if direction == "denoise" else 0
    found: dict[tuple[int, int, bool], list[int]] = {}
    for number, pair in enumerate(pairs):
        shape = (len(pair.clean), len(pair.corrupted), pair.padding != (0, 0))
        found.setdefault(shape, []).append(number)
    groups = []
    parts = [
        n[i : i + _PAIRS_AT_ONCE] for n in found.values() for i in range(0, len(n), _PAIRS_AT_ONCE)
    ]
    for numbers in parts:
        chosen = [pairs[number] for number in numbers]
        base, other = _side(chosen, base_side, device), _side(chosen, 1 - base_side, device)
        position = torch.full(base[0].shape, -1, device=device)
        for row, pair in enumerate(chosen):
            position[row, pair.matches[:, base_side]] = pair.matches[:, 1 - base_side].to(device)
        groups.append(Group(tuple(numbers), *base, Other(*other, position)))
    return groups


def _side(
    pairs: Sequence[PromptPair], side: int, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    rows = [pair.corrupted if side else pair.clean for pair in pairs]
    tokens = torch.stack(rows).to(device)
    mask = torch.ones_like(tokens)
    for row, pair in enumerate(pairs):
        mask[row, : pair.padding[side]] = 0
    return tokens, None if bool(mask.all()) else mask


def answers_of(
    pairs: Sequence[PromptPair], metric: Metric, clean_logits: Tensor
) -> tuple[Answers, Tensor | None]:
    """What the metric compares, one entry a pair, and the tokens whose logits it needs.

    Args:
        clean_logits: Float [pair, d_vocab].
    """
    device = clean_logits.device
    answer = torch.tensor([pair.answer for pair in pairs], device=device)
    foil = torch.tensor([-1 if pair.foil is None else pair.foil for pair in pairs], device=device)
    if not metric.answers_only:
        return Answers(answer, foil, clean_logits), None
    both = torch.cat([answer, foil.where(foil >= 0, answer)])
    columns, index = torch.unique(both, return_inverse=True)
    return Answers(index[: len(pairs)], index[len(pairs) :]), columns
