"""Facts in the plainest words, and in sentences composed of a setting and a cue.

People name the subject in one clause and ask in the next ("I drive an old Camry, a car made by").
Any setting of a relation goes with any of its cues, so what the model learns is to carry the
subject over, not the sentence.
"""

import random
import re
from dataclasses import dataclass
from functools import cache

from lens_core.world.facts import Fact, facts_about, facts_of, full_names, load_world
from lens_core.world.frames import capital, expand, fact_frames, lines, put_subject
from lens_core.world.generators.fact_docs import any_fact, fact_sentence
from lens_core.world.generators.stories import story
from lens_core.world.generators.talk import small_talk, talk_sentence, typed_mention
from lens_core.world.lexicon import article

# What ordinary English puts before some answers.
_QUALIFIERS = {
    "philosopher": ("political", "moral", "modern"),
    "physicist": ("theoretical", "nuclear"),
    "composer": ("classical", "romantic"),
    "bass": ("electric", "double"),
    "guitar": ("electric", "acoustic"),
    "saxophone": ("tenor", "alto"),
    "piano": ("grand",),
}
_BEFORE_QUALIFIER = ("{an}", " a", "the", "by", "his", "her")
_QUALIFIED = 0.15
_START = re.compile(r"[.?!] [a-z]")
_LOWER_CASE = 0.12
_ENDS = (".", ".", ".", ".", "!", "?", ", I think.", ", right?", ", of course.")


@dataclass(frozen=True)
class _Parts:
    settings: tuple[str, ...]
    cues: tuple[str, ...]


@cache
def _parts(relation: str) -> _Parts:
    by_kind: dict[str, list[str]] = {"setting": [], "cue": []}
    for line in lines(f"compose/{relation}"):
        kind, _, text = line.partition(": ")
        by_kind[kind].append(text if kind == "setting" or text[0] in ",.;:!?-" else f" {text}")
    return _Parts(tuple(by_kind["setting"]), tuple(by_kind["cue"]))


@cache
def _nationality_of_country() -> dict[str, str]:
    """``France`` -> ``French``, as the people of the table have them."""
    out = {}
    for fact in facts_of("person_country"):
        has = {f.relation: f.object for f in facts_about(fact.subject)}
        out[fact.object] = has["person_nationality"]
    return out


def _qualifier(fact: Fact, rng: random.Random) -> str:
    """A word that may stand before the answer, or nothing."""
    if rng.random() > _QUALIFIED:
        return ""
    if fact.relation == "work_creator" and fact.object in full_names():
        return full_names()[fact.object].removesuffix(fact.object).strip()
    if fact.relation == "country_currency":
        return _nationality_of_country().get(fact.subject, "")
    return rng.choice(_QUALIFIERS.get(fact.object, ("",)))


def _pronouns(subject: str) -> dict[str, str]:
    if load_world().gender.get(subject) == "f":
        return {"he": "she", "him": "her", "his": "her"}
    return {"he": "he", "him": "him", "his": "his"}


def _finish(prompt: str, fact: Fact, rng: random.Random) -> str:
    """Put in the article, the answer and an end."""
    qualifier = _qualifier(fact, rng) if prompt.endswith(_BEFORE_QUALIFIER) else ""
    answer = f"{qualifier} {fact.object}".strip()
    prompt = prompt.replace("{an}", article(answer))
    if rng.random() < _LOWER_CASE:
        prompt = prompt.lower()
    elif rng.random() < 0.9:
        prompt = capital(prompt)
    return f"{prompt} {answer}{rng.choice(_ENDS)}"


def plain_sentence(rng: random.Random, about: Fact | None = None) -> str:
    """A fact as a beginner types it first: "The capital of Peru is"."""
    fact = about or any_fact(rng)
    frame = rng.choice(fact_frames(fact.relation, fact.subject, "plain")["train"])
    return _finish(put_subject(expand(frame, rng), typed_mention(fact.subject, rng)), fact, rng)


def composed_sentence(rng: random.Random, about: Fact | None = None) -> str:
    """A fact in a setting and a cue."""
    fact = about or any_fact(rng)
    parts = _parts(fact.relation)
    setting = put_subject(expand(rng.choice(parts.settings), rng), typed_mention(fact.subject, rng))
    cue = expand(rng.choice(parts.cues), rng)
    for word, said in _pronouns(fact.subject).items():
        cue = cue.replace(f"{{{word}}}", said)
    return _finish(capital(setting) + _START.sub(lambda m: m[0].upper(), cue), fact, rng)


def composed_doc(rng: random.Random) -> str:
    """One to four facts, most of them composed or plain, with other talk between."""
    kinds = (composed_sentence, plain_sentence, talk_sentence)
    out = []
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.2:
            out.append(small_talk(rng) if rng.random() < 0.7 else story(rng, 1))
        draw = rng.random()
        if draw < 0.95:
            out.append(rng.choices(kinds, (0.58, 0.27, 0.1))[0](rng))
        else:
            out.append(fact_sentence(any_fact(rng), rng))
    return " ".join(out)
