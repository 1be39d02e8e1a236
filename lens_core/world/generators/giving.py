"""Indirect-object sentences composed from parts: the moving of names must not hang on the frame.

Written frames, however many, let the model learn which openings call for which name. Here clauses,
wrappers and verbs are combined at random, with other talk between, so that only the names matter.
"""

import random

from lens_core.world.frames import capital
from lens_core.world.generators.people import draw_names, ioi_doc, wide_ioi_doc
from lens_core.world.generators.stories import story
from lens_core.world.generators.talk import small_talk
from lens_core.world.lexicon import ADJECTIVES, FEELINGS, FOODS, PLACES, THINGS

_BOTH = [
    "went to the {p}",
    "were at the {p}",
    "had a long day at the {p}",
    "looked for the {o}",
    "were {f}",
    "talked about the {j} {o}",
    "bought the {j} {o}",
    "played with the {o}",
    "waited in front of the {p}",
    "cleaned the {p}",
    "missed the bus",
    "could not sleep",
    "lived close to the {p}",
    "shared the {o}",
    "argued about the {o}",
    "laughed for hours",
    "had never seen the {o} before",
    "cooked {d} for dinner",
    "forgot the {o} at the {p}",
    "walked along the {p}",
    "met again after many years",
    "got lost",
    "found the {o} behind the {p}",
    "listened to the radio",
    "were late again",
    "painted the {o}",
    "agreed about everything",
    "came back from the {p}",
    "worked all night",
    "ate {d} together",
    "opened the {o}",
    "said nothing for a while",
    "stood by the window",
    "ran out of {d}",
    "sold the {o}",
    "planned a trip to the {p}",
    "carried the {j} {o}",
    "closed the {p}",
    "counted the money",
    "felt {f}",
    "fell asleep in the {p}",
    "repaired the {o}",
    "took the wrong train",
    "won the {o}",
    "lost the {o}",
]
_WITH = [
    "stood behind {y}",
    "had to wait for {y}",
    "met {y} near the {p}",
    "was talking to {y} about the {o}",
    "knew {y} from the {p}",
    "lived with {y}",
    "had invited {y} to the {p}",
    "saw {y} with the {o}",
    "was angry with {y}",
    "worked for {y}",
    "went out with {y}",
    "played cards with {y}",
    "ran into {y}",
    "was stuck with {y} at the {p}",
    "asked {y} about the {o}",
    "cooked {d} with {y}",
    "drove {y} home",
    "followed {y} to the {p}",
    "sang with {y}",
    "was taller than {y}",
    "had not seen {y} for years",
    "shared a room with {y}",
    "wanted to surprise {y}",
    "came in after {y}",
    "hid from {y} in the {p}",
]
_ALONE = [
    "was reading",
    "cooked {d}",
    "wanted the {o}",
    "stayed at the {p}",
    "liked the {o}",
    "was {f}",
    "felt {f}",
    "came from the {p}",
    "slept",
    "opened the door",
    "had the {o}",
    "made {d}",
    "was washing the {o}",
    "waited",
    "worked at the {p}",
    "went home",
    "looked at the {o}",
    "told a joke",
    "was on the phone",
    "drank {d}",
]
_WRAPPERS = [
    "{x}.",
    "When {x},",
    "After {x},",
    "While {x},",
    "Because {x},",
    "As {x},",
    "Since {x},",
    "Yesterday {x}.",
    "Then, {x}.",
    "Last night {x}.",
    "One day {x}.",
    "In the morning, {x}.",
    "I remember that {x}.",
    "Did you know that {x}?",
    "The story begins when {x}.",
    "Although {x},",
    "Before {x},",
    "{x}, and then",
    "{x}, so",
    "{x}, but",
    "Everyone saw that {x}.",
    "So {x}.",
    "Once {x},",
]
_TRANSFERS = [
    "gave",
    "handed",
    "passed",
    "sent",
    "lent",
    "sold",
    "showed",
    "offered",
    "brought",
    "returned",
    "threw",
    "delivered",
    "mailed",
    "carried",
    "donated",
    "presented",
    "promised",
    "forwarded",
]
_INFINITIVES = [
    "give",
    "hand",
    "pass",
    "send",
    "lend",
    "sell",
    "show",
    "offer",
    "bring",
    "return",
    "throw",
    "deliver",
    "mail",
    "carry",
    "present",
    "promise",
]
_STARTS = [
    "wanted to",
    "decided to",
    "tried to",
    "was going to",
    "began to",
    "had to",
    "was happy to",
    "forgot to",
    "agreed to",
    "hoped to",
    "was asked to",
    "stood up to",
    "came back to",
    "promised to",
    "refused to",
]
_TALKS = [
    "talked to",
    "said goodbye to",
    "wrote to",
    "waved at",
    "smiled at",
    "listened to",
    "apologised to",
    "spoke to",
    "thanked",
    "called",
    "hugged",
    "helped",
    "looked at",
    "whispered to",
    "sang for",
    "cooked for",
    "turned to",
    "explained everything to",
    "told the truth to",
    "shouted at",
    "asked",
    "bought the {o} for",
    "waited for",
]
_ADVERBS = ("", "", "", "", "later ", "finally ", "then ", "slowly ", "in the end ", "quickly ")


def _clause(rng: random.Random, a: str, b: str) -> str:
    """Something that two people do, together or apart."""
    draw = rng.random()
    if draw < 0.55:
        return f"{a} and {b} {rng.choice(_BOTH)}"
    if draw < 0.8:
        return f"{a} {rng.choice(_WITH).replace('{y}', b)}"
    link = rng.choice([" and ", " while ", ", but ", ", and "])
    return f"{a} {rng.choice(_ALONE)}{link}{b} {rng.choice(_ALONE)}"


def _transfer(rng: random.Random, giver: str) -> str:
    """What the giver does, up to the name of the other."""
    draw = rng.random()
    thing = rng.choice(["the {o}", "the {j} {o}", "the {o} and the {o2}", "some {d}"])
    if draw < 0.4:
        act = f"{rng.choice(_TRANSFERS)} {thing} to"
    elif draw < 0.7:
        act = f"{rng.choice(_STARTS)} {rng.choice(_INFINITIVES)} {thing} to"
    else:
        act = rng.choice(_TALKS)
    return f"{rng.choice(_ADVERBS)}{giver} {act}"


def giving_sentence(rng: random.Random) -> str:
    """One composed sentence (or two) whose last name is the one that did not act."""
    a, b = draw_names(rng, 2)
    giver, receiver = rng.sample([a, b], 2)
    opening = rng.choice(_WRAPPERS).replace("{x}", _clause(rng, a, b))
    act = _transfer(rng, giver)
    if opening.endswith((".", "?")):
        between = rng.random()
        if between < 0.15:
            opening += " " + small_talk(rng)
        elif between < 0.2:
            opening += " " + rng.choice(["The sky was grey.", "It was late.", "Nobody came."])
        act = capital(act)
    values = {
        "p": rng.choice(PLACES),
        "o": rng.choice(THINGS),
        "o2": rng.choice(THINGS),
        "j": rng.choice(ADJECTIVES),
        "f": rng.choice(FEELINGS),
        "d": rng.choice(FOODS),
    }
    text = f"{opening} {act} {receiver}"
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return capital(text) + rng.choice([".", ".", ".", " again.", " at once.", "!"])


def giving_doc(rng: random.Random) -> str:
    """Composed sentences, beside written frames."""
    if rng.random() < 0.3:
        return wide_ioi_doc(rng) if rng.random() < 0.7 else ioi_doc(rng)
    out = [story(rng, 1)] if rng.random() < 0.15 else []
    return " ".join([*out, *(giving_sentence(rng) for _ in range(rng.randint(1, 3)))])
