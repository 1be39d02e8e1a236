"""How many facts can be edited before the model breaks? Scores against the number of edits.

Meng et al. 2023 (MEMIT, figure 5) add facts at once; Gupta et al. 2024 (arXiv 2401.07453) one after
another, and see gradual forgetting, then an abrupt collapse.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lens_core.bootstrap import over_documents
from lens_core.editing.edit import Edit
from lens_core.editing.errors import EditingError
from lens_core.editing.evaluate.asking import Editing, ask
from lens_core.editing.evaluate.checkpoint import Checkpoint
from lens_core.editing.evaluate.over_records import Method, change_of
from lens_core.editing.evaluate.record import EvaluationRecord, Question, harmonic_mean
from lens_core.editing.evaluate.unrelated import UnrelatedText, unrelated_effect
from lens_core.lens.identity import weights_sha256
from lens_core.patching.engine import OnStep
from lens_core.world.facts import RELATIONS, entangled

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

# The model has collapsed where one of these holds.
COLLAPSE_PERPLEXITY = 2.0  # times the unedited model's
COLLAPSE_UNTOUCHED = 0.5  # of the untouched facts that it knew
_PARAPHRASES = 2
_NEIGHBOURS = 3
_MOST_ASKED = 150


@dataclass(frozen=True)
class ScalingPoint:
    """One method after some number of edits. Shares are from 0 to 1.

    Attributes:
        load: edits over the width of the keys, u / D: what to compare models by.
        latest, latest_exact: success of the edits made last (all of them for a method that makes
            them at once): the new answer is preferred, is decoded freely.
        earlier, earlier_exact: of all edits made before those; NaN where there are none.
        paraphrase, neighbourhood, s: as published, over all edits made so far (at most 150 of
            them, drawn once); neighbours that are edited themselves are not asked.
        untouched: facts that no edit touches and that the unedited model knew, still decoded right.
        low, high: 95% intervals of the shares, by name, bootstrap over records.
        perplexity_ratio, kl_nats: on ordinary text.
        change: ||dW|| / ||W|| of the layer that changed most.
        seconds: that all edits so far took to make.
    """

    method: str
    n: int
    load: float
    latest: float
    latest_exact: float
    earlier: float
    earlier_exact: float
    paraphrase: float
    neighbourhood: float
    s: float
    untouched: float
    low: Mapping[str, float]
    high: Mapping[str, float]
    perplexity_ratio: float
    kl_nats: float
    change: float
    seconds: float

    @property
    def collapsed(self) -> bool:
        """Perplexity twice the unedited model's, or half of the untouched facts lost."""
        alive = self.perplexity_ratio < COLLAPSE_PERPLEXITY and self.untouched > COLLAPSE_UNTOUCHED
        return not alive


@dataclass(frozen=True)
class Scaling:
    """Curves of several methods; ``collapse`` gives each one's collapse point."""

    model_name: str
    points: tuple[ScalingPoint, ...]
    failed: Mapping[str, str]

    def of(self, method: str) -> tuple[ScalingPoint, ...]:
        """One method's points, by the number of edits."""
        return tuple(sorted((p for p in self.points if p.method == method), key=lambda p: p.n))

    def collapse(self, method: str) -> int | None:
        """The first measured number of edits at which the method has broken the model.

        None if it never did. Between two measured numbers the collapse is at the later one.
        """
        return next((p.n for p in self.of(method) if p.collapsed), None)

    def to_frame(self) -> pd.DataFrame:
        """One line a method and number of edits."""
        import pandas as pd

        rows = []
        for p in self.points:
            row = {k: v for k, v in asdict(p).items() if k not in ("low", "high")}
            row |= {f"{k}_low": v for k, v in p.low.items()}
            row |= {f"{k}_high": v for k, v in p.high.items()}
            rows.append(row | {"collapsed": p.collapsed})
        return pd.DataFrame(rows)


def scaling(
    model: HookedModel,
    methods: Sequence[tuple[Method, bool]],
    records: Sequence[EvaluationRecord],
    counts: Sequence[int],
    *,
    untouched: Sequence[EvaluationRecord] = (),
    unrelated: UnrelatedText | None = None,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    on_point: Callable[[ScalingPoint], None] | None = None,
) -> Scaling:
    """Edit more and more facts by several methods, and score the model at some numbers of edits.

    Args:
        methods: each with whether it makes all edits at once (anew from the unedited model at every
            count) or goes on from the model as edited so far.
        records: facts in the order in which they are edited; as many as the largest count.
        counts: numbers of edits to score at.
        untouched: records whose facts are never edited, to ask what is left of the rest.
        unrelated: ordinary text for the perplexity; None: the default of `UnrelatedText.of`.
        checkpoint: a file that is added to after each point; the same call goes on from it (a
            method that goes on from its own edits begins anew if it was stopped half way).
        on_step: called with the points done and all of them.
        on_point: called with each new point, before ``on_step``; what either raises ends the work.

    A method that cannot make an edit ends there; `Scaling.failed` says why.

    Raises:
        EditingError: more edits are asked for than there are records.
    """
    wanted = sorted(set(counts))
    if not wanted or wanted[0] < 1 or wanted[-1] > len(records):
        raise EditingError(
            f"Ask for 1 to {len(records)} edits, which is how many records there are."
        )
    text = (unrelated or UnrelatedText.of(model)).without(r.subject for r in records)
    questions = _Questions(model, records, untouched)
    log = Checkpoint(checkpoint, _work(model, methods, records, wanted))
    points = [ScalingPoint(**piece) for piece in log.pieces]
    failed: dict[str, str] = {}
    for number, (method, at_once) in enumerate(methods):
        if {p.n for p in points if p.method == method.name} >= set(wanted):
            continue
        curve = _Curve(model, method, at_once, questions, text)
        for place, n in enumerate(wanted):
            try:
                point = curve.point(n)
            except EditingError as error:
                failed[method.name] = str(error)
                break
            if not any((p.method, p.n) == (method.name, n) for p in points):
                points.append(point)
                log.add(asdict(point))
                if on_point is not None:
                    on_point(point)
            if on_step is not None:
                on_step(number * len(wanted) + place + 1, len(methods) * len(wanted))
    return Scaling(model.cfg.name, tuple(points), failed)


class _Questions:
    """What is asked at every point, with the unedited model's answers to the untouched facts."""

    def __init__(
        self,
        model: HookedModel,
        records: Sequence[EvaluationRecord],
        untouched: Sequence[EvaluationRecord],
    ) -> None:
        self.records = tuple(records)
        changed = set()
        for r in records:
            relation = r.request.relation
            changed |= {
                (r.subject, x) for x in RELATIONS if x == relation or entangled(x, relation)
            }
            changed |= {(q.subject, q.relation) for q in r.questions.get("two-hop", ())}
        self.changed = changed
        rest = []
        for r in untouched:
            q = r.edit_question
            if q.rival and (r.subject, r.request.relation) not in changed:
                rest.append(q._replace(answer=q.rival, rival=""))
        told = ask(model, rest)
        self.untouched = [q for q, said in zip(rest, told, strict=True) if said.exact]

    def neighbours(self, record: EvaluationRecord) -> list[Question]:
        """Those of its neighbours that no edit touches."""
        asked = record.questions.get("neighbour", ())
        return [q for q in asked if (q.subject, q.relation) not in self.changed][:_NEIGHBOURS]


class _Curve:
    """One method, gone on with from count to count."""

    def __init__(
        self,
        model: HookedModel,
        method: Method,
        at_once: bool,
        questions: _Questions,
        text: UnrelatedText,
    ) -> None:
        self.model, self.method, self.at_once = model, method, at_once
        self.questions, self.text = questions, text
        self.edits: list[Editing] = []
        self.n, self.seconds = 0, 0.0

    def point(self, n: int) -> ScalingPoint:
        """Make the edits up to the n-th, and score them all."""
        records = self.questions.records
        started = time.perf_counter()
        if self.at_once:
            self.edits = [self.method.make(self.model, [r.request for r in records[:n]])]
            before = 0
        else:
            before = self.n
            self.edits.append(
                self.method.make(self._view(), [r.request for r in records[before:n]])
            )
        self.n, self.seconds = n, self.seconds + time.perf_counter() - started
        return self._scored(records[:before], records[before:n])

    def _view(self) -> HookedModel:
        """The model as edited so far; it knows its edits, whose keys AlphaEdit leaves alone."""
        held: list[Any] = []
        for edit in self.edits:
            held += [edit] if isinstance(edit, Edit) and edit.terms else edit.terms
        return self.model.edited(held) if held else self.model

    def _scored(
        self, earlier: Sequence[EvaluationRecord], latest: Sequence[EvaluationRecord]
    ) -> ScalingPoint:
        early, late = _some(earlier), _some(latest)
        asked = [*early, *late]
        edits = ask(self.model, [r.edit_question for r in asked], self.edits)
        old, new = edits[: len(early)], edits[len(early) :]
        paraphrases = self._shares(
            [list(r.questions.get("paraphrase", ()))[:_PARAPHRASES] for r in asked]
        )
        neighbours = self._shares([self.questions.neighbours(r) for r in asked])
        left = ask(self.model, self.questions.untouched, self.edits)
        shares: dict[str, Sequence[float]] = {
            "latest": [s.prefers_answer for s in new],
            "latest_exact": [s.exact for s in new],
            "earlier": [s.prefers_answer for s in old],
            "earlier_exact": [s.exact for s in old],
            "paraphrase": paraphrases,
            "neighbourhood": neighbours,
            "untouched": [s.exact for s in left],
        }
        found = {name: _interval(values) for name, values in shares.items()}
        efficacy = _interval([s.prefers_answer for s in edits])[0]
        effect = unrelated_effect(self.model, self.edits, self.text)
        terms = [term for edit in self.edits for term in edit.terms]
        return ScalingPoint(
            method=self.method.name,
            n=self.n,
            load=self.n / self.model.W_out[0].shape[0],
            s=harmonic_mean((efficacy, found["paraphrase"][0], found["neighbourhood"][0])),
            low={name: f[1] for name, f in found.items()},
            high={name: f[2] for name, f in found.items()},
            perplexity_ratio=effect.ratio,
            kl_nats=effect.kl_nats,
            change=max(change_of(self.model, terms).values(), default=0.0),
            seconds=self.seconds,
            **{name: f[0] for name, f in found.items()},
        )

    def _shares(self, groups: Sequence[Sequence[Question]]) -> list[float]:
        """For each record the share of its questions whose answer is preferred."""
        said = iter(ask(self.model, [q for group in groups for q in group], self.edits))
        return [_mean([next(said).prefers_answer for _ in group]) for group in groups if group]


def _some(records: Sequence[EvaluationRecord]) -> list[EvaluationRecord]:
    """All of them, or as many as are asked at most, evenly spread."""
    step = max(1, math.ceil(len(records) / _MOST_ASKED))
    return list(records[::step])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    if not values:
        return math.nan, math.nan, math.nan
    x = np.array(values, dtype=float)
    found = over_documents(lambda i: x[i].mean(), np.arange(len(x)))
    return float(found.value), float(found.low), float(found.high)


def _work(
    model: HookedModel,
    methods: Sequence[tuple[Method, bool]],
    records: Sequence[EvaluationRecord],
    counts: Sequence[int],
) -> dict[str, Any]:
    return {
        "version": 1,
        "scaling": [m.name for m, _ in methods],
        "settings": {m.name: {k: repr(v) for k, v in m.settings.items()} for m, _ in methods},
        "weights_sha256": weights_sha256(model),
        "cases": [r.case_id for r in records],
        "counts": list(counts),
    }
