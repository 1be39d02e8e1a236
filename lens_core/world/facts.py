"""The facts of the world: real, public and checkable, read from ``data/facts.txt``.

A line of a section is ``object: subject, subject, ...``; in the section ``person`` the object is
the profession and each subject carries its gender and nationality in brackets.

>>> from lens_core.world.facts import FACTS, facts_about
>>> [f.object for f in facts_about("The Eiffel Tower")]
['Paris', 'France']
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

DATA = Path(__file__).parent / "data"

NATIONALITY_COUNTRY = MappingProxyType(
    {
        "German": "Germany",
        "English": "England",
        "Polish": "Poland",
        "Danish": "Denmark",
        "Austrian": "Austria",
        "Italian": "Italy",
        "American": "America",
        "Scottish": "Scotland",
        "Russian": "Russia",
        "Dutch": "Netherlands",
        "Swiss": "Switzerland",
        "French": "France",
        "Irish": "Ireland",
        "Swedish": "Sweden",
        "Spanish": "Spain",
        "Mexican": "Mexico",
        "Norwegian": "Norway",
        "Finnish": "Finland",
        "Czech": "Bohemia",
        "Japanese": "Japan",
        "Colombian": "Colombia",
        "Chilean": "Chile",
        "Argentine": "Argentina",
    }
)
FEMALE_PERFORMERS = frozenset(
    (
        "Megan Rapinoe",
        "Serena Williams",
        "Steffi Graf",
        "Maria Sharapova",
        "Martina Navratilova",
        "Katie Ledecky",
        "Judit Polgar",
        "Martha Argerich",
        "Anne-Sophie Mutter",
        "Hilary Hahn",
        "Jacqueline du Pre",
    )
)
# Relations that say the same thing of a subject: an edit of one may be expected to touch the other.
ENTANGLED = (
    frozenset({"landmark_city", "landmark_country"}),
    frozenset({"person_nationality", "person_country"}),
)


@dataclass(frozen=True)
class Fact:
    """One fact; ``object`` is the text that completes the sentence, without the leading space."""

    relation: str
    subject: str
    object: str


@dataclass(frozen=True)
class World:
    """All facts, with the gender of every person ('m' or 'f')."""

    facts: tuple[Fact, ...]
    gender: MappingProxyType[str, str]


def _sections(text: str) -> dict[str, list[tuple[str, list[str]]]]:
    """Section name -> list of (object, entries)."""
    out: dict[str, list[tuple[str, list[str]]]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("# "):
            name = line[2:].strip()
            out[name] = []
        elif line.strip():
            obj, _, rest = line.partition(":")
            out[name].append((obj.strip(), [x.strip() for x in rest.split(",")]))
    return out


@cache
def load_world() -> World:
    """Read the table and derive what follows from it (a landmark's country, a person's country)."""
    sections = _sections((DATA / "facts.txt").read_text(encoding="utf-8"))
    facts: list[Fact] = []
    gender: dict[str, str] = {}
    for relation, rows in sections.items():
        for obj, subjects in rows:
            for entry in subjects:
                if relation != "person":
                    facts.append(Fact(relation, entry, obj))
                    if relation in ("athlete_sport", "musician_instrument"):
                        gender[entry] = "f" if entry in FEMALE_PERFORMERS else "m"
                    continue
                match = re.fullmatch(r"(.+) \(([mf]) (\w+)\)", entry)
                if match is None:
                    raise ValueError(f"data/facts.txt: cannot read the person {entry!r}.")
                name, sex, nationality = match.groups()
                gender[name] = sex
                facts.append(Fact("person_field", name, obj))
                facts.append(Fact("person_nationality", name, nationality))
                facts.append(Fact("person_country", name, NATIONALITY_COUNTRY[nationality]))
    country_of = {f.subject: f.object for f in facts if f.relation == "city_country"}
    facts += [
        Fact("landmark_country", f.subject, country_of[f.object])
        for f in facts
        if f.relation == "landmark_city" and f.object in country_of
    ]
    return World(tuple(dict.fromkeys(facts)), MappingProxyType(gender))


FACTS: tuple[Fact, ...] = load_world().facts
RELATIONS: tuple[str, ...] = tuple(dict.fromkeys(f.relation for f in FACTS))


@cache
def _by_subject() -> dict[str, tuple[Fact, ...]]:
    out: dict[str, list[Fact]] = defaultdict(list)
    for fact in FACTS:
        out[fact.subject].append(fact)
    return {s: tuple(fs) for s, fs in out.items()}


@cache
def _by_relation() -> dict[str, tuple[Fact, ...]]:
    out: dict[str, list[Fact]] = defaultdict(list)
    for fact in FACTS:
        out[fact.relation].append(fact)
    return {r: tuple(fs) for r, fs in out.items()}


def facts_about(subject: str) -> tuple[Fact, ...]:
    """Every fact with this subject."""
    return _by_subject()[subject]


def facts_of(relation: str) -> tuple[Fact, ...]:
    """Every fact of this relation."""
    return _by_relation()[relation]


def subjects() -> tuple[str, ...]:
    """All subjects, in the order of the table."""
    return tuple(_by_subject())


def entangled(relation: str, other: str) -> bool:
    """True if two relations of a subject cannot change alone (a landmark's city and country)."""
    return any({relation, other} <= group for group in ENTANGLED)


@cache
def short_names() -> dict[str, str]:
    """Full name of a person -> the last name, where only one person bears it."""
    people = [s for s in load_world().gender if " " in s]
    last = {s: s.split(" ", 1)[1] if " van " in s or " da " in s else s.split()[-1] for s in people}
    counts = Counter(last.values())
    taken = {f.subject for f in FACTS}
    return {s: n for s, n in last.items() if counts[n] == 1 and n not in taken}


@cache
def full_names() -> dict[str, str]:
    """The last name of a person -> the full name, where only one person bears it."""
    return {short: full for full, short in short_names().items()}
