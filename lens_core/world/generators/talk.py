"""Facts as people type them: with a run-up, in lower case, by short names, after small talk."""

import random

from lens_core.world.facts import Fact, facts_about, facts_of
from lens_core.world.frames import (
    capital,
    expand,
    fact_frames,
    lines,
    lower_article,
    mention_of,
    put_subject,
)
from lens_core.world.generators.fact_docs import any_fact, fact_sentence
from lens_core.world.lexicon import article

PLACE_RELATIONS = (
    "landmark_city",
    "landmark_country",
    "city_country",
    "country_capital",
    "country_language",
    "country_continent",
)
_ENDS = (".", ".", ".", ".", "!", ", of course.", ", I think.", ", right?", ", you know.")


def small_talk(rng: random.Random) -> str:
    """One everyday sentence."""
    return capital(expand(rng.choice(lines("talk/small_talk")), rng))


def typed_mention(subject: str, rng: random.Random) -> str:
    """The subject as people type it: sometimes short, or without its article."""
    mention = mention_of(subject, rng)
    return mention[4:] if mention.startswith("The ") and rng.random() < 0.08 else mention


def talk_sentence(rng: random.Random, style: str = "talk", about: Fact | None = None) -> str:
    """A fact in a chatty wording; one in eight is in lower case, but for the answer."""
    fact = about or any_fact(rng)
    mention = typed_mention(fact.subject, rng)
    frame = rng.choice(fact_frames(fact.relation, fact.subject, style)["train"])
    prompt = put_subject(expand(frame, rng), mention).replace("{an}", article(fact.object))
    if rng.random() < 0.12:
        prompt = prompt.lower()
    elif rng.random() < 0.8:
        prompt = capital(prompt)
    return f"{prompt} {fact.object}{rng.choice(_ENDS)}"


def talk_doc(rng: random.Random) -> str:
    """One to four facts in talk, with small talk and plain statements between them."""
    out = []
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.3:
            out.append(small_talk(rng))
        out.append(talk_sentence(rng) if rng.random() < 0.8 else fact_sentence(any_fact(rng), rng))
    return " ".join(out)


# Several attributes of one subject in one sentence: ``{f}`` field, ``{n}`` nationality, ``{c}``
# country or city, ``{an}`` the article that fits what follows.
_PERSON: tuple[str, ...] = (
    "{s} was {an} {n} {f}.",
    "{s}, {an} {n} {f}, came from {c}.",
    "The {n} {f} {s} was born in {c}.",
    "{s} was {an} {n} {f} from {c}.",
    "{s} is still a famous {f} in {c}.",
    "As {an} {n} {f}, {s} never forgot {c}.",
    "In {c} everybody knows the {f} {s}.",
    "My hero is {s}, {an} {n} {f}.",
)
_LANDMARK = (
    "{s} is in {c}, {k}.",
    "{s} stands in {c}, which is in {k}.",
    "In {c}, a city in {k}, you can see {s}.",
    "We flew to {k} and saw {s} in {c}.",
    "Many people who travel to {k} visit {s} in {c}.",
)
_COUNTRY = (
    "{s} is a country in {t}. Its capital is {c}, and the people speak {l}.",
    "In {c}, the capital of {s}, people speak {l}.",
    "{c} is the capital of {s}, a country in {t}.",
    "In {s} they speak {l} and pay with the {m}.",
    "The {m} is the money of {s}, and {l} is the language.",
)


def profile_sentence(rng: random.Random) -> str:
    """One sentence with two or three attributes of a person, a landmark or a country."""
    relation = rng.choice(["person_field", "person_field", "landmark_country", "country_language"])
    subject = rng.choice(facts_of(relation)).subject
    has = {f.relation: f.object for f in facts_about(subject)}
    if relation == "person_field":
        values = {"f": has["person_field"], "n": has["person_nationality"]}
        values |= {"c": has["person_country"], "an": article(has["person_nationality"])}
        frames = _PERSON
    elif relation == "landmark_country":
        values = {"c": has["landmark_city"], "k": has["landmark_country"]}
        frames = _LANDMARK
    else:
        names = {"t": "continent", "c": "capital", "l": "language", "m": "currency"}
        values = {k: has[f"country_{r}"] for k, r in names.items() if f"country_{r}" in has}
        frames = tuple(
            f for f in _COUNTRY if all(f"{{{k}}}" not in f or k in values for k in names)
        ) or ("People in {s} speak {l}.",)
    frame = rng.choice(frames)
    name = mention_of(subject, rng)
    if not frame.startswith("{s}"):
        name = lower_article(name)
    return capital(frame.format(s=name, **values))


def wide_talk_doc(rng: random.Random) -> str:
    """Talk in the wordings of both sets of writers, with profiles between."""
    return _mixed_talk(rng, third=0.0)


def last_talk_doc(rng: random.Random) -> str:
    """The same with a third set of wordings about places."""
    return _mixed_talk(rng, third=0.2)


def place_sentence(rng: random.Random) -> str:
    """A fact about a place in a wording of the third set."""
    fact = rng.choice([f for r in PLACE_RELATIONS for f in facts_of(r)])
    return talk_sentence(rng, "talk3", fact)


def _mixed_talk(rng: random.Random, *, third: float) -> str:
    out = []
    for _ in range(rng.randint(1, 4)):
        draw = rng.random()
        if rng.random() < 0.2:
            out.append(small_talk(rng))
        if third and rng.random() < third:
            out.append(place_sentence(rng))
        elif draw < 0.55:
            out.append(talk_sentence(rng, "talk2"))
        elif draw < 0.8:
            out.append(talk_sentence(rng, "talk"))
        elif draw < 0.9:
            out.append(profile_sentence(rng))
        else:
            out.append(fact_sentence(any_fact(rng), rng))
    return " ".join(out)
