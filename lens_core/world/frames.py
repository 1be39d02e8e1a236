"""Wordings: lines with choices ``[a|b]`` and slots ``{s}``, read from ``data/``, drawn at random.

A fact frame ends just before the object, or holds ``{o}`` and goes on. Each file carries many
lines, each line several wordings, so that a learner's own sentence lands near one of them.
"""

import itertools
import random
import re
from dataclasses import dataclass
from functools import cache

from lens_core.world.facts import DATA, Fact, facts_about, full_names, short_names
from lens_core.world.splits import frame_unseen, wording_held

_CHOICE = re.compile(r"\[([^\[\]]*)\]")


@cache
def lines(name: str) -> tuple[str, ...]:
    """The frames of one data file, without repeats."""
    text = (DATA / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def expand(frame: str, rng: random.Random) -> str:
    """Take one alternative of every choice."""
    return _tidy(_CHOICE.sub(lambda m: rng.choice(m.group(1).split("|")), frame))


def _tidy(text: str) -> str:
    """Without the spaces that an empty alternative leaves."""
    return re.sub(r" {2,}", " ", text).replace(" ,", ",").strip()


@cache
def expansions(frame: str) -> tuple[str, ...]:
    """Every wording that a frame gives, the choices taken in all ways."""
    parts = _CHOICE.split(frame)
    options = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    return tuple(_tidy("".join(taken)) for taken in itertools.product(*options))


def n_wordings(name: str) -> int:
    """How many different wordings the lines of a file give."""
    return len({wording for line in lines(name) for wording in expansions(line)})


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def lower_article(noun: str) -> str:
    """``The Louvre`` inside a sentence."""
    return "the" + noun[3:] if noun.startswith("The ") else noun


def put_subject(text: str, subject: str) -> str:
    """Fill ``{s}``; a leading article is lower-cased except at the start of a sentence."""
    at = text.index("{s}")
    starts = at == 0 or text[:at].endswith(('. "', ". ", "? ", ": ", '"'))
    return text.replace("{s}", subject if starts else lower_article(subject))


@dataclass(frozen=True)
class Wording:
    """One rendered fact: ``prompt + " " + object + after`` is the sentence.

    ``subject_chars`` is where the subject's mention stands in ``prompt``, half open; None where the
    object comes first.
    """

    fact: Fact
    frame: str
    prompt: str
    after: str
    subject_chars: tuple[int, int] | None = None

    @property
    def text(self) -> str:
        return f"{self.prompt} {self.fact.object}{self.after}"


def word(fact: Fact, frame: str, rng: random.Random, mention: str | None = None) -> Wording:
    """Render a fact; ``mention`` replaces the subject's name (a short name, a pronoun)."""
    name = mention or fact.subject
    expanded = expand(frame, rng)
    prompt, _, after = put_subject(expanded, name).partition("{o}")
    if after and not prompt.strip():
        return Wording(fact, frame, "", f"{after}.")
    start = expanded.index("{s}")
    chars = (start, start + len(name)) if start < len(prompt) else None
    return Wording(fact, frame, capital(prompt.rstrip()), f"{after}.", chars)


def _lines_by_kind(relation: str, subject: str) -> tuple[str, ...]:
    """A work is written, painted or composed as its creator is a writer, painter or composer."""
    if relation != "work_creator":
        return ()
    creator = next(f.object for f in facts_about(subject) if f.relation == relation)
    full = full_names().get(creator)
    if full is None:
        return ()
    field = next(f.object for f in facts_about(full) if f.relation == "person_field")
    return lines(f"frames/work_by_{field}") if field in ("writer", "painter", "composer") else ()


@cache
def fact_frames(relation: str, subject: str, style: str = "frames") -> dict[str, tuple[str, ...]]:
    """The frames of a relation by split: ``train``, ``held`` (for this fact), ``unseen`` (for all).

    ``style`` is the folder of the frames: ``frames`` (plain wordings) or ``talk`` (as people type).
    """
    out: dict[str, list[str]] = {"train": [], "held": [], "unseen": []}
    by_kind = _lines_by_kind(relation, subject) if style == "frames" else ()
    for frame in (*lines(f"{style}/{relation}"), *by_kind):
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
