"""The source of measures for a notebook: functions, what they use of their module, imports."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import textwrap
import types
from collections.abc import Callable, Iterable
from typing import Any

from app.lesson.measures import MODULES


class SourceError(ValueError):
    """A measure uses what a notebook does not have; the message names both."""


def sources(fns: Iterable[Callable[..., Any]]) -> str:
    """One script that defines these functions, given ``lens_core`` and its dependencies.

    What they use of their own module comes along (functions, constants, imported names), and so do
    functions of other modules of measures. Raises SourceError for anything else of ``app``.
    """
    collector = _Collector()
    for fn in fns:
        collector.function(fn)
    imports = ["from __future__ import annotations", "", *sorted(collector.imports)]
    return "\n".join([*imports, "", *collector.constants, "", "\n\n\n".join(collector.defined)])


class _Collector:
    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.constants: list[str] = []
        self.defined: list[str] = []
        self.seen: set[str] = set()

    def function(self, fn: Callable[..., Any]) -> None:
        if fn.__name__ in self.seen:
            return
        self.seen.add(fn.__name__)
        node = ast.parse(textwrap.dedent(inspect.getsource(fn))).body[0]
        assert isinstance(node, ast.FunctionDef)
        node.decorator_list = [d for d in node.decorator_list if not _registers(d)]
        module = sys.modules[fn.__module__]
        for name in _globals_in(node):
            if name in vars(module):
                self._use(name, vars(module)[name], fn)
        self.defined.append(ast.unparse(node))

    def _use(self, name: str, value: Any, fn: Callable[..., Any]) -> None:
        if name in self.seen:
            return
        home = getattr(value, "__module__", None)
        # A function that remembers its results is a function too.
        own = inspect.unwrap(value) if callable(value) else value
        if isinstance(own, types.FunctionType) and home in (fn.__module__, *MODULES):
            self.function(own)
            return
        self.seen.add(name)
        if isinstance(value, types.ModuleType):
            self._from(value.__name__, fn, f"import {value.__name__} as {name}")
        elif home is not None and hasattr(value, "__name__"):
            known_as = value.__name__
            alias = "" if known_as == name else f" as {name}"
            self._from(str(home), fn, f"from {home} import {known_as}{alias}")
        else:
            self.constants.append(_constant(name, value, fn))

    def _from(self, module: str, fn: Callable[..., Any], line: str) -> None:
        if module.split(".")[0] in ("app", "streamlit"):
            raise SourceError(f"the measure {fn.__name__} uses {module}, which no notebook has")
        self.imports.add(line)


def _registers(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "measure"


def _globals_in(node: ast.FunctionDef) -> list[str]:
    """Names that the body reads; annotations are never evaluated and do not count."""
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef):
            part.returns = None
        elif isinstance(part, ast.arg):
            part.annotation = None
    names = (n.id for n in ast.walk(node) if isinstance(n, ast.Name))
    return list(dict.fromkeys(name for name in names if not hasattr(builtins, name)))


def _constant(name: str, value: Any, fn: Callable[..., Any]) -> str:
    written = repr(value)
    try:
        if ast.literal_eval(written) == value:
            return f"{name} = {written}"
    except (ValueError, SyntaxError):
        pass
    raise SourceError(f"the measure {fn.__name__} uses {name}, which is no plain constant")
