"""From settings to what is asked: the request, the method with its settings, and what is drawn."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from app.editing_lab.settings import (
    FT,
    FT_L,
    IN_CONTEXT,
    MEMIT,
    P_ROME,
    R_ROME,
    ROME,
    Settings,
)
from app.lens_cache import fingerprint
from lens_core.editing import (
    Edit,
    EditRequest,
    fine_tune,
    in_context,
    memit,
    preset,
    rome,
)
from lens_core.editing.evaluate import record_of
from lens_core.world.facts import Fact, facts_about, subjects

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.editing import Ledger

_VARIANTS = {R_ROME: "r-rome", ROME: "original", P_ROME: "p-rome"}
# Each method's function, and the name of its preset.
_HOW: dict[str, tuple[Callable[..., Edit], str]] = {
    R_ROME: (rome, "rome"),
    ROME: (rome, "rome"),
    P_ROME: (rome, "rome"),
    MEMIT: (memit, "memit"),
    FT: (fine_tune, "ft"),
    FT_L: (fine_tune, "ft+l"),
    IN_CONTEXT: (in_context, ""),
}
_READ_ON = 6  # tokens that the model writes on, to see the whole of its present answer


@dataclass(frozen=True, eq=False)
class Scene:
    """What the page shows.

    Attributes:
        model: as it was loaded; ledger: this visit's.
        edit: the one that the numbers and the scoreboard are about, None while there is none.
    """

    model: HookedModel
    settings: Settings
    ledger: Ledger
    edit: Edit | None

    @property
    def before(self) -> HookedModel:
        """The original."""
        return self.model

    @property
    def after(self) -> HookedModel:
        """The model with every edit that holds."""
        return self.ledger.model(self.model)

    @property
    def prefix(self) -> str:
        """What in-context edits put before the edited model's prompts."""
        return self.ledger.prefix

    @property
    def holding(self) -> list[Edit]:
        """The edits that hold."""
        return [entry.edit for entry in self.ledger.active]

    @property
    def question(self) -> str:
        """The prompt that both models are asked."""
        return self.settings.ask.strip() or self.settings.prompt

    @property
    def probes(self) -> tuple[str, ...]:
        """Prompts whose share of the chosen edit is foretold: its own, and others'."""
        if self.edit is None:
            return ()
        own = self.edit.requests[0].prompt
        record = record_of(self.model, self.edit.requests[0])
        groups = ("same subject", "near", "neighbour", "other subject")
        others = [q.prompt for g in groups for q in record.questions.get(g, ())[:3]]  # type: ignore[call-overload]
        return tuple(dict.fromkeys((own, self.question, *others)))

    @property
    def fingerprints(self) -> tuple[str, str]:
        """Of both models' weights."""
        return fingerprint(self.before), fingerprint(self.after)


def request_of(model: HookedModel, settings: Settings) -> EditRequest:
    """The edit that the controls ask for, with the model's present answer as the old one.

    Raises EditingError for what cannot be edited, and what `to_tokens` raises for the prompt.
    """
    fact, now = answer_now(model, settings.prompt, settings.subject)
    return EditRequest(
        prompt=settings.prompt.rstrip(),
        subject=settings.subject.strip(),
        target_new=settings.new.strip(),
        target_true=now,
        relation=fact.relation if fact else "",
    )


def answer_now(model: HookedModel, prompt: str, subject: str) -> tuple[Fact | None, str]:
    """What the model answers now: a fact of the world with its object, or else its next word."""
    tokens = model.to_tokens(prompt.rstrip())
    room = max(1, min(_READ_ON, (model.cfg.n_ctx or 10**6) - tokens.shape[1]))
    text = model.to_string(model.generate(tokens, room)[0, tokens.shape[1] :]).strip()
    for fact in facts_named(subject):
        if text.startswith(fact.object):
            return fact, fact.object
    words = text.split()
    return None, words[0].rstrip(".,;:") if words else ""


def facts_named(subject: str) -> tuple[Fact, ...]:
    """The world's facts about these words, with or without their article."""
    name = subject.strip().lower()
    for known in subjects():
        if known.lower() in (name, f"the {name}"):
            return facts_about(known)
    return ()


def start_settings(model: HookedModel, method: str) -> Any:
    """What the method begins with on this model; None for one that has no settings."""
    name = _HOW[method][1]
    if not name:
        return None
    start = preset(model, name).settings
    return replace(start, variant=_VARIANTS[method]) if method in _VARIANTS else start


def settings_of(model: HookedModel, settings: Settings) -> Any:
    """The method's settings with what the controls say otherwise.

    Raises EditingError for a value that the method does not take.
    """
    start = start_settings(model, settings.method)
    if start is None:
        return None
    return replace(start, **_changes(model, settings, start))


def _changes(model: HookedModel, settings: Settings, start: Any) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if settings.edit_layer is not None:
        layer = min(max(settings.edit_layer, 0), model.cfg.n_layers - 1)
        if settings.method == MEMIT:
            n = len(start.layers)
            changes["layers"] = tuple(range(max(0, layer + 1 - n), layer + 1))
        else:
            changes["layer"] = layer
    wanted = {"steps": settings.steps, "kl_factor": settings.kl_factor, "clamp": settings.clamp}
    changes |= {k: v for k, v in wanted.items() if v is not None and hasattr(start, k)}
    if settings.kl_prompts and hasattr(start, "kl_prompts"):
        changes["kl_prompts"] = settings.kl_prompts
    if not settings.covariance and hasattr(start, "use_covariance"):
        changes["use_covariance"] = False
    if hasattr(start, "seed"):
        changes["seed"] = settings.edit_seed
    return changes


def start_layer(model: HookedModel, method: str) -> int:
    """The layer that the method begins with on this model."""
    start = start_settings(model, method)
    if start is None:
        return 0
    layer = start.layers[-1] if hasattr(start, "layers") else start.layer
    return min(max(layer + model.cfg.n_layers if layer < 0 else layer, 0), model.cfg.n_layers - 1)


def compute(
    model: HookedModel,
    base: HookedModel,
    settings: Settings,
    request: EditRequest,
    **watching: Any,
) -> Edit:
    """The edit, made on the model as it stands with the visit's earlier ones.

    ``watching`` has what the method may tell of its progress: ``on_step``, ``on_trace``.
    """
    function, _ = _HOW[settings.method]
    takes = inspect.signature(function).parameters
    told = {name: value for name, value in watching.items() if name in takes}
    return function(model, request, settings_of(base, settings), **told)
