"""The experiment: the same facts written by each method, more and more of them, scored each time.

What was measured is kept when the visitor cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from app.jobs import CancelledError
from lens_core.editing import Edit, EditRequest, EditTrace
from lens_core.editing.evaluate import (
    METRICS,
    EvaluationRecord,
    Method,
    Scaling,
    ScalingPoint,
    Sizes,
    UnrelatedText,
    merged,
    records,
    scaling,
)
from lens_core.model.errors import LensError

if TYPE_CHECKING:
    from lens_core import HookedModel

OnStep = Callable[[int, int], None]
# One method: writes these facts into a model, which may hold earlier edits, and tells its steps.
Write = Callable[["HookedModel", Sequence[EditRequest], OnStep], Edit]
SEQUENTIAL = ("r-rome", "original")
UNEDITED = "unedited"
N_UNTOUCHED = 40
NO_QUESTIONS = Sizes(0, 0, 0, 0, 0, 0, 0, 0)
_LADDER = (1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 1000)


@dataclass(frozen=True)
class Score:
    """One score of many edits: its title, what counts as a hit, and whether it is a share."""

    title: str
    means: str
    share: bool = True


SCORES: Mapping[str, Score] = {
    "latest": Score(
        "The newest edits",
        f"{METRICS['efficacy'].means} Of those that were written since the count before; written "
        "at once, all are new.",
    ),
    "earlier": Score(
        "Earlier edits",
        "The same, of those that were there at the count before. There are none where all are "
        "written at once.",
    ),
    "paraphrase": Score("In other words", f"{METRICS['paraphrase'].means} Of all edits so far."),
    "neighbourhood": Score("Neighbours", METRICS["neighbourhood"].means),
    "untouched": Score(
        "Untouched facts",
        "Facts about other subjects that the model answered rightly in its own words, and still "
        "does.",
    ),
    "perplexity_ratio": Score(
        "Ordinary text", "Perplexity of held-out text, in multiples of the unedited model's.", False
    ),
}


@dataclass(frozen=True, eq=False)
class Curves:
    """What was measured.

    Attributes:
        width: keys that a layer tells apart (d_mlp).
        unedited: the scores without any edit, on all the facts.
        found: the points of every method.
        edits: by method, all edits of its last count as one.
        stopped: why it ended before all was measured; "" if it did not.
    """

    facts: tuple[EvaluationRecord, ...]
    width: int
    unedited: ScalingPoint | None = None
    found: Scaling = field(default_factory=lambda: Scaling("", (), {}))
    edits: Mapping[str, Edit] = field(default_factory=dict)
    stopped: str = ""

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that have a point."""
        return tuple(dict.fromkeys(point.method for point in self.found.points))


def ladder(n: int) -> tuple[int, ...]:
    """The counts at which scores are taken.

    >>> ladder(30)
    (1, 2, 5, 10, 20, 30)
    """
    return tuple(dict.fromkeys([*(c for c in _LADDER if c < n), n]))


def measure(
    model: HookedModel,
    facts: Sequence[EvaluationRecord],
    methods: Mapping[str, Write],
    *,
    seed: int = 0,
    on_step: OnStep = lambda done, total: None,
    on_curves: Callable[[Curves], None] = lambda curves: None,
) -> Curves:
    """Write the facts by each method and score after each count.

    Args:
        on_step: called with work done and all of it; CancelledError from it ends the work, and what
            was measured is returned.
        on_curves: called with what was measured so far, after each count.
    """
    run = _Run(model, tuple(facts), methods, on_step, on_curves)
    text, untouched = UnrelatedText.of(model), _untouched(model, seed)
    counts = ladder(len(facts))
    try:
        run.step(0)
        nothing = scaling(
            model, [(_no_edit(), True)], facts, counts[-1:], untouched=untouched, unrelated=text
        )
        run.curves = replace(run.curves, unedited=nothing.points[0])
        found = scaling(
            model,
            [(run.method(name), name not in SEQUENTIAL) for name in methods],
            facts,
            counts,
            untouched=untouched,
            unrelated=text,
            on_point=run.keep,
        )
        failed = " ".join(f"{name}: {why}" for name, why in found.failed.items())
        return replace(run.curves, found=found, stopped=failed)
    except CancelledError:
        n = len(run.curves.found.points)
        return replace(run.curves, stopped=f"Cancelled. The {n} points measured so far are kept.")


class _Run:
    """Counts the work and keeps what was made, while `scaling` is at it."""

    def __init__(
        self,
        model: HookedModel,
        facts: tuple[EvaluationRecord, ...],
        methods: Mapping[str, Write],
        on_step: OnStep,
        on_curves: Callable[[Curves], None],
    ) -> None:
        self.model, self.methods, self.on_step, self.on_curves = model, methods, on_step, on_curves
        self.curves = Curves(facts, int(model.W_out[0].shape[0]))
        n, counts = len(facts), ladder(len(facts))
        self.total = sum(n if name in SEQUENTIAL else sum(counts) for name in methods)
        self.done = 0
        self.made: dict[str, list[Edit]] = {}

    def step(self, more: float) -> None:
        """Tell how far it is."""
        self.on_step(int(self.done + more), self.total)

    def method(self, name: str) -> Method:
        """The method, as `scaling` takes it."""

        def make(view: HookedModel, requests: Sequence[EditRequest]) -> Edit:
            n = len(requests)
            edit = self.methods[name](view, requests, lambda i, of: self.step(n * i / max(of, 1)))
            self.done += n
            self.step(0)
            so_far = self.made.get(name, []) if name in SEQUENTIAL else []
            self.made[name] = [*so_far, edit]
            return edit

        return Method(name, name, make)

    def keep(self, point: ScalingPoint) -> None:
        """A point is there, and with it the edits that made it."""
        curves = self.curves
        self.curves = replace(
            curves,
            found=replace(curves.found, points=(*curves.found.points, point)),
            edits={**curves.edits, point.method: together(self.made[point.method])},
        )
        self.on_curves(self.curves)


@dataclass(frozen=True)
class _Nothing:
    """No edit at all."""

    terms: tuple[Any, ...] = ()
    prefix: str = ""


def _no_edit() -> Method:
    return Method(UNEDITED, UNEDITED, lambda model, requests: _Nothing())


def together(edits: Sequence[Edit]) -> Edit:
    """Edits that were made one after another, as one."""
    if len(edits) == 1:
        return edits[0]
    return replace(
        edits[0],
        requests=tuple(r for edit in edits for r in edit.requests),
        layers=tuple(sorted({layer for edit in edits for layer in edit.layers})),
        terms=merged([term for edit in edits for term in edit.terms]),
        trace=EditTrace(),
        name="",
    )


def _untouched(model: HookedModel, seed: int) -> Sequence[EvaluationRecord]:
    """Facts of subjects that the page never edits."""
    try:
        return records(model, N_UNTOUCHED, seed, "development", sizes=NO_QUESTIONS)
    except LensError:
        return ()
