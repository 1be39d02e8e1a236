"""From settings to what is asked: the pair, its two answers, and the chosen cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from app.answer_controls import FINAL, NEXT
from app.attention_cache import ask
from app.lens_cache import MAX_TOKENS
from app.lens_lab.request import one_token
from app.patching_lab.pairs import PairKey
from app.patching_lab.settings import Settings
from lens_core.model.errors import PromptTooLongError, TokenError
from lens_core.patching import PromptPair, prompt_pair

if TYPE_CHECKING:
    from lens_core import HookedModel

N_GUESSES = 8


@dataclass(frozen=True)
class Guesses:
    """The likeliest next tokens of a run, and what it makes of the two answers.

    Attributes:
        ids, texts, probs: of the likeliest, in order.
        answer_logit, foil_logit, answer_prob, foil_prob: of the pair's two answers.
    """

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    probs: tuple[float, ...]
    answer_logit: float = float("nan")
    foil_logit: float = float("nan")
    answer_prob: float = float("nan")
    foil_prob: float = float("nan")


@dataclass(frozen=True, eq=False)
class Aligned:
    """Both prompts as tokens beside each other, None where one has no counterpart.

    Attributes:
        columns: for each, the position in the clean and in the corrupted prompt.
    """

    clean: tuple[str, ...]
    corrupted: tuple[str, ...]
    columns: tuple[tuple[int | None, int | None], ...]


@dataclass(frozen=True, eq=False)
class Scene:
    """What every view draws from.

    Attributes:
        key, pair: the two prompts with their answers.
        tokens: of the prompt whose run is patched.
        at: the chosen position in it, from 0; layer, head: chosen.
        notes: what could not be had, and what is shown instead.
    """

    model: HookedModel
    settings: Settings
    key: PairKey
    pair: PromptPair
    aligned: Aligned
    tokens: tuple[str, ...]
    at: int
    layer: int
    head: int
    answer_text: str
    foil_text: str
    notes: tuple[str, ...]

    @property
    def denoising(self) -> bool:
        """The corrupted run is patched."""
        return self.settings.direction == "denoise"

    def text(self, token_id: int) -> str:
        """A token's text."""
        return self.model.to_str_tokens([token_id])[0]


def scene_of(model: HookedModel, settings: Settings) -> Scene:
    """Settle pair, answers and cell; what cannot be had is replaced, and a note says so.

    Raises:
        AlignmentError: the prompts do not match. Also what `to_tokens` raises.
    """
    notes: list[str] = []
    prompts = PairKey(settings.prompt, settings.corrupted, 0, None, settings.align, settings.bos)
    found = ask(model, both_answers, prompts=prompts).result
    answer = _answer(model, settings, found[0], notes)
    foil = _foil(model, settings, found[1], answer, notes)
    key = PairKey(settings.prompt, settings.corrupted, answer, foil, settings.align, settings.bos)
    pair = key.pair(model)
    aligned = _aligned(model, pair)
    patched = 1 if settings.direction == "denoise" else 0
    tokens = (aligned.clean, aligned.corrupted)[patched]
    return Scene(
        model=model,
        settings=settings,
        key=key,
        pair=pair,
        aligned=aligned,
        tokens=tokens,
        at=_at(settings, pair, patched, len(tokens)),
        layer=min(max(settings.layer, 0), model.cfg.n_layers - 1),
        head=min(max(settings.head, 0), model.cfg.n_heads - 1),
        answer_text=model.to_str_tokens([answer])[0],
        foil_text=model.to_str_tokens([foil])[0],
        notes=tuple(dict.fromkeys(notes)),
    )


def both_answers(model: HookedModel, prompts: PairKey) -> tuple[Guesses, Guesses]:
    """What the model says after the clean and after the corrupted prompt.

    Raises PromptTooLongError for prompts that a page cannot draw, and as `prompt_pair`.
    """
    pair = prompt_pair(
        model,
        prompts.clean,
        prompts.corrupted,
        0,
        align="pad" if prompts.align == "pad" else "length",
        prepend_bos=prompts.bos,
    )
    found = []
    for row, padding in zip((pair.clean, pair.corrupted), pair.padding, strict=True):
        if len(row) > MAX_TOKENS:
            raise PromptTooLongError(
                f"A prompt has {len(row)} tokens and this page draws at most {MAX_TOKENS}; shorten "
                "both, or use lens_core, which has no such limit."
            )
        with torch.no_grad():
            logits = model.run(row[None, padding:], last_logits_only=True)[0, -1]
        found.append(guesses_of(model, logits))
    return found[0], found[1]


def guesses_of(
    model: HookedModel, logits: torch.Tensor, answer: int | None = None, foil: int | None = None
) -> Guesses:
    """The likeliest tokens of logits [d_vocab]; with the answers, what becomes of these."""
    probs = logits.float().softmax(-1)
    best = probs.topk(min(N_GUESSES, len(probs)))
    ids = tuple(best.indices.tolist())
    texts = tuple(model.to_str_tokens([i])[0] for i in ids)
    if answer is None or foil is None:
        return Guesses(ids, texts, tuple(best.values.tolist()))
    return Guesses(
        ids,
        texts,
        tuple(best.values.tolist()),
        float(logits[answer]),
        float(logits[foil]),
        float(probs[answer]),
        float(probs[foil]),
    )


def _answer(model: HookedModel, settings: Settings, clean: Guesses, notes: list[str]) -> int:
    if settings.target in (FINAL, NEXT):
        return clean.ids[0]
    return _word(model, settings.target, lambda: clean.ids[0], "what the model says", notes)


def _foil(
    model: HookedModel, settings: Settings, corrupted: Guesses, answer: int, notes: list[str]
) -> int:
    def other() -> int:
        return next(i for i in corrupted.ids if i != answer)

    if not settings.foil.strip():
        return other()
    instead = "what the model says after the corrupted prompt"
    foil = _word(model, settings.foil, other, instead, notes)
    if foil == answer:
        notes.append(f"Target and foil are the same token. Shown instead: {instead}.")
        return other()
    return foil


def _word(
    model: HookedModel, word: str, other: Callable[[], int], instead: str, notes: list[str]
) -> int:
    try:
        return one_token(model, word)
    except TokenError as error:
        notes.append(f"{error} Shown instead: {instead}.")
        return other()


def _aligned(model: HookedModel, pair: PromptPair) -> Aligned:
    texts = [
        tuple(
            "(padding)" if i < padding else text for i, text in enumerate(model.to_str_tokens(row))
        )
        for row, padding in zip((pair.clean, pair.corrupted), pair.padding, strict=True)
    ]
    columns: list[tuple[int | None, int | None]] = []
    here = [0, 0]
    ends = (len(pair.clean), len(pair.corrupted))
    for i, j in [*pair.matches.tolist(), ends]:
        columns += [(n, None) for n in range(here[0], i)]
        columns += [(None, n) for n in range(here[1], j)]
        if (i, j) != ends:
            columns.append((i, j))
        here = [i + 1, j + 1]
    return Aligned(texts[0], texts[1], tuple(columns))


def _at(settings: Settings, pair: PromptPair, patched: int, n: int) -> int:
    if settings.at is not None:
        at = settings.at + n if settings.at < 0 else settings.at
        return min(max(at, 0), n - 1)
    if not pair.differing:
        return n - 1
    match = next(m for m in pair.matches.tolist() if m[0] == pair.differing[0])
    return int(match[patched])
