"""Many pairs of one kind: from the world that tiny-world knows, or the visitor's own, as CSV."""

from __future__ import annotations

import csv
import io
import random
from typing import TYPE_CHECKING

from app.lens_lab.request import one_token
from app.patching_lab.pairs import PairKey
from app.patching_lab.settings import OWN_PAIRS, Settings
from lens_core.model.errors import TokenError
from lens_core.patching import PatchingError
from lens_core.world.facts import FACTS
from lens_core.world.lexicon import NAMES, PLACES, THINGS

if TYPE_CHECKING:
    from lens_core import HookedModel

MOST_PAIRS = 64
_GIVING = "When {a} and {b} went to the {place}, {giver} gave the {thing} to"
_CAPITAL = "In {country}, the capital is"


def family(model: HookedModel, settings: Settings) -> tuple[PairKey, ...]:
    """The pairs that the settings ask for, all of one length.

    Raises:
        PatchingError: the visitor's lines are no pairs, or the model's tokens allow too few.
        TokenError: an answer is not one token. Also what `prompt_pair` raises.
    """
    if settings.family == OWN_PAIRS:
        return _own(model, settings)
    n = min(max(settings.n_pairs, 2), MOST_PAIRS)
    rng = random.Random(settings.seed)
    made = (_giving if settings.family == "who gets it" else _capitals)(model, rng, n, settings)
    if len(made) < 2:
        raise PatchingError(
            f"{model.cfg.name} has too few of these words as single tokens; choose another family, "
            "or type your own pairs."
        )
    return made


def _single(model: HookedModel, words: list[str]) -> list[str]:
    """Those that are one token inside a sentence."""
    return [w for w in words if len(model.to_tokens(f" {w}", prepend_bos=False)[0]) == 1]


def _giving(
    model: HookedModel, rng: random.Random, n: int, settings: Settings
) -> tuple[PairKey, ...]:
    names, places, things = (
        sorted(_single(model, list(words))) for words in (NAMES, PLACES, THINGS)
    )
    if len(names) < 2 or not places or not things:
        return ()
    keys = []
    for _ in range(n):
        a, b = rng.sample(names, 2)
        words = {"a": a, "b": b, "place": rng.choice(places), "thing": rng.choice(things)}
        # Every second pair has the names the other way round, so that no place stands for a role.
        giver, other = (b, a) if rng.random() < 0.5 else (a, b)
        keys.append(
            PairKey(
                _GIVING.format(**words, giver=giver),
                _GIVING.format(**words, giver=other),
                one_token(model, other),
                one_token(model, giver),
                bos=settings.bos,
            )
        )
    return tuple(dict.fromkeys(keys))


def _capitals(
    model: HookedModel, rng: random.Random, n: int, settings: Settings
) -> tuple[PairKey, ...]:
    capital = {f.subject: f.object for f in FACTS if f.relation == "country_capital"}
    known = [
        country
        for country in _single(model, sorted(capital))
        if len(_single(model, [capital[country]])) == 1
    ]
    pairs = [(a, b) for a in known for b in known if capital[a] != capital[b]]
    return tuple(
        PairKey(
            _CAPITAL.format(country=a),
            _CAPITAL.format(country=b),
            one_token(model, capital[a]),
            one_token(model, capital[b]),
            bos=settings.bos,
        )
        for a, b in rng.sample(pairs, min(n, len(pairs)))
    )


def _own(model: HookedModel, settings: Settings) -> tuple[PairKey, ...]:
    rows = [row for row in csv.reader(io.StringIO(settings.own_pairs)) if any(row)]
    rows = [[cell.strip() for cell in row] for row in rows]
    if rows and [cell.lower() for cell in rows[0][:2]] == ["clean", "corrupted"]:
        rows = rows[1:]
    if len(rows) < 2:
        raise PatchingError(
            "Type two pairs or more, one a line: clean, corrupted, answer, foil. A text that holds "
            'a comma stands in "quotes".'
        )
    return tuple(_own_pair(model, n, row, settings) for n, row in enumerate(rows[:MOST_PAIRS], 1))


def _own_pair(model: HookedModel, n: int, row: list[str], settings: Settings) -> PairKey:
    if len(row) != 4 or not all(row):
        raise PatchingError(
            f"Line {n} has {len(row)} parts and needs four: clean, corrupted, answer, foil. A text "
            'that holds a comma stands in "quotes".'
        )
    try:
        answer, foil = one_token(model, row[2]), one_token(model, row[3])
    except TokenError as error:
        raise TokenError(f"Line {n}: {error}") from error
    return PairKey(row[0], row[1], answer, foil, settings.align, settings.bos)
