"""Simple stories: the ordinary text around everything else, with the words that learners bring."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from lens_core.world.facts import facts_of
from lens_core.world.frames import capital
from lens_core.world.lexicon import (
    ADJECTIVES,
    ANIMALS,
    FEELINGS,
    FOODS,
    NAMES,
    PLACES,
    RELATIVES,
    THINGS,
    an,
    pronouns,
    words,
)

_MOVED = words("walked ran hurried drove cycled wandered returned went came travelled rushed")
_HANDLED = words(
    "saw found noticed picked_up bought carried opened painted cleaned repaired dropped lost hid "
    "wanted sold borrowed looked_at threw_away took kept"
)
_TIMES = words(
    "One morning;In the evening;Late at night;On a sunny day;After the rain;Before "
    "breakfast;During the winter;Last summer;On Monday;In April;At noon;Many years ago;The next "
    "day;A few days later;Once upon a time;Last week;Yesterday;Today;That afternoon;At midnight;On "
    "the weekend;A long time ago;Every day;Sometimes;Suddenly;Finally;After a while;At first;In "
    "the end;Later",
    separator=";",
)
_WEATHER = words(
    "It was raining.;The sky was clear.;The wind was cold.;The sun was shining.;Snow covered the "
    "ground.;The streets were empty.;The moon was bright.;Everything was quiet.;A storm was "
    "coming.;The air smelled of flowers.;Nobody was there.;It was getting late.;The door was "
    "open.;All the lights were off.;Everyone was waiting.;There was nothing to do.;It was a long "
    "day.;They laughed and talked for hours.",
    separator=";",
)
_MEALS = ("breakfast", "lunch", "dinner")
_FEW = ("two", "three", "four", "five")
_HEROES = ("king", "queen", "boy", "girl", "man", "woman")
_HOMEWARD = ("box", "basket", "car", "drawer", "bag")
_BOOKS = (
    "the history of",
    "a journey to",
    "life in",
    "the food of",
    "the people of",
    "the weather in",
)
_DREAMS = ("travelling to", "moving to", "a holiday in", "a trip to", "living in", "going back to")
_COUNTRIES = tuple(f.subject for f in facts_of("country_capital"))
_CITIES = tuple(f.subject for f in facts_of("city_country"))


@dataclass(frozen=True)
class _Cast:
    """The people and things of one story, and how its hero is called in this sentence."""

    hero: str
    friend: str
    place: str
    other_place: str
    thing: str
    quality: str
    other_quality: str
    animal: str
    food: str
    rng: random.Random

    def name(self, first: bool) -> str:
        """The hero's name, or the pronoun once the hero is known."""
        return self.hero if first or self.rng.random() < 0.4 else capital(pronouns(self.hero)[0])

    def pick(self, words: tuple[str, ...]) -> str:
        return self.rng.choice(words)


_Line = Callable[[_Cast, str, str], str]


def _his(c: _Cast) -> str:
    return pronouns(c.hero)[1]


def _he(c: _Cast) -> str:
    return pronouns(c.hero)[0]


# Each takes the cast, the hero's name at a sentence start, and the same inside a sentence.
_LINES: tuple[_Line, ...] = (
    lambda c, A, a: f"{c.pick(_TIMES)}, {a} {c.pick(_MOVED)} to the {c.place}.",
    lambda c, A, a: (
        f"{A} {c.pick(_HANDLED).replace('_', ' ')} {an(c.quality)} {c.thing} near the {c.place}."
    ),
    lambda c, A, a: (
        f"{A} lived with {_his(c)} {c.pick(RELATIVES)} "
        f"in {an(c.quality)} house by the {c.other_place}."
    ),
    lambda c, A, a: f"{A} had {an(c.quality)} {c.animal} that liked to eat {c.food}.",
    lambda c, A, a: f"{A} was {c.pick(FEELINGS)} because the {c.thing} was {c.other_quality}.",
    lambda c, A, a: f'"Where is my {c.thing}?" asked {a}.',
    lambda c, A, a: f'"I want to go to the {c.other_place}," said {a}.',
    lambda c, A, a: (
        f"{A} met {c.friend} at the {c.place}, "
        f"and they talked about the {c.other_quality} {c.thing}."
    ),
    lambda c, A, a: (
        f"{A} gave {c.friend} some {c.food}, and {c.friend} thanked {pronouns(c.hero)[2]}."
    ),
    lambda c, A, a: (
        f"{c.friend} told {c.hero} that {pronouns(c.friend)[0]} was {c.pick(FEELINGS)}."
    ),
    lambda c, A, a: f"{A} wanted to buy {an(c.other_quality)} {c.thing}, but it was too expensive.",
    lambda c, A, a: (
        f"The {c.animal} ran across the {c.other_place} and hid behind the {c.pick(THINGS)}."
    ),
    lambda c, A, a: c.pick(_WEATHER),
    lambda c, A, a: f"{A} put the {c.thing} in the {c.pick(_HOMEWARD)} and {c.pick(_MOVED)} home.",
    lambda c, A, a: f"{A} ate {c.food} and {c.pick(FOODS)} for {c.pick(_MEALS)}.",
    lambda c, A, a: (
        f"{A} forgot {_his(c)} {c.thing} at the {c.other_place}, so {_he(c)} {c.pick(_MOVED)} back."
    ),
    lambda c, A, a: f"There was {an(c.quality)} {c.thing} on the table in the {c.place}.",
    lambda c, A, a: (
        f"The {c.place} was {c.quality}, but the {c.other_place} was {c.other_quality}."
    ),
    lambda c, A, a: (
        f"{c.friend} helped {c.hero} carry the {c.quality} {c.thing} to the {c.other_place}."
    ),
    lambda c, A, a: f"{A} read a book about {c.pick(_BOOKS)} {c.pick(_COUNTRIES)}.",
    lambda c, A, a: f"{A} dreamed of {c.pick(_DREAMS)} {c.pick(_CITIES)}.",
    lambda c, A, a: f"{A} felt {c.pick(FEELINGS)} when {_he(c)} saw {c.friend} with the {c.thing}.",
    lambda c, A, a: f"Nobody knew why the {c.other_quality} {c.animal} was in the {c.place}.",
    lambda c, A, a: f"{c.hero} and {c.friend} played with the {c.thing} until the evening.",
    lambda c, A, a: f"At the end of the day, {a} was {c.pick(FEELINGS)} and went to sleep.",
    lambda c, A, a: f"{A} did not know what to do with the {c.thing}.",
    lambda c, A, a: f"{A} could not find the {c.thing}, so {_he(c)} asked {c.friend} for help.",
    lambda c, A, a: f"{A} likes {c.food} more than {c.pick(FOODS)}.",
    lambda c, A, a: f"I think that the {c.thing} is very {c.quality}.",
    lambda c, A, a: f"We went to the {c.place} because we needed {an(c.thing)}.",
    lambda c, A, a: f"They wanted to see the {c.other_place} before the {c.animal} came back.",
    lambda c, A, a: f"My {c.pick(RELATIVES)} is {c.pick(FEELINGS)}, and so am I.",
    lambda c, A, a: f"You can buy {an(c.thing)} at the {c.place}.",
    lambda c, A, a: f"If it rains tomorrow, {a} will stay at the {c.place}.",
    lambda c, A, a: f"The {c.animal} was {c.quality} and the {c.thing} was {c.other_quality}.",
    lambda c, A, a: f"{A} has never been to the {c.other_place} with {c.friend}.",
    lambda c, A, a: f"{A} learned to cook {c.food} from {_his(c)} {c.pick(RELATIVES)}.",
    lambda c, A, a: f"{A} works at the {c.place} and lives near the {c.other_place}.",
    lambda c, A, a: f"How many people were at the {c.place}? There were only {c.pick(_FEW)}.",
    lambda c, A, a: f"The story is about a {c.pick(_HEROES)} who lost the {c.thing}.",
)


def story(rng: random.Random, n_sentences: int | None = None) -> str:
    """A story of some sentences with one hero, one friend and a few things."""
    hero, friend = rng.sample(NAMES, 2)
    place, other_place = rng.sample(PLACES, 2)
    quality, other_quality = rng.sample(ADJECTIVES, 2)
    cast = _Cast(
        hero,
        friend,
        place,
        other_place,
        rng.choice(THINGS),
        quality,
        other_quality,
        rng.choice(ANIMALS),
        rng.choice(FOODS),
        rng,
    )
    out = []
    for i in range(n_sentences or rng.randint(3, 7)):
        name = cast.name(i == 0)
        inside = name if name == hero else name.lower()
        out.append(rng.choice(_LINES)(cast, name, inside))
    return " ".join(out)
