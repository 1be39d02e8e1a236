"""Documents about people: who gives to whom, who is he and who is she, who loved or hated it."""

import random
from dataclasses import dataclass
from functools import cache

from lens_core.world.frames import capital, expand, lines
from lens_core.world.lexicon import (
    GENDER,
    NAMES,
    NEGATIVE,
    PLACES,
    POSITIVE,
    REVIEWED,
    THINGS,
    pronouns,
)
from lens_core.world.slots import Slot, fill
from lens_core.world.splits import bucket, name_held, pair_held, pronoun_held, sentiment_held


@cache
def training_names() -> tuple[str, ...]:
    """The names that indirect-object and name documents may use."""
    return tuple(n for n in NAMES if not name_held(n))


def draw_names(rng: random.Random, k: int) -> list[str]:
    """Names that may meet in training: none held out, no pair held out."""
    while True:
        names = rng.sample(training_names(), k)
        if not any(pair_held(a, b) for i, a in enumerate(names) for b in names[:i]):
            return names


def ioi_frame_held(frame: str) -> bool:
    """An introduction or giving clause that no training document contains (one in eight)."""
    return bucket("ioi|" + frame) % 8 == 0


@cache
def ioi_frames(part: str, held: bool, wide: bool = True) -> tuple[str, ...]:
    """The frames of ``intro`` or ``give`` that are (not) held out; ``wide``: of both writers."""
    files = (f"ioi_{part}", f"ioi_{part}_2") if wide else (f"ioi_{part}",)
    return tuple(f for name in files for f in lines(name) if ioi_frame_held(f) == held)


@dataclass(frozen=True)
class IOIPrompt:
    """``prompt`` ends just before the indirect object; ``subject`` is the name that acts.

    ``order`` is "ABBA" (indirect object named first) or "BABA". ``slots`` says where in ``prompt``
    the words stand: ``io``, ``s1`` and ``s2`` (the subject's first and second mention), ``place``,
    ``thing`` (of the introduction) and ``thing2`` (given).
    """

    prompt: str
    indirect_object: str
    subject: str
    order: str
    slots: tuple[Slot, ...]


def ioi_prompt(
    rng: random.Random,
    names: tuple[str, str],
    *,
    held: bool,
    order: str | None = None,
    wide: bool = True,
) -> IOIPrompt:
    """An indirect-object prompt with frames of one split.

    Paper: Wang et al. 2022, "Interpretability in the Wild".
    """
    intro = expand(rng.choice(ioi_frames("intro", held, wide)), rng)
    give = expand(rng.choice(ioi_frames("give", held, wide)), rng)
    first, second = names
    if intro.index("{A}") > intro.index("{B}"):
        first, second = second, first
    order = order or rng.choice(["ABBA", "BABA"])
    io, subject = (names[0], names[1]) if order == "ABBA" else (names[1], names[0])
    place, thing = rng.choice(PLACES), rng.choice(THINGS)
    thing2 = thing if "{O}" in intro or rng.random() < 0.5 else rng.choice(THINGS)
    named = {"{A}": "{io}", "{B}": "{s1}"} if first == io else {"{A}": "{s1}", "{B}": "{io}"}
    opening = _rename(intro, {**named, "{P}": "{place}", "{O}": "{thing}"})
    clause = _rename(give, {"{S}": "{s2}", "{P}": "{place}", "{O}": "{thing2}"})
    if opening.endswith((".", "!", "?")):
        clause = capital(clause)
    values = {"io": io, "s1": subject, "s2": subject, "place": place}
    values |= {"thing": thing, "thing2": thing2}
    prompt, slots = fill(capital(f"{opening} {clause}"), values)
    return IOIPrompt(prompt, io, subject, order, slots)


def _rename(template: str, slots: dict[str, str]) -> str:
    """The template with its slots renamed."""
    for old, new in slots.items():
        template = template.replace(old, new)
    return template


_AFTER_GIVING = (
    ". {io} thanked {s}.",
    ". {io} was very happy.",
    ", and {io} smiled at {s}.",
    ". Then {s} went home.",
    ". {s} was glad.",
    ". {io} said thank you to {s}.",
    ". After that, {io} and {s} left.",
)
_THREE = (
    "{a}, {b} and {c} went to the {p}. {x} and {y} gave a {o} to {z}.",
    "{a}, {b} and {c} were at the {p}. {x} and {y} talked to {z}.",
    "{a} was with {b} and {c}. {x} and {y} handed the {o} to {z}.",
)
_EXCHANGE = (
    "{a} and {b} went to the {p}. {s} was hungry, so {io} gave a {o} to {s}.",
    "{s} lost a {o} at the {p}. {io} found the {o} and gave it back to {s}.",
    "{s} asked {io} for a {o}, and {io} gave a {o} to {s}.",
    "{s} was sad, so {io} sat down next to {s}.",
)


def ioi_doc(rng: random.Random) -> str:
    """One to three indirect-object sentences; in some the first name is the wrong one to copy."""
    return _ioi_doc(rng, wide=False)


def wide_ioi_doc(rng: random.Random) -> str:
    """The same with the frames of both writers."""
    return _ioi_doc(rng, wide=True)


def _ioi_doc(rng: random.Random, *, wide: bool) -> str:
    out = []
    for _ in range(rng.randint(1, 3)):
        draw = rng.random()
        if draw < 0.78:
            a, b = draw_names(rng, 2)
            said = ioi_prompt(rng, (a, b), held=False, wide=wide)
            text = f"{said.prompt} {said.indirect_object}"
            if rng.random() < 0.4:
                text += rng.choice(_AFTER_GIVING).format(io=said.indirect_object, s=said.subject)
            else:
                text += "."
        elif draw < 0.88:
            a, b, c = draw_names(rng, 3)
            x, y, z = rng.sample([a, b, c], 3)
            text = rng.choice(_THREE).format(
                a=a, b=b, c=c, x=x, y=y, z=z, p=rng.choice(PLACES), o=rng.choice(THINGS)
            )
        else:
            a, b = draw_names(rng, 2)
            io, s = rng.sample([a, b], 2)
            text = rng.choice(_EXCHANGE).format(
                a=a, b=b, io=io, s=s, p=rng.choice(PLACES), o=rng.choice(THINGS)
            )
        out.append(text)
    return " ".join(out)


_DENSE = (
    "{A} saw {B} at the {P}.",
    "{A} gave {B} a {O}.",
    "{A} thanked {B}.",
    "{A} talked to {B} about the {O}.",
    "{A} and {B} went to the {P}.",
    "{A} was happy.",
    "{A} asked {B} for a {O}.",
    "The {O} of {A} was on the table.",
    "{B} waited for {A} near the {P}.",
    "{A} smiled at {B}.",
    "{A} liked the {O}, but {B} did not.",
    "Then {A} left the {P} with {B}.",
    "The friend of {A} is {B}.",
    "{A} and {B} found a {O}.",
    "{B} gave the {O} back to {A}.",
    "{A} wrote a letter to {B}.",
    "{A} called {B}.",
)


def names_doc(rng: random.Random) -> str:
    """Two or three names that recur all through the document: dense copying of names."""
    names = draw_names(rng, rng.choice([2, 2, 3]))
    place, thing = rng.choice(PLACES), rng.choice(THINGS)
    out = []
    for _ in range(rng.randint(4, 9)):
        a, b = rng.sample(names, 2)
        out.append(
            rng.choice(_DENSE).format(
                A=a,
                B=b,
                P=place if rng.random() < 0.7 else rng.choice(PLACES),
                O=thing if rng.random() < 0.7 else rng.choice(THINGS),
            )
        )
    return " ".join(out)


# The frames in which a name decides the pronoun; ``{he}`` and so on are filled by gender.
PRONOUN_FRAMES = (
    "{n} lost | {his} {o} at the {p}.",
    "{n} hurt | {himself} at the {p}.",
    "{n} went to the {p} because | {he} was {f}.",
    "{n} is a good friend, isn't | {he}?",
    "When {n} was young, | {he} lived near the {p}.",
    "{n} forgot | {his} {o} at home.",
    "{n} looked for | {his} {o} all day.",
    "{n} came home, and then | {he} slept.",
    "{n} told me that | {he} needed a {o}.",
    "{n} was tired, so | {he} went to bed.",
    "We asked {n} if | {he} wanted a {o}.",
    "{n} took | {his} {o} to the {p}.",
    "{n} bought | {himself} a {o}.",
    "I met {n} yesterday. | {He} was very {f}.",
    "Everyone likes {n}, because | {he} is kind.",
    "{n} opened the door with | {his} key.",
)
_FEELINGS = ("tired", "hungry", "happy", "sad", "late", "angry", "nervous")


def pronoun_values(name: str, rng: random.Random) -> dict[str, str]:
    """What fills the slots of a pronoun frame for a name."""
    he, his, him, himself = pronouns(name)
    return {
        "n": name,
        "he": he,
        "his": his,
        "him": him,
        "himself": himself,
        "He": capital(he),
        "o": rng.choice(THINGS),
        "p": rng.choice(PLACES),
        "f": rng.choice(_FEELINGS),
    }


def pronoun_sentence(name: str, frame: str, rng: random.Random) -> tuple[str, str]:
    """(prompt, continuation beginning with the pronoun) for a name and a frame."""
    values = pronoun_values(name, rng)
    prompt, _, rest = frame.partition("|")
    return prompt.strip().format(**values), rest.strip().format(**values)


def pronoun_doc(rng: random.Random) -> str:
    """Two to five sentences in which a pronoun must agree with a name."""
    out: list[str] = []
    while len(out) < rng.randint(2, 5):
        name, frame = rng.choice(NAMES), rng.choice(PRONOUN_FRAMES)
        if rng.random() < 0.15:
            out.append(_two_people(name, rng))
        elif not pronoun_held(name, frame):
            out.append(" ".join(pronoun_sentence(name, frame, rng)))
    return " ".join(out)


def _two_people(name: str, rng: random.Random) -> str:
    he, his, him, _ = pronouns(name)
    other = rng.choice([n for n in NAMES if GENDER[n] != GENDER[name]])
    thing, place = rng.choice(THINGS), rng.choice(PLACES)
    return rng.choice(
        [
            f"{name} told {other} that {he} needed a {thing}, and {other} gave {him} one.",
            f"{other} saw {name} at the {place}, and {name} showed {other} {his} {thing}.",
            f"{other} waited for {name} because {he} was late.",
        ]
    )


# ``{a}`` is the adjective, ``{w}`` the word that must agree with it: loved/hated and so on.
SENTIMENT_FRAMES = (
    ("The {t} was {a}. {n} | {w} it.", ("loved", "hated")),
    ("I thought the {t} was {a} and {b}. I | {w} it.", ("loved", "hated")),
    ("{n} said the {t} was {a}. {n} felt very | {w}.", ("happy", "sad")),
    ("This {t} is {a}, and I would | {w}.", ("recommend it to everyone", "warn everyone about it")),
    ("What a {a} {t}! It made {n} | {w}.", ("smile", "cry")),
    ("Everyone at the {t} agreed that it was {a} and | {b}.", ("", "")),
    ("{n} called the {t} {a}, and {n} really | {w} it.", ("loved", "hated")),
    ("The {t} was so {a} that {n} | {w} it.", ("loved", "hated")),
    ("It was a {a} {t}. All in all, it was very | {w}.", ("good", "bad")),
)


def sentiment_values(
    positive: bool, adjective: str, thing: str, verdicts: tuple[str, str], rng: random.Random
) -> dict[str, str]:
    """What fills the slots of a sentiment frame with the verdicts (good, bad)."""
    others = [x for x in (POSITIVE if positive else NEGATIVE) if x != adjective]
    return {
        "t": thing,
        "a": adjective,
        "b": rng.choice(others),
        "n": rng.choice(NAMES),
        "w": verdicts[0] if positive else verdicts[1],
    }


def sentiment_sentence(
    positive: bool, adjective: str, thing: str, frame_index: int, rng: random.Random
) -> tuple[str, str]:
    """(prompt, continuation) of a review whose ending must agree with its adjective."""
    frame, verdicts = SENTIMENT_FRAMES[frame_index]
    values = sentiment_values(positive, adjective, thing, verdicts, rng)
    prompt, _, rest = frame.partition("|")
    return capital(prompt.strip().format(**values)), rest.strip().format(**values)


def sentiment_doc(rng: random.Random) -> str:
    """A review of two or three sentences, all of one mood or of changing moods."""
    out = []
    for _ in range(rng.randint(1, 3)):
        positive, thing = rng.random() < 0.5, rng.choice(REVIEWED)
        adjectives = [
            a for a in (POSITIVE if positive else NEGATIVE) if not sentiment_held(a, thing)
        ]
        index = rng.randrange(len(SENTIMENT_FRAMES))
        out.append(
            " ".join(sentiment_sentence(positive, rng.choice(adjectives), thing, index, rng))
        )
    return " ".join(out)
