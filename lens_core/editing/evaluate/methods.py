"""The editing methods by name, with a model's settings, for `evaluate` and `scaling`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from lens_core.editing.alpha_edit import alphaedit
from lens_core.editing.baselines import fine_tune, in_context
from lens_core.editing.edit import Edit
from lens_core.editing.emmet_edit import emmet
from lens_core.editing.errors import EditingError
from lens_core.editing.evaluate.over_records import Method
from lens_core.editing.memit_edit import memit
from lens_core.editing.presets import preset
from lens_core.editing.rank_one import rome
from lens_core.editing.requests import EditRequest

if TYPE_CHECKING:
    from lens_core import HookedModel


class _Known(NamedTuple):
    """A method: what calls it, whose preset it takes, and what it changes in that."""

    title: str
    make: Callable[..., Edit]
    preset: str
    changes: dict[str, Any]


_KNOWN: dict[str, _Known] = {
    "r-rome": _Known("r-ROME", rome, "rome", {"variant": "r-rome"}),
    "original": _Known("ROME, original keys", rome, "rome", {"variant": "original"}),
    "p-rome": _Known("p-ROME", rome, "rome", {"variant": "p-rome"}),
    "memit": _Known("MEMIT", memit, "memit", {}),
    "emmet": _Known("EMMET", emmet, "emmet", {}),
    "alphaedit": _Known("AlphaEdit", alphaedit, "alphaedit", {}),
    "ft": _Known("FT", fine_tune, "ft", {}),
    "ft+l": _Known("FT+L", fine_tune, "ft+l", {}),
    "in-context": _Known("in context", in_context, "in-context", {}),
}
METHOD_NAMES = tuple(_KNOWN)


def method_of(model: HookedModel, name: str, **changes: Any) -> Method:
    """A method with the model's preset, some of its settings changed.

    Args:
        name: one of `METHOD_NAMES`.
        changes: fields of its settings.

    Raises:
        EditingError: no such method, or no such setting.

    Example:
        >>> from lens_core import HookedModel
        >>> method_of(HookedModel.from_pretrained("tiny-world"), "r-rome", layer=1).title
        'r-ROME'
    """
    if name not in _KNOWN:
        raise EditingError(f"There is no method {name!r:.40}; use {', '.join(METHOD_NAMES)}.")
    known = _KNOWN[name]
    settings = preset(model, known.preset).settings
    changes = known.changes | changes
    if changes:
        try:
            settings = replace(settings, **changes)
        except TypeError:
            raise EditingError(f"{known.title} has no such settings: {list(changes)}.") from None

    def make(edited: HookedModel, requests: Sequence[EditRequest]) -> Edit:
        return known.make(edited, requests, settings)

    plain = asdict(settings) if is_dataclass(settings) and not isinstance(settings, type) else {}
    return Method(name, known.title, make, plain)
