"""Wordings: lines with choices ``[a|b]`` and slots ``{s}``, read from ``data/``, expanded at random.

A fact frame ends just before the object, or holds ``{o}`` and goes on. Each file carries more than a
hundred lines, each line several wordings, so that a learner's own sentence lands near one of them.
"""

import random
import re
from dataclasses import dataclass
from functools import cache

from lens_core.world.facts import DATA, Fact, facts_about, short_names
from lens_core.world.splits import frame_unseen, wording_held

_CHOICE = re.compile(r"\[([^\[\]]*)\]")


@cache
def lines(name: str) -> tuple[str, ...]:
    """The frames of one data file, without repeats."""
    text = (DATA / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def expand(frame: str, rng: random.Random) -> str:
    """Take one alternative of every choice."""
    text = _CHOICE.sub(lambda m: rng.choice(m.group(1).split("|")), frame)
    return re.sub(r" {2,}", " ", text).replace(" ,", ",").strip()


def n_wordings(name: str) -> int:
    """How many different wordings the lines of a file give."""
    total = 0
    for line in lines(name):
        count = 1
        for match in _CHOICE.finditer(line):
            count *= len(match.group(1).split("|"))
        total += count
    return total


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def lower_article(noun: str) -> str:
    """``The Louvre`` inside a sentence."""
    return "the" + noun[3:] if noun.startswith("The ") else noun


def put_subject(text: str, subject: str) -> str:
    """Fill ``{s}``; a leading article is lower-cased except at the start of a sentence."""
    at = text.index("{s}")
    starts = at == 0 or text[:at].endswith(('. "', ". ", "? ", ": ", '"'))
    filled = text.replace("{s}", subject if starts else lower_article(subject))
    return filled


@dataclass(frozen=True)
class Wording:
    """One rendered fact: ``prompt + " " + object + after`` is the sentence."""

    fact: Fact
    frame: str
    prompt: str
    after: str

    @property
    def text(self) -> str:
        return f"{self.prompt} {self.fact.object}{self.after}"


def word(fact: Fact, frame: str, rng: random.Random, mention: str | None = None) -> Wording:
    """Render a fact with a frame; ``mention`` replaces the subject's name (a short name, a pronoun)."""
    text = put_subject(expand(frame, rng), mention or fact.subject)
    prompt, _, after = text.partition("{o}")
    if after and not prompt.strip():
        return Wording(fact, frame, "", f"{after}.")
    return Wording(fact, frame, capital(prompt.rstrip()), f"{after}.")


def _lines_by_kind(relation: str, subject: str) -> tuple[str, ...]:
    """A work is written, painted or composed as its creator is a writer, painter or composer."""
    if relation != "work_creator":
        return ()
    creator = next(f.object for f in facts_about(subject) if f.relation == relation)
    full = {short: name for name, short in short_names().items()}.get(creator)
    if full is None:
        return ()
    field = next(f.object for f in facts_about(full) if f.relation == "person_field")
    return lines(f"frames/work_by_{field}") if field in ("writer", "painter", "composer") else ()


@cache
def fact_frames(relation: str, subject: str) -> dict[str, tuple[str, ...]]:
    """The frames of a relation by split: ``train``, ``held`` (for this fact), ``unseen`` (for all)."""
    out: dict[str, list[str]] = {"train": [], "held": [], "unseen": []}
    for frame in (*lines(f"frames/{relation}"), *_lines_by_kind(relation, subject)):
        if frame_unseen(frame):
            out["unseen"].append(frame)
        elif wording_held(relation, subject, frame):
            out["held"].append(frame)
        else:
            out["train"].append(frame)
    return {k: tuple(v) for k, v in out.items()}


def mention_of(subject: str, rng: random.Random) -> str:
    """The subject's name, sometimes (one in six) the short name that people use."""
    short = short_names().get(subject)
    if short and rng.random() < 0.17:
        return short
    return subject


def is_cloze(frame: str) -> bool:
    """True if the frame ends just before the object."""
    return "{o}" not in frame
