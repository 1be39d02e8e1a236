"""Templates with named slots, filled so that where each value stands is known to the character.

>>> from lens_core.world.slots import fill
>>> text, slots = fill("{A} saw {B}.", {"A": "Anna", "B": "Tom"})
>>> text, [(s.name, text[s.start : s.end]) for s in slots]
('Anna saw Tom.', [('A', 'Anna'), ('B', 'Tom')])
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Slot:
    """One filled slot: its name in the template and its place in the text, half open."""

    name: str
    start: int
    end: int


def fill(template: str, values: Mapping[str, str]) -> tuple[str, tuple[Slot, ...]]:
    """The filled template and its slots from left to right.

    Raises:
        KeyError: a slot of the template has no value.
    """
    text, slots, done = "", [], 0
    for match in _SLOT.finditer(template):
        text += template[done : match.start()]
        value = values[match.group(1)]
        slots.append(Slot(match.group(1), len(text), len(text) + len(value)))
        text, done = text + value, match.end()
    return text + template[done:], tuple(slots)
