"""Prompts with right and wrong next words: agreement, years, series, pronouns, moods.

Held out where a split exists (see `lens_core.world.splits`). Each function draws without repeating
a prompt, and raises ValueError where there are fewer different prompts than asked for.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lens_core.world.datasets.records import Records, not_enough
from lens_core.world.frames import capital
from lens_core.world.generators.grammar import (
    CENTURIES,
    DISTRACTORS,
    INTERVAL_FRAMES,
    INTERVAL_FRAMES_UNSEEN,
    SERIES,
    YEARS,
    noun_phrase,
)
from lens_core.world.generators.people import (
    PRONOUN_FRAMES,
    SENTIMENT_FRAMES,
    pronoun_sentence,
    sentiment_sentence,
)
from lens_core.world.lexicon import EVENTS, NAMES, NEGATIVE, NOUNS, POSITIVE, REVIEWED
from lens_core.world.splits import nouns_held, pronoun_held, sentiment_held, year_held

_SINGULAR, _PLURAL = ("is", "was", "has"), ("are", "were", "have")
_MALE, _FEMALE = ("he", "his", "himself", "He"), ("she", "her", "herself", "She")
_OPPOSITE = {**dict(zip(_MALE, _FEMALE, strict=True)), **dict(zip(_FEMALE, _MALE, strict=True))}
_HELD_NOUNS = [(a, b) for a in NOUNS for b in NOUNS if a != b and nouns_held(a[0], b[0])]
_ATTEMPTS = 200  # draws for each prompt asked for, before there are taken to be no more


@dataclass(frozen=True)
class Choice:
    """A prompt, the words that may follow it after a space, and words that would be wrong there."""

    prompt: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class YearChoice:
    """A prompt that ends with the century of an interval's end: "... from 1732 to 17".

    ``year`` is the start's last two digits. ``right`` are the two digits of the later years,
    ``wrong`` those of the others (no year of the world ends in 00 or 01); they follow the prompt
    directly, without a space. ``kind`` is "trained frame" or "unseen frame".
    """

    prompt: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    kind: str
    century: int
    year: int


C = TypeVar("C", Choice, YearChoice)


def _different(n: int, draw: Callable[[], C]) -> Records[C]:
    """``n`` draws with different prompts."""
    found: dict[str, C] = {}
    for _ in range(n * _ATTEMPTS):
        if len(found) == n:
            break
        choice = draw()
        found.setdefault(choice.prompt, choice)
    if len(found) < n:
        raise not_enough("different prompts", n, len(found))
    return Records(found.values())


def agreement_prompts(n: int = 600, seed: int = 0) -> Records[Choice]:
    """Subjects with a distractor of the other number, nouns that training never paired so.

    ``right`` and ``wrong`` are the forms of be (present, past) and have. ``kind`` is the
    distractor's: "prepositional", "object relative" or "subject relative".

    Paper: Linzen et al. 2016, "Assessing the Ability of LSTMs to Learn Syntax-Sensitive
    Dependencies".

    >>> choice = agreement_prompts(1)[0]
    >>> sorted(choice.right + choice.wrong)
    ['are', 'has', 'have', 'is', 'was', 'were']
    """
    rng = random.Random(seed)

    def draw() -> Choice:
        head, other = rng.choice(_HELD_NOUNS)
        plural, kind = rng.random() < 0.5, rng.choice(DISTRACTORS)
        phrase = noun_phrase(kind, head[plural], other[not plural], plural, not plural, rng)
        right, wrong = (_PLURAL, _SINGULAR) if plural else (_SINGULAR, _PLURAL)
        return Choice(capital(phrase), right, wrong, kind)

    return _different(n, draw)


def interval_prompts(n: int = 400, seed: int = 0) -> Records[YearChoice]:
    """Intervals whose start year begins no interval of training, in trained and in unseen frames.

    The measure of the paper is the probability of all later two digits less that of the others.

    Paper: Hanna et al. 2023, "How does GPT-2 compute greater-than?".

    >>> prompt = interval_prompts(1)[0]
    >>> int(prompt.right[0]) == prompt.year + 1
    True
    """
    rng = random.Random(seed)
    frames = {
        **dict.fromkeys(INTERVAL_FRAMES, "trained frame"),
        **dict.fromkeys(INTERVAL_FRAMES_UNSEEN, "unseen frame"),
    }
    held = [(c, y) for c in CENTURIES for y in YEARS if year_held(c, y)]

    def draw() -> YearChoice:
        frame, (century, year) = rng.choice(list(frames)), rng.choice(held)
        start = frame.partition("|")[0]
        prompt = start.format(e=rng.choice(EVENTS), c=century, y=f"{year:02d}")
        later = tuple(f"{z:02d}" for z in range(year + 1, 100))
        others = tuple(f"{z:02d}" for z in range(YEARS.start, year + 1))
        return YearChoice(prompt, later, others, frames[frame], century, year)

    return _different(n, draw)


_SERIES_KINDS = ("days", "months", "number words", "ordinals", "letters")
_NUMERALS = tuple(str(i) for i in range(100))


def successor_prompts(n: int = 300, seed: int = 0) -> Records[Choice]:
    """Three to six members of a series; the next one is right and all other members are wrong.

    No split holds these out: a series has one order, and training shows all of it.

    Paper: Gould et al. 2023, "Successor Heads".

    >>> {len(choice.right) for choice in successor_prompts(20)}
    {1}
    """
    rng = random.Random(seed)
    kinds = dict(zip(_SERIES_KINDS, SERIES, strict=True)) | {"numerals": (_NUMERALS, False)}

    def draw() -> Choice:
        kind = rng.choice(list(kinds))
        series, cyclic = kinds[kind]
        length = rng.randint(3, 6)
        start = rng.randrange(len(series) if cyclic else len(series) - length)
        run = [series[(start + i) % len(series)] for i in range(length + 1)]
        comma = "," if kind == "numerals" or rng.random() < 0.5 else ""
        prompt = f"{comma} ".join(run[:-1]) + comma
        wrong = tuple(w for w in series if w != run[-1])
        return Choice(prompt, (run[-1],), wrong, kind)

    return _different(n, draw)


def pronoun_prompts(n: int = 600, seed: int = 0) -> Records[Choice]:
    """Names in pronoun frames that training never used for them; the other gender's form is wrong.

    The name itself, its gender and the frame are known from other sentences. ``kind`` is the right
    pronoun.

    >>> choice = pronoun_prompts(1)[0]
    >>> choice.right == (choice.kind,)
    True
    """
    rng = random.Random(seed)
    held = [(name, f) for name in NAMES for f in PRONOUN_FRAMES if pronoun_held(name, f)]

    def draw() -> Choice:
        name, frame = rng.choice(held)
        prompt, rest = pronoun_sentence(name, frame, rng)
        right = rest.split()[0].rstrip("?.,")
        return Choice(prompt, (right,), (_OPPOSITE[right],), right)

    return _different(n, draw)


def sentiment_prompts(n: int = 400, seed: int = 0) -> Records[Choice]:
    """Reviews that must end in their adjective's mood, which never led a review of that thing.

    Training may have named the pair where the adjective was the second of two ("fine and lovely"),
    so frames with two adjectives in the prompt are left out. ``kind`` is "positive" or "negative".

    >>> choice = sentiment_prompts(1)[0]
    >>> choice.kind in ("positive", "negative")
    True
    """
    rng = random.Random(seed)
    moods = dict.fromkeys(POSITIVE, True) | dict.fromkeys(NEGATIVE, False)
    held = [(a, t) for a in moods for t in REVIEWED if sentiment_held(a, t)]
    frames = [i for i, (f, _) in enumerate(SENTIMENT_FRAMES) if "{b}" not in f.partition("|")[0]]

    def draw() -> Choice:
        (adjective, thing), index = rng.choice(held), rng.choice(frames)
        positive = moods[adjective]
        prompt, _ = sentiment_sentence(positive, adjective, thing, index, rng)
        good, bad = SENTIMENT_FRAMES[index][1]
        rights = (good.split()[0],) if good else tuple(a for a in POSITIVE if a != adjective)
        wrongs = (bad.split()[0],) if bad else tuple(a for a in NEGATIVE if a != adjective)
        right, wrong = (rights, wrongs) if positive else (wrongs, rights)
        return Choice(prompt, right, wrong, "positive" if positive else "negative")

    return _different(n, draw)
