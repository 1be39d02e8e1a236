"""Many pairs of one kind, made of the words of the world that tiny-world knows."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from app.lens_lab.request import one_token
from app.patching_lab.pairs import PairKey
from app.patching_lab.settings import Settings
from lens_core.patching import PatchingError
from lens_core.world.facts import FACTS
from lens_core.world.lexicon import NAMES, PLACES, THINGS

if TYPE_CHECKING:
    from lens_core import HookedModel

MOST_PAIRS = 200
_GIVING = "When {a} and {b} went to the {place}, {giver} gave the {thing} to"
_CAPITAL = "In {country}, the capital is"


def family(model: HookedModel, settings: Settings) -> tuple[PairKey, ...]:
    """The pairs that the settings ask for, all of one length.

    Raises:
        PatchingError: the model's tokens allow too few.
    """
    n = min(max(settings.n_pairs, 2), MOST_PAIRS)
    rng = random.Random(settings.seed)
    made = (_giving if settings.family == "who gets it" else _capitals)(model, rng, n, settings)
    if len(made) < 2:
        raise PatchingError(
            f"{model.cfg.name} has too few of these words as single tokens; choose another family, "
            "or bring your own pairs."
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
