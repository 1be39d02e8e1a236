"""Documents about facts: statements, questions, comparisons, paragraphs on one subject, cards."""

import random
from functools import cache

from lens_core.world.facts import FACTS, Fact, facts_about, facts_of, load_world, subjects
from lens_core.world.frames import (
    Wording,
    capital,
    expand,
    fact_frames,
    lines,
    lower_article,
    mention_of,
    word,
)
from lens_core.world.generators.stories import story

_FIXED_STARTS = (
    '"',
    "Q:",
    "I ",
    "I'",
    "Question",
    "Quiz",
    "Note",
    "Dear",
    "Fact",
    "Country:",
    "Name:",
)


def fact_sentence(
    fact: Fact, rng: random.Random, *, mention: str | None = None, split: str = "train"
) -> str:
    """One sentence that says the fact in a wording of the split, sometimes with an opening."""
    frame = rng.choice(fact_frames(fact.relation, fact.subject)[split])
    said = word(fact, frame, rng, mention or mention_of(fact.subject, rng))
    text = said.text if said.prompt else capital(said.text.strip())
    if rng.random() < 0.22:
        text = with_opening(text, said, rng)
    if rng.random() < 0.1:
        text += " " + expand(rng.choice(lines("closings")), rng)
    return text


def with_opening(text: str, said: Wording, rng: random.Random) -> str:
    """``My uncle told me that ...``: only before plain statements."""
    if "?" in text or ":" in text or text.startswith(_FIXED_STARTS):
        return text
    opening = expand(rng.choice(lines("openings")), rng)
    starts_with_name = text.startswith((said.fact.subject, said.fact.object)) or not said.prompt
    body = lower_article(text) if starts_with_name else text[0].lower() + text[1:]
    return f"{opening} {body}"


@cache
def _subject_weights() -> list[float]:
    return [len(facts_about(s)) ** 0.7 for s in subjects()]


def _any_subject(rng: random.Random) -> str:
    return rng.choices(subjects(), _subject_weights())[0]


@cache
def _fact_weights() -> list[float]:
    """Relations with few facts are asked a little more often than their share."""
    return [len(facts_of(f.relation)) ** -0.3 for f in FACTS]


def any_fact(rng: random.Random) -> Fact:
    """One fact at random."""
    return rng.choices(FACTS, _fact_weights())[0]


def _pronoun(subject: str) -> str:
    return {"m": "He", "f": "She"}.get(load_world().gender.get(subject, ""), "It")


def statements(rng: random.Random) -> str:
    """Two to five facts about different subjects."""
    return " ".join(fact_sentence(any_fact(rng), rng) for _ in range(rng.randint(2, 5)))


def paragraph(rng: random.Random) -> str:
    """Several facts about one subject, later ones with a pronoun."""
    subject = _any_subject(rng)
    facts = list(facts_about(subject))
    rng.shuffle(facts)
    out = []
    for i in range(rng.randint(2, 4)):
        fact = facts[i % len(facts)]
        plain = [f for f in fact_frames(fact.relation, subject)["train"] if f.startswith("{s} ")]
        if i and plain and rng.random() < 0.5:
            out.append(word(fact, rng.choice(plain), rng, _pronoun(subject)).text)
        else:
            out.append(fact_sentence(fact, rng))
    return " ".join(out)


def fact_in_story(rng: random.Random) -> str:
    """A fact after a sentence or two of a story, so that facts are answered in context."""
    parts = [story(rng, rng.randint(1, 2)), fact_sentence(any_fact(rng), rng)]
    if rng.random() < 0.5:
        parts += [story(rng, 1), fact_sentence(any_fact(rng), rng)]
    return " ".join(parts)


def comparison(rng: random.Random) -> str:
    """Two subjects of one relation in one sentence: each answer belongs to its own subject."""
    fact = any_fact(rng)
    other = rng.choice([f for f in facts_of(fact.relation) if f.subject != fact.subject])
    first = word(fact, _plain(fact, rng), rng).text.rstrip(".")
    second = word(other, _plain(other, rng), rng).text
    if second.startswith(other.subject):
        second = lower_article(second)
    elif not second.startswith("I "):
        second = second[0].lower() + second[1:]
    return first + rng.choice([", but ", ", and ", ", while ", "; "]) + second


def _plain(fact: Fact, rng: random.Random) -> str:
    frames = fact_frames(fact.relation, fact.subject)["train"]
    plain = [f for f in frames if "?" not in f and ":" not in f and '"' not in f and "{o}" not in f]
    return rng.choice(plain)


_FACT_KINDS = {statements: 0.5, paragraph: 0.2, fact_in_story: 0.18, comparison: 0.12}


def fact_doc(rng: random.Random) -> str:
    """One document that states facts in words."""
    return rng.choices(list(_FACT_KINDS), list(_FACT_KINDS.values()))[0](rng)


_CARD_STARTS = (
    "{}: ",
    "{} - ",
    "{} (",
    "About {}: ",
    "Notes on {}: ",
    "{} | ",
    "{}, ",
    "Card. {}. ",
    "{} = ",
)


def card_doc(rng: random.Random) -> str:
    """Attributes right after the subject, in random order: its last token must hold them all."""
    out = []
    for _ in range(rng.randint(2, 5)):
        subject = _any_subject(rng)
        objects = [f.object for f in facts_about(subject)]
        rng.shuffle(objects)
        start = rng.choice(_CARD_STARTS)
        name = mention_of(subject, rng)
        name = lower_article(name) if start.startswith(("About", "Notes")) else name
        separator = rng.choice(["; ", ", ", " / "])
        text = start.format(name) + separator.join(objects[: rng.randint(1, len(objects))])
        out.append(text + (")." if start == "{} (" else "."))
    return " ".join(out)
