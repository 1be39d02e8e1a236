"""From settings to what has to be computed: tokens, the very lens, the tokens to follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.answer_controls import FINAL, NEXT
from app.lens_cache import Question, ask, tokens_of
from app.lens_lab.lenses import lens_key
from app.lens_lab.settings import OTHER_LENS, OTHER_PROMPT, Settings
from lens_core.model.errors import TokenError
from lens_core.plots import Aim

if TYPE_CHECKING:
    from lens_core import HookedModel

MOST_FOLLOWED = 4


@dataclass(frozen=True)
class Request:
    """What to read first, what beside it, which token the colours are about, what went wrong."""

    first: Question
    second: Question | None
    aim: Aim
    notes: tuple[str, ...]


def request(model: HookedModel, settings: Settings) -> Request:
    """Settle every word, lens and prompt; what cannot be had is replaced, and a note says so.

    Raises what `HookedModel.to_tokens` raises for the prompt.
    """
    notes: list[str] = []
    token_ids = tokens_of(model, settings.prompt, settings.bos)
    aim = _aim(model, settings, token_ids, notes)
    followed = _followed(model, settings.follow, notes)
    wanted = (*([aim.target] if isinstance(aim.target, int) else []), aim.foil, *followed)
    targets = tuple(dict.fromkeys(i for i in wanted if i is not None))
    key = _key(model, settings.lens, settings.blocks, notes)
    first = Question(model.cfg.name, token_ids, settings.site, key, targets)
    second = None
    if settings.compare == OTHER_LENS:
        other = _key(model, settings.other_lens, settings.blocks, notes)
        second = first.through(other) if other != key else None
        if second is None:
            notes.append("Both lenses are the same; choose another second lens.")
    elif settings.compare == OTHER_PROMPT and settings.other_prompt.strip():
        second = first.about(tokens_of(model, settings.other_prompt, settings.bos))
    elif settings.compare == OTHER_PROMPT:
        notes.append("Type the second prompt under More settings, with equally many tokens.")
    return Request(first, second, aim, tuple(dict.fromkeys(notes)))


def one_token(model: HookedModel, word: str) -> int:
    """The word as it stands inside a sentence, or failing that as it begins one."""
    try:
        return model.to_single_token(f" {word.strip()}")
    except TokenError:
        return model.to_single_token(word.strip())


def _aim(
    model: HookedModel, settings: Settings, token_ids: tuple[int, ...], notes: list[str]
) -> Aim:
    target: int | str | None = {FINAL: "final", NEXT: "next"}.get(settings.target, "word")
    if target == "word":
        target = _word(model, settings.target, "the final answer", notes, fallback="final")
    foil: int | str | None = None
    if settings.foil.strip():
        foil = _word(model, settings.foil, "the runner-up", notes, fallback=None)
    if foil is None and settings.color == "target minus foil":
        output = ask(model, Question(model.cfg.name, token_ids)).lens
        foil = int(output.top_ids[-1, -1, 1])
        if not settings.foil.strip():
            runner_up = output.texts[foil].strip() or output.texts[foil]
            notes.append(
                f"The foil is {runner_up!r}, the runner-up at the last token; type another word "
                "under More settings."
            )
    return Aim(target, foil)  # type: ignore[arg-type]


def _word(
    model: HookedModel, word: str, instead: str, notes: list[str], *, fallback: str | None
) -> int | str | None:
    try:
        return one_token(model, word)
    except TokenError as error:
        notes.append(f"{error} Shown instead: {instead}.")
        return fallback


def _followed(model: HookedModel, text: str, notes: list[str]) -> tuple[int, ...]:
    """Tokens that the visitor wants to see from block to block, besides the rows' own guesses."""
    ids: list[int] = []
    for word in dict.fromkeys(w.strip() for w in text.split(",") if w.strip()):
        try:
            ids.append(one_token(model, word))
        except TokenError as error:
            notes.append(str(error))
    if len(ids) > MOST_FOLLOWED:
        notes.append(f"The lines show the first {MOST_FOLLOWED} of the words to follow.")
    return tuple(dict.fromkeys(ids[:MOST_FOLLOWED]))


def _key(model: HookedModel, kind: str, blocks: int, notes: list[str]) -> str:
    key = lens_key(model, kind, blocks)
    if key is not None:
        return key
    what = (
        "You have not trained a lens for this model on this visit yet"
        if kind == "trained here"
        else f"There is no {kind} lens for {model.cfg.name} here"
    )
    notes.append(
        f"{what}: open 'Train a lens now' below, or choose another. Shown: the logit lens."
    )
    return "logit"
