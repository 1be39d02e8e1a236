"""Documents whose next word stands earlier in the context: repeats, lists, quotations, analogies.

They are what makes the model grow previous-token and induction heads (Olsson et al. 2022).
"""

import random

from lens_core.world.facts import facts_of
from lens_core.world.frames import capital
from lens_core.world.generators.fact_docs import fact_doc
from lens_core.world.generators.people import draw_names, pronoun_doc, training_names
from lens_core.world.generators.stories import story
from lens_core.world.lexicon import (
    ADJECTIVES,
    ALL_WORDS,
    MONTHS,
    NOUNS,
    PLACES,
    THINGS,
    pairs,
    words,
)


def repeat_doc(rng: random.Random) -> str:
    """A few words again and again: the densest copying there is."""
    n = rng.randint(2, 10)
    pool = rng.choice(
        [
            training_names(),
            PLACES + THINGS,
            ALL_WORDS,
            tuple(str(i) for i in range(10, 100)),
            tuple(chr(65 + i) for i in range(26)),
        ]
    )
    words = [rng.choice(pool) for _ in range(n)]
    separator = rng.choice([" ", ", ", " ; ", " and "])
    return separator.join(words * max(2, rng.randint(20, 60) // n))


def _same_list(rng: random.Random) -> str:
    words = [rng.choice(ALL_WORDS) for _ in range(rng.randint(2, 14))]
    separator = rng.choice([" ", ", ", " ; "])
    return separator.join(separator.join(words) for _ in range(rng.randint(2, 4)))


def _who_lives_where(rng: random.Random) -> str:
    names, places = rng.sample(training_names(), 6), rng.sample(PLACES, 6)
    pairs = list(zip(names, places, strict=True))[: rng.randint(3, 6)]
    verb = rng.choice(["lives near", "works at", "comes from", "is waiting at", "walked to"])
    told = " ".join(f"{n} {verb} the {p}." for n, p in pairs)
    rng.shuffle(pairs)
    return told + " " + " ".join(f"{n} {verb} the {p}." for n, p in pairs)


def _who_has_what(rng: random.Random) -> str:
    names, things = rng.sample(training_names(), 5), rng.sample(THINGS, 5)
    pairs = list(zip(names, things, strict=True))[: rng.randint(2, 5)]
    told = " ".join(f"{n} has a {o}." for n, o in pairs)
    rng.shuffle(pairs)
    return told + " " + " ".join(f"The {o} belongs to {n}." for n, o in pairs)


def _quotation(rng: random.Random) -> str:
    text = rng.choice([story, fact_doc, pronoun_doc])(rng)[:160].rsplit(" ", 1)[0]
    a, b = draw_names(rng, 2)
    return f'"{text}" said {a}. "{text}" repeated {b}.'


def _shopping(rng: random.Random) -> str:
    items = rng.sample(THINGS, rng.randint(3, 6))
    name = rng.choice(training_names())
    bought = f"{', the '.join(items[:-1])} and the {items[-1]}"
    return f"Shopping list: {', '.join(items)}. {name} bought the {bought}."


_COPIES = {
    _same_list: 0.35,
    _who_lives_where: 0.2,
    _who_has_what: 0.15,
    _quotation: 0.2,
    _shopping: 0.1,
}


def copy_doc(rng: random.Random) -> str:
    """A list, table, quotation or errand that is told and then told again."""
    return rng.choices(list(_COPIES), list(_COPIES.values()))[0](rng)


_ACRONYM_WORDS = words(
    "Chief Executive Officer Central Bank National Health Service World Trade Union Royal Society "
    "International Court Public Safety Network General Data Format Local Energy Board United Farm "
    "Workers Young Music Academy Zonal Quality Jury Kids Virtual Image Open Source Language Human "
    "Rights Art Design Technical Museum Global Oil Budget Nuclear Defence Agency Early Learning "
    "Project Fund Jazz Radio Hotel"
)


def acronym_doc(rng: random.Random) -> str:
    """``The Royal Music Academy (RMA)``."""
    out = []
    for _ in range(rng.randint(2, 4)):
        words = rng.sample(_ACRONYM_WORDS, 3 if rng.random() < 0.7 else 4)
        short = "".join(w[0] for w in words)
        tail = rng.choice(
            [
                f" met at the {rng.choice(PLACES)}.",
                f" was started in {rng.choice(MONTHS)}.",
                f" is old. The {short} is big.",
                ".",
            ]
        )
        out.append(f"The {' '.join(words)} ({short}){tail}")
    return " ".join(out)


_ARGUMENTS = words(
    "load size files name path value key data mode index count width shape color label model input "
    "output table row text image state user token line field level"
)
_FUNCTIONS = words("port build open parse send find run make sort read")


def code_doc(rng: random.Random) -> str:
    """Docstrings that list the arguments, constructors that store them."""
    names = rng.sample(_ARGUMENTS, 4)
    draw = rng.random()
    if draw < 0.5:
        names = names[: rng.randint(3, 4)]
        params = "\n".join(
            f"    :param {v}: {rng.choice(ADJECTIVES)} {rng.choice(THINGS)}" for v in names
        )
        head = f"def {rng.choice(_FUNCTIONS)}(self, {', '.join(names)}):"
        return f'{head}\n    """{rng.choice(ADJECTIVES)} {rng.choice(THINGS)}\n\n{params}\n    """'
    if draw < 0.8:
        names = names[: rng.randint(2, 4)]
        body = "\n".join(f"        self.{v} = {v}" for v in names)
        head = f"class {capital(rng.choice(_ARGUMENTS))}:"
        return f"{head}\n    def __init__(self, {', '.join(names)}):\n{body}"
    n = rng.randint(1, 9)
    a, b, c, _ = names
    loop = f"for {c} in range({a}):\n    {b} = {b} + {c}"
    return f"{a} = {n}\n{b} = {n + 1}\n{loop}\nprint({b})\nprint({a})"


_OPPOSITES = pairs(
    "hot-cold big-small tall-short old-new happy-sad dark-bright heavy-light up-down left-right "
    "good-bad rich-poor fast-slow early-late open-closed day-night north-south east-west "
    "first-last hard-soft clean-dirty empty-full black-white cheap-expensive"
)
_PAST = pairs(
    "walk-walked give-gave see-saw find-found go-went take-took make-made run-ran send-sent "
    "lose-lost say-said bring-brought play-played look-looked open-opened want-wanted sit-sat "
    "tell-told"
)


def _relation_pairs(relation: str) -> tuple[tuple[str, str], ...]:
    return tuple((f.subject, f.object) for f in facts_of(relation))


def analogy_tables() -> dict[str, tuple[tuple[str, str], ...]]:
    """The tasks of in-context analogies, by name."""
    return {
        "capital": _relation_pairs("country_capital"),
        "language": _relation_pairs("country_language"),
        "continent": _relation_pairs("country_continent"),
        "country": _relation_pairs("city_country"),
        "sport": _relation_pairs("athlete_sport"),
        "opposite": _OPPOSITES,
        "plural": NOUNS,
        "past": _PAST,
        "capital letter": tuple((w, capital(w)) for w in PLACES + THINGS),
        "same": tuple((w, w) for w in PLACES + THINGS + ADJECTIVES),
    }


_TABLES = analogy_tables()
_ANALOGY_FORMATS = ("{}: {}\n", "{} -> {}\n", "Q: {}\nA: {}\n", "{} -> {}, ", "{} = {}\n")


def analogy_doc(rng: random.Random) -> str:
    """Pairs of one relation in a row: in-context learning of the task (Todd et al. 2023)."""
    table = _TABLES[rng.choice(list(_TABLES))]
    pairs = rng.sample(table, min(len(table), rng.randint(3, 8)))
    form = rng.choice(_ANALOGY_FORMATS)
    return "".join(form.format(a, b) for a, b in pairs).rstrip(", \n")
