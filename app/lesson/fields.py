"""The YAML body of a directive, taken field by field; whatever is wrong with one has its line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from app.lesson import plain_yaml
from app.lesson.format import OPERATORS, Condition, LessonError, Measured, Ranking

_NUMBER = (int, float)
_COMPARED = re.compile(r"^(>=|<=|==|!=|>|<|in|contains)\s*(.*)$", re.DOTALL)
_MISSING = object()


class Fields:
    """A directive's body. Each ``take`` removes a field; ``done`` complains of what is left."""

    def __init__(
        self, body: str, *, file: str, line: int, what: str, settings: Mapping[str, Any]
    ) -> None:
        self.file, self.line, self.what = file, line, what
        self.known_settings = settings
        self._lines = body.splitlines()
        try:
            loaded = plain_yaml.load(body)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            at = line + 1 + (mark.line if mark else 0)
            reason = getattr(error, "problem", None) or "it cannot be read"
            raise LessonError(file, at, f"{what}: bad YAML, {reason}") from None
        if not isinstance(loaded, dict):
            raise LessonError(file, line, f"{what}: its body must be YAML fields, `name: value`")
        self._left: dict[str, Any] = {str(name): value for name, value in loaded.items()}

    def wrong(self, reason: str, field: str = "") -> LessonError:
        """The error for this directive, at the line of the field where there is one."""
        at = self.line
        for n, text in enumerate(self._lines, start=1):
            if field and re.match(rf"\s*{re.escape(field)}\s*:", text):
                at = self.line + n
                break
        return LessonError(self.file, at, f"{self.what}: {reason}")

    def has(self, name: str) -> bool:
        """Whether the field is given and not yet taken."""
        return name in self._left

    def take(self, name: str, kind: type | tuple[type, ...], default: Any = _MISSING) -> Any:
        """The field's value; raises where it is missing and has no default, or of another kind."""
        if name not in self._left:
            if default is _MISSING:
                raise self.wrong(f"the field `{name}` is missing")
            return default
        value = self._left.pop(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            wanted = " or ".join(k.__name__ for k in kinds)
            raise self.wrong(f"`{name}` must be {wanted}, not {type(value).__name__}", name)
        return value

    def text(self, name: str, default: Any = _MISSING) -> str:
        """A text."""
        return str(self.take(name, str, default)).strip()

    def number(self, name: str, default: Any = _MISSING) -> float:
        """A number, not below 0."""
        value = float(self.take(name, _NUMBER, default))
        if value < 0:
            raise self.wrong(f"`{name}` must not be negative", name)
        return value

    def one_of(self, name: str, values: tuple[str, ...], default: Any = _MISSING) -> str:
        """One of some words."""
        value = self.text(name, default)
        if value not in values:
            raise self.wrong(f"`{name}` must be one of {', '.join(values)}, not {value}", name)
        return value

    def settings(self, name: str = "settings") -> dict[str, Any] | None:
        """Settings of the lab, or None where there are none."""
        if not self.has(name):
            return None
        return self.check_settings(self.take(name, dict), name)

    def check_settings(self, given: dict[str, Any], field: str = "") -> dict[str, Any]:
        """The same settings, all of them known to this lesson."""
        for key, value in given.items():
            if key not in self.known_settings:
                known = ", ".join(self.known_settings) or "none"
                raise self.wrong(
                    f"unknown setting `{key}`; the front matter has {known}", str(key) or field
                )
            wanted = type(self.known_settings[key])
            numbers = wanted is float and type(value) is int
            if wanted is not type(None) and type(value) is not wanted and not numbers:
                reason = f"setting `{key}` must be {wanted.__name__}, as in the front matter"
                raise self.wrong(reason, str(key) or field)
        return given

    def rest_as_settings(self) -> dict[str, Any]:
        """Every field that is left, as settings."""
        given, self._left = self._left, {}
        return self.check_settings(given)

    def measured(self, name: str) -> Measured:
        """A measure with what stands beside it."""
        return self._as_measured(self.take(name, dict), name)

    def condition(self, name: str, given: Any = None) -> Condition:
        """A measure and what it must be."""
        given = dict(self.take(name, dict) if given is None else given)
        if "is" not in given:
            raise self.wrong(f"`{name}` must say what the measure `is`", name)
        compared, than = str(given.pop("is")).strip(), given.pop("than", None)
        match = _COMPARED.match(compared)
        if match is None:
            raise self.wrong(f"`is: {compared}` begins with none of {', '.join(OPERATORS)}", name)
        op, written = match.group(1), match.group(2).strip()
        if (than is None) == (written == ""):
            raise self.wrong("`is` needs a value, or else `than` another measure", name)
        measured = self._as_measured(given, name)
        if than is not None:
            return Condition(measured, op, self._as_measured(than, name))
        return Condition(measured, op, self._constant(op, written, name))

    def conditions(self, name: str) -> tuple[Condition, ...]:
        """One condition or a list of them."""
        given = self.take(name, (dict, list))
        listed = given if isinstance(given, list) else [given]
        if not listed or not all(isinstance(one, dict) for one in listed):
            raise self.wrong(f"`{name}` must be a condition or a list of them", name)
        return tuple(self.condition(name, one) for one in listed)

    def ranking(self) -> Ranking:
        """Options with arguments, the measure that scores them, and which are best."""
        options = self.take("options", dict)
        if len(options) < 2 or not all(isinstance(given, dict) for given in options.values()):
            raise self.wrong("`options` must be at least two, each `label: {arguments}`", "options")
        choose = self.take("choose", int, 1)
        if not 1 <= choose < len(options):
            raise self.wrong("`choose` must be less than the number of options", "choose")
        best = self.one_of("best", ("highest", "lowest"), "highest")
        return Ranking(
            options={str(label): given for label, given in options.items()},
            score=self.measured("score"),
            best="highest" if best == "highest" else "lowest",
            ties=self.number("ties", 0.0),
            choose=choose,
        )

    def done(self) -> None:
        """Raise where a field is left that this directive does not have."""
        for name in self._left:
            raise self.wrong(f"it has no field `{name}`", name)

    def _as_measured(self, given: Any, field: str) -> Measured:
        if not isinstance(given, dict) or not isinstance(given.get("measure"), str):
            raise self.wrong(f"`{field}` must be {{measure: name, ...}}", field)
        rest = {str(name): value for name, value in given.items() if name != "measure"}
        return Measured(name=given["measure"], given=rest, line=self.wrong("", field).line)

    def _constant(self, op: str, written: str, field: str) -> float | str | tuple[float, float]:
        if op == "in":
            low, _, high = written.partition("..")
            try:
                return float(low), float(high)
            except ValueError:
                raise self.wrong("`is: in` needs two numbers, `in 0.2..0.5`", field) from None
        try:
            return float(written)
        except ValueError:
            if op in ("==", "!=", "contains"):
                return written
            raise self.wrong(f"`is: {op}` needs a number, not {written}", field) from None
