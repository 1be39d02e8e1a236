"""What every lab's settings can do: be read from a URL, a lesson, or the page's controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self


@dataclass(frozen=True)
class LabSettings:
    """A lab's state. Field names are the names in the URL, and in lessons.

    A field is a text, a number, a truth value, or one of these and None. ``CHOICES`` has those
    fields whose values are the keys of a table.
    """

    CHOICES: ClassVar[Mapping[str, Mapping[str, str]]] = {}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From texts as a URL or a lesson has them; names of other labs are passed over.

        Raises ValueError for a value that the control does not have.
        """
        kinds = {field.name: str(field.type) for field in fields(cls)}
        given = {name: value for name, value in values.items() if name in kinds}
        settings = cls(**{n: _typed(kinds[n], v) for n, v in given.items() if v is not None})
        for name, allowed in cls.CHOICES.items():
            if getattr(settings, name) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(allowed)}, not {values[name]!r}")
        return settings

    @classmethod
    def standing(cls, state: Mapping[Any, Any], **drawn: Any) -> Self:
        """As all controls have them: ``state`` is the session's, ``drawn`` what was drawn just now.

        A control that was never drawn, or holds what is no value of its, has its default.
        """
        found: dict[str, Any] = {}
        for field in fields(cls):
            if state.get(field.name) is None:
                continue
            try:
                cls.of({field.name: state[field.name]})
            except ValueError:
                continue
            found[field.name] = state[field.name]
        return cls.of({**found, **drawn})


def _typed(kind: str, value: Any) -> Any:
    match kind.removesuffix(" | None"):
        case "int":
            return int(value)
        case "float":
            return float(value)
        case "bool":
            return value if isinstance(value, bool) else str(value).lower() in ("true", "1", "yes")
    return str(value)
