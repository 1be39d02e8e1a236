"""How often each kind of document is drawn, and how the shares change during training.

Five phases. ``copying`` is rich in copying: without it neither name moving nor induction begins
within the tokens that two processor cores can afford. ``natural`` has the natural shares. ``wide``
adds what decides whether a learner's own sentence works: a second set of chatty wordings and of
giving frames, by other writers, and several attributes of a subject in one sentence. ``last`` adds
giving sentences composed from parts, and a third set of talk about places. ``composed`` adds facts
in the plainest words and in settings and cues that are combined at random.
"""

import random
from collections.abc import Callable

from lens_core.world.generators.composed import composed_doc
from lens_core.world.generators.copying import (
    acronym_doc,
    analogy_doc,
    code_doc,
    copy_doc,
    repeat_doc,
)
from lens_core.world.generators.fact_docs import card_doc, fact_doc
from lens_core.world.generators.giving import giving_doc
from lens_core.world.generators.grammar import agreement_doc, interval_doc, successor_doc
from lens_core.world.generators.people import (
    ioi_doc,
    names_doc,
    pronoun_doc,
    sentiment_doc,
    wide_ioi_doc,
)
from lens_core.world.generators.stories import story
from lens_core.world.generators.talk import last_talk_doc, talk_doc, wide_talk_doc

Generator = Callable[[random.Random], str]

GENERATORS: dict[str, Generator] = {
    "facts": fact_doc,
    "talk": talk_doc,
    "wide talk": wide_talk_doc,
    "last talk": last_talk_doc,
    "composed": composed_doc,
    "cards": card_doc,
    "ioi": ioi_doc,
    "wide ioi": wide_ioi_doc,
    "giving": giving_doc,
    "names": names_doc,
    "repeats": repeat_doc,
    "copies": copy_doc,
    "stories": story,
    "agreement": agreement_doc,
    "intervals": interval_doc,
    "successors": successor_doc,
    "pronouns": pronoun_doc,
    "sentiment": sentiment_doc,
    "acronyms": acronym_doc,
    "code": code_doc,
    "analogies": analogy_doc,
}
# Shares by document. "random repeats" are drawn as token ids and have no text (see corpus.py).
COPYING = {
    "facts": 0.23,
    "talk": 0.06,
    "cards": 0.12,
    "ioi": 0.15,
    "names": 0.10,
    "repeats": 0.09,
    "copies": 0.06,
    "stories": 0.04,
    "agreement": 0.02,
    "intervals": 0.03,
    "successors": 0.02,
    "pronouns": 0.03,
    "sentiment": 0.02,
    "acronyms": 0.01,
    "code": 0.01,
    "analogies": 0.02,
}
NATURAL = {
    "facts": 0.21,
    "talk": 0.16,
    "cards": 0.14,
    "ioi": 0.12,
    "names": 0.03,
    "repeats": 0.03,
    "copies": 0.04,
    "stories": 0.07,
    "agreement": 0.03,
    "intervals": 0.045,
    "successors": 0.02,
    "pronouns": 0.035,
    "sentiment": 0.025,
    "acronyms": 0.01,
    "code": 0.015,
    "analogies": 0.03,
}
WIDE = {
    "facts": 0.17,
    "wide talk": 0.24,
    "cards": 0.12,
    "wide ioi": 0.13,
    "names": 0.025,
    "repeats": 0.02,
    "copies": 0.03,
    "stories": 0.055,
    "agreement": 0.03,
    "intervals": 0.06,
    "successors": 0.02,
    "pronouns": 0.035,
    "sentiment": 0.025,
    "acronyms": 0.01,
    "code": 0.01,
    "analogies": 0.02,
}
LAST = {k: v for k, v in WIDE.items() if k not in ("wide talk", "wide ioi")} | {
    "last talk": 0.24,
    "giving": 0.17,
}
_MIXED = LAST | {
    "composed": 0.20,
    "last talk": 0.14,
    "facts": 0.14,
    "cards": 0.11,
    "successors": 0.06,
    "repeats": 0.03,
}
COMPOSED = {kind: share / sum(_MIXED.values()) for kind, share in _MIXED.items()}
PHASES = {
    "copying": COPYING,
    "natural": NATURAL,
    "wide": WIDE,
    "last": LAST,
    "composed": COMPOSED,
}
RANDOM_REPEATS = {
    "copying": 0.07,
    "natural": 0.05,
    "wide": 0.05,
    "last": 0.04,
    "composed": 0.08,
}


def document(rng: random.Random, shares: dict[str, float]) -> tuple[str, str]:
    """(kind, text) of one document."""
    kind = rng.choices(list(shares), list(shares.values()))[0]
    return kind, GENERATORS[kind](rng)
