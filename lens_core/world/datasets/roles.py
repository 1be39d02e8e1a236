"""Sentences whose words carry the roles that their generator gave them: labels for probes."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lens_core.world.datasets.records import Records
from lens_core.world.facts import FACTS
from lens_core.world.frames import capital, fact_frames, is_cloze, word
from lens_core.world.generators.grammar import (
    CENTURIES,
    DISTRACTORS,
    INTERVAL_FRAMES,
    TAILS,
    YEARS,
    noun_phrase,
)
from lens_core.world.generators.people import (
    PRONOUN_FRAMES,
    SENTIMENT_FRAMES,
    draw_names,
    ioi_prompt,
    pronoun_values,
    sentiment_values,
)
from lens_core.world.lexicon import (
    EVENTS,
    GENDER,
    NAMES,
    NEGATIVE,
    NOUNS,
    POSITIVE,
    REVIEWED,
    VERBS,
)
from lens_core.world.slots import fill
from lens_core.world.splits import nouns_held, pronoun_held, sentiment_held, year_held

ROLES = (
    "fact_subject",
    "fact_object",
    "indirect_object",
    "subject_first",
    "subject_again",
    "place",
    "thing",
    "head_noun",
    "distractor_noun",
    "verb",
    "name",
    "pronoun",
    "reviewed",
    "adjective",
    "verdict",
    "event",
    "start_year",
    "end_year",
)


@dataclass(frozen=True)
class RoleSpan:
    """A stretch of text, half open, and its role.

    ``feature`` is what the role has besides: the relation of a fact's parts, "singular" or
    "plural", "m" or "f", "positive" or "negative"; empty where there is none.
    """

    role: str
    start: int
    end: int
    feature: str = ""


@dataclass(frozen=True)
class TaggedText:
    """One sentence and the spans of its words with a known role, from left to right.

    Words outside every span have a role that the generator does not know; they are no negatives.
    """

    text: str
    kind: str
    spans: tuple[RoleSpan, ...]

    def words(self, role: str) -> tuple[str, ...]:
        """The words in one role."""
        return tuple(self.text[s.start : s.end] for s in self.spans if s.role == role)


_Tags = Mapping[str, tuple[str, str]]  # slot name -> (role, feature)


def _tagged(kind: str, template: str, values: Mapping[str, str], tags: _Tags) -> TaggedText:
    """The filled template with the roles of the slots in ``tags``."""
    text, slots = fill(template, values)
    spans = tuple(
        RoleSpan(tags[s.name][0], s.start, s.end, tags[s.name][1]) for s in slots if s.name in tags
    )
    return TaggedText(text, kind, spans)


def _fact(rng: random.Random) -> TaggedText:
    fact = rng.choice(FACTS)
    frames = [f for f in fact_frames(fact.relation, fact.subject)["train"] if is_cloze(f)]
    said = word(fact, rng.choice(frames), rng)
    assert said.subject_chars is not None
    start = len(said.prompt) + 1
    spans = (
        RoleSpan("fact_subject", *said.subject_chars, fact.relation),
        RoleSpan("fact_object", start, start + len(fact.object), fact.relation),
    )
    return TaggedText(said.text, "fact", spans)


_IOI_ROLES = {
    "io": "indirect_object",
    "s1": "subject_first",
    "s2": "subject_again",
    "place": "place",
    "thing": "thing",
    "thing2": "thing",
}


def _ioi(rng: random.Random) -> TaggedText:
    a, b = draw_names(rng, 2)
    said = ioi_prompt(rng, (a, b), held=False)
    spans = [RoleSpan(_IOI_ROLES[s.name], s.start, s.end) for s in said.slots]
    start = len(said.prompt) + 1
    spans.append(RoleSpan("indirect_object", start, start + len(said.indirect_object)))
    return TaggedText(f"{said.prompt} {said.indirect_object}.", "ioi", tuple(spans))


def _number(plural: bool) -> str:
    return "plural" if plural else "singular"


def _agreement(rng: random.Random) -> TaggedText:
    while True:
        head, other = rng.sample(NOUNS, 2)
        if not nouns_held(head[0], other[0]):
            break
    plural, other_plural = rng.random() < 0.5, rng.random() < 0.5
    verb = rng.choice(VERBS)
    phrase = noun_phrase(rng.choice(DISTRACTORS), "{n}", "{d}", plural, other_plural, rng)
    template = f"{capital(phrase)} {{v}} {rng.choice(TAILS[verb[0]])}."
    values = {"n": head[plural], "d": other[other_plural], "v": verb[plural]}
    tags = {
        "n": ("head_noun", _number(plural)),
        "d": ("distractor_noun", _number(other_plural)),
        "v": ("verb", _number(plural)),
    }
    return _tagged("agreement", template, values, tags)


def _pronoun(rng: random.Random) -> TaggedText:
    while True:
        name, frame = rng.choice(NAMES), rng.choice(PRONOUN_FRAMES)
        if not pronoun_held(name, frame):
            break
    pronoun = ("pronoun", GENDER[name])
    tags = dict.fromkeys(("he", "his", "him", "himself", "He"), pronoun)
    tags |= {"n": ("name", GENDER[name]), "o": ("thing", ""), "p": ("place", "")}
    return _tagged("pronoun", frame.replace("| ", ""), pronoun_values(name, rng), tags)


def _sentiment(rng: random.Random) -> TaggedText:
    frame, verdicts = rng.choice(SENTIMENT_FRAMES)
    positive, thing = rng.random() < 0.5, rng.choice(REVIEWED)
    adjectives = [a for a in (POSITIVE if positive else NEGATIVE) if not sentiment_held(a, thing)]
    values = sentiment_values(positive, rng.choice(adjectives), thing, verdicts, rng)
    mood = "positive" if positive else "negative"
    tags = {"t": ("reviewed", ""), "n": ("name", GENDER[values["n"]])}
    tags |= {"a": ("adjective", mood), "b": ("adjective", mood), "w": ("verdict", mood)}
    return _tagged("sentiment", capital(frame.replace("| ", "")), values, tags)


def _interval(rng: random.Random) -> TaggedText:
    while True:
        century, year = rng.choice(CENTURIES), rng.choice(YEARS)
        if not year_held(century, year):
            break
    frame = rng.choice(INTERVAL_FRAMES).replace("{c}{y}", "{start}").replace("{c}|{z}", "{end}")
    end = rng.randint(year + 1, 99)
    values = {
        "e": rng.choice(EVENTS),
        "start": f"{century}{year:02d}",
        "end": f"{century}{end:02d}",
    }
    tags = {"e": ("event", ""), "start": ("start_year", ""), "end": ("end_year", "")}
    return _tagged("interval", frame, values, tags)


_KINDS: tuple[Callable[[random.Random], TaggedText], ...] = (
    _fact,
    _ioi,
    _agreement,
    _pronoun,
    _sentiment,
    _interval,
)


def role_tagged_text(n: int, seed: int = 0) -> Records[TaggedText]:
    """``n`` sentences as training has them, as many of each kind as possible, in random order.

    Kinds: fact, ioi, agreement, pronoun, sentiment, interval; roles: `ROLES`. Sentences may repeat.

    >>> tagged = next(t for t in role_tagged_text(12) if t.kind == "interval")
    >>> start, end = tagged.words("start_year")[0], tagged.words("end_year")[0]
    >>> start < end
    True
    """
    rng = random.Random(seed)
    kinds = [_KINDS[i % len(_KINDS)] for i in range(n)]
    rng.shuffle(kinds)
    return Records(kind(rng) for kind in kinds)
