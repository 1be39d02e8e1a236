"""The measures that lessons name: pure functions of the model and the lab's settings.

@measure("prob")
def prob(model, settings, *, layer=-1):
    ...
    return 0.62
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Value = float | int | str | None | list[float] | list[int] | list[str]
Settings = Mapping[str, Any]
Fn = TypeVar("Fn", bound=Callable[..., Any])

# Where each lab registers its measures as it is imported; a lab that is not there yet has none.
MODULES = (
    "app.lens_lab.measures",
    "app.transformer_lab.measures",
    "app.attention_lab.measures",
    "app.patching_lab.measures",
    "app.patching_lab.path_measures",
    "app.circuit_lab.measures",
    "app.tracing_lab.measures",
    "app.editing_lab.measures",
    "app.mass_editing_lab.measures",
)


@dataclass(frozen=True)
class Measure:
    """A named measure: its function and the names that it takes besides model and settings."""

    name: str
    fn: Callable[..., Value]
    takes: frozenset[str] = field(default_factory=frozenset)
    needs: frozenset[str] = field(default_factory=frozenset)

    @property
    def help(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.fn) or "").split("\n", 1)[0]


_REGISTRY: dict[str, Measure] = {}


def measure(name: str) -> Callable[[Fn], Fn]:
    """Register ``fn(model, settings, *, **named) -> value``; a second one by that name replaces it.

    Raises TypeError where the function has positional arguments beyond the two or takes ``**``.
    """

    def register(fn: Fn) -> Fn:
        _, _, *rest = inspect.signature(fn).parameters.values()
        if any(p.kind is not p.KEYWORD_ONLY for p in rest):
            raise TypeError(f"The measure {name} may take keyword-only arguments after settings.")
        _REGISTRY[name] = Measure(
            name,
            fn,
            takes=frozenset(p.name for p in rest),
            needs=frozenset(p.name for p in rest if p.default is p.empty),
        )
        return fn

    return register


def measures() -> Mapping[str, Measure]:
    """Every measure of every lab that is here. Imports the labs, and with them torch."""
    for module in MODULES:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise
    return _REGISTRY
