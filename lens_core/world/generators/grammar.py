"""Documents about form: agreement across distractors, intervals of years, series that go on."""

import random

from lens_core.world.frames import capital
from lens_core.world.lexicon import (
    ADJECTIVES,
    DAYS,
    EVENTS,
    MONTHS,
    NOUNS,
    NUMBER_WORDS,
    ORDINALS,
    PLACES,
    PREPOSITIONS,
    THINGS,
    VERBS,
)
from lens_core.world.splits import nouns_held, year_held

_ADVERBS = ("", "", "", "often ", "still ", "usually ", "never ", "always ")
# What may follow each verb of `lexicon.VERBS`.
TAILS = {
    "is": ADJECTIVES,
    "was": ADJECTIVES,
    "seems": ADJECTIVES,
    "looks": ADJECTIVES,
    "has": tuple(f"a {o}" for o in THINGS),
    "likes": tuple(f"the {o}" for o in THINGS),
    "knows": ("the truth", "the way", "the answer"),
    "needs": tuple(f"a {o}" for o in THINGS),
    "runs": tuple(f"to the {p}" for p in PLACES),
    "waits": tuple(f"at the {p}" for p in PLACES),
    "belongs": tuple(f"to the {p}" for p in PLACES),
    "stays": tuple(f"in the {p}" for p in PLACES),
}
_LIKING = ("like", "love", "know", "admire", "follow", "help", "see")
DISTRACTORS = ("prepositional", "object relative", "subject relative")


def noun_phrase(
    kind: str, head: str, other: str, plural: bool, other_plural: bool, rng: random.Random
) -> str:
    """A subject with a distractor noun of its own number between it and the verb."""
    if kind == "prepositional":
        return f"the {head} {rng.choice(PREPOSITIONS)} the {other}"
    verb = rng.choice(_LIKING)
    if kind == "object relative":
        return f"the {head} that the {other} {verb if other_plural else verb + 's'}"
    return f"the {head} that {verb if plural else verb + 's'} the {other}"


def agreement_doc(rng: random.Random) -> str:
    """Two to four sentences whose verb agrees with the head noun and not with the nearest one."""
    out = []
    for _ in range(rng.randint(2, 4)):
        while True:
            a, b = rng.sample(NOUNS, 2)
            if not nouns_held(a[0], b[0]):
                break
        n, m = rng.randint(0, 1), rng.randint(0, 1)
        verb = rng.choice(VERBS)
        draw = rng.random()
        if draw < 0.12:
            subject = f"the {a[n]}"
        elif draw < 0.2:
            subject = f"the {rng.choice(ADJECTIVES)} {a[n]}"
        else:
            kind = rng.choices(DISTRACTORS, (0.5, 0.25, 0.25))[0]
            subject = noun_phrase(kind, a[n], b[m], n == 1, m == 1, rng)
        adverb = rng.choice(_ADVERBS) if verb[0] not in ("is", "was") else ""
        out.append(f"{capital(subject)} {adverb}{verb[n]} {rng.choice(TAILS[verb[0]])}.")
    return " ".join(out)


# ``{c}`` is the century's two digits, ``{y}`` the start, ``{z}`` the end, after ``|``.
INTERVAL_FRAMES = (
    "The {e} lasted from the year {c}{y} to the year {c}|{z}.",
    "The {e} lasted from {c}{y} to {c}|{z}.",
    "The {e} began in {c}{y} and ended in {c}|{z}.",
    "Between {c}{y} and {c}|{z} there was a {e}.",
    "The {e} that started in {c}{y} was over by {c}|{z}.",
    "The {e} went on from {c}{y} until {c}|{z}.",
    "From {c}{y} to {c}|{z} there was a long {e}.",
)
INTERVAL_FRAMES_UNSEEN = (
    "The {e} started in the year {c}{y} and it ended in the year {c}|{z}.",
    "There was a {e} from the year {c}{y} until {c}|{z}.",
)
CENTURIES = range(11, 21)
YEARS = range(2, 98)


def interval_doc(rng: random.Random) -> str:
    """One to four intervals whose end year is always after the start year."""
    out = []
    for _ in range(rng.randint(1, 4)):
        while True:
            c, y = rng.choice(CENTURIES), rng.choice(YEARS)
            if not year_held(c, y):
                break
        z = rng.randint(y + 1, 99)
        frame = rng.choice(INTERVAL_FRAMES).replace("|", "")
        out.append(frame.format(e=rng.choice(EVENTS), c=c, y=f"{y:02d}", z=f"{z:02d}"))
    return " ".join(out)


LETTERS = tuple(chr(65 + i) for i in range(26))
SERIES: tuple[tuple[tuple[str, ...], bool], ...] = (
    (DAYS, True),
    (MONTHS, True),
    (NUMBER_WORDS, False),
    (ORDINALS, False),
    (LETTERS, False),
)


def _run(series: tuple[str, ...], cyclic: bool, rng: random.Random) -> list[str]:
    i, n = rng.randrange(len(series)), rng.randint(2, 7)
    if cyclic:
        return [series[(i + j) % len(series)] for j in range(n)]
    return list(series[i : i + n])


def _neighbours(series: tuple[str, ...], a: str, b: str, rng: random.Random) -> str:
    if series is DAYS:
        return rng.choice(
            [
                f"The day after {a} is {b}.",
                f"If today is {a}, tomorrow is {b}.",
                f"If today is {a}, then tomorrow will be {b}.",
                f"After {a} comes {b}.",
                f"The day before {b} is {a}.",
            ]
        )
    return rng.choice(
        [
            f"The month after {a} is {b}.",
            f"{a} is followed by {b}.",
            f"After {a} comes {b}.",
            f"The month before {b} is {a}.",
        ]
    )


def successor_doc(rng: random.Random) -> str:
    """Series that go on: days, months, number words, letters, numbers in steps."""
    out = []
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.3:
            step = rng.choice([1, 1, 1, 1, 1, 1, 2, 5, 10])
            start, n = rng.randint(0, max(15, 99 - step * 8)), rng.randint(3, 8)
            out.append(
                ", ".join(str(start + step * i) for i in range(n) if start + step * i < 100) + "."
            )
            continue
        series, cyclic = rng.choices(SERIES, (0.2, 0.25, 0.15, 0.15, 0.25))[0]
        run = _run(series, cyclic, rng)
        if len(run) < 2:
            continue
        if cyclic and rng.random() < 0.4:
            out.append(_neighbours(series, run[0], run[1], rng))
        else:
            out.append(rng.choice([", ", ", ", " "]).join(run) + ".")
    return " ".join(out) or "one, two, three."
