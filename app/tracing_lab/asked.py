"""From settings to what is asked: the corruption, the answer, and the trace of one fact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.answer_controls import FINAL, NEXT
from app.attention_cache import Answer, begin
from app.jobs import Job
from app.lens_lab.request import one_token
from app.tracing_lab.settings import NOISE, SEVERED_KINDS, Settings
from lens_core.model.errors import TokenError
from lens_core.tracing import (
    CausalTrace,
    Corruption,
    GaussianNoise,
    TokenReplacement,
    TraceKind,
    TracingError,
    causal_trace,
    default_window,
)

if TYPE_CHECKING:
    from lens_core import HookedModel

MAX_SAMPLES = 30


@dataclass(frozen=True)
class Asked:
    """What is traced.

    Attributes:
        answer, foil: tokens; None: what the model says, and no foil.
        notes: what could not be had, and what is shown instead.
    """

    model: HookedModel
    settings: Settings
    answer: int | None
    foil: int | None
    notes: tuple[str, ...]

    @property
    def window(self) -> int:
        """Layers restored together."""
        n_layers = self.model.cfg.n_layers
        wanted = self.settings.window
        return default_window(n_layers) if wanted is None else min(max(wanted, 1), n_layers)

    @property
    def kinds(self) -> tuple[TraceKind, ...]:
        """The maps that are drawn, in their order."""
        return kinds_of(self.settings)

    @property
    def kind(self) -> TraceKind:
        """The map of the chosen cell."""
        return next((kind for kind in self.kinds if kind == self.settings.kind), "state")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `causal_trace` beside prompt, subject and answers."""
        settings = self.settings
        return {
            "corruption": corruption_of(settings),
            "window": self.window,
            "direction": settings.direction,
            "metric": settings.metric,
        }


def kinds_of(settings: Settings) -> tuple[TraceKind, ...]:
    """The maps that settings ask for: states, the severed ones beside them, then windows."""
    severed = SEVERED_KINDS.get(settings.severed)
    return ("state", *((severed,) if severed else ()), "mlp", "attn")


def asked_of(model: HookedModel, settings: Settings) -> Asked:
    """Settle the answers; what cannot be had is replaced, and a note says so.

    Raises what `to_tokens` raises for the prompt.
    """
    notes: list[str] = []
    answer = None
    if settings.target not in (FINAL, NEXT):
        answer = _word(model, settings.target, "what the model says", notes)
    foil = None
    if settings.foil.strip() or settings.metric == "logit_difference":
        best = model.run(settings.prompt, last_logits_only=True)[0, -1].topk(2).indices.tolist()
        first = best[0] if answer is None else answer
        runner_up = next(i for i in best if i != first)
        named = settings.foil.strip()
        foil = _word(model, named, "the runner-up", notes) if named else None
        foil = runner_up if foil in (None, first) else foil
    return Asked(model, settings, answer, foil, tuple(notes))


def _word(model: HookedModel, word: str, instead: str, notes: list[str]) -> int | None:
    try:
        return one_token(model, word)
    except TokenError as error:
        notes.append(f"{error} Shown instead: {instead}.")
        return None


def corruption_of(settings: Settings) -> Corruption:
    """How the subject is corrupted.

    Raises:
        TracingError: the other subject is not there yet.
    """
    if settings.corruption == NOISE:
        samples = min(max(settings.samples, 1), MAX_SAMPLES)
        return GaussianNoise(settings.sigmas, samples=samples, seed=settings.seed)
    other = settings.other_subject.strip()
    if not other:
        raise TracingError("Type another subject of equally many tokens, such as one like it.")
    starts = settings.prompt.startswith(settings.subject)
    return TokenReplacement((other if starts else f" {other}",))


def trace_job(asked: Asked) -> Job[Answer[CausalTrace]]:
    """The three maps of one fact."""
    settings = asked.settings
    return begin(
        asked.model,
        causal_trace,
        prompt=settings.prompt,
        subject=settings.subject.strip(),
        answer=asked.answer,
        foil=asked.foil,
        kinds=asked.kinds,
        **asked.arguments,
    )


def place(asked: Asked, found: CausalTrace) -> tuple[int, int]:
    """The chosen layer and position; without a position the subject's last token."""
    n = len(found.tokens)
    at = asked.settings.at
    at = found.subject[1] if at is None else min(max(at + n if at < 0 else at, 0), n - 1)
    return min(max(asked.settings.layer, 0), asked.model.cfg.n_layers - 1), at
