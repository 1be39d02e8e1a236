"""Does locating a fact tell where to edit it? The layer sweep of both, and their correlation.

Hase et al. 2023, "Does Localization Inform Editing?" (arXiv 2301.04213): on GPT-J the choice of the
layer explains 0.947 of the variance of the rewrite score, the tracing effect 0.016, and both
together hardly more than the layer; at the edited layer the correlation is -0.13.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lens_core.bootstrap import Array, over_documents
from lens_core.editing.errors import EditingError
from lens_core.editing.evaluate.asking import Editing, ask
from lens_core.editing.evaluate.checkpoint import Checkpoint
from lens_core.editing.evaluate.record import EvaluationRecord, Question
from lens_core.editing.requests import EditRequest
from lens_core.lens.identity import weights_sha256
from lens_core.patching.engine import OnStep
from lens_core.tracing import causal_trace
from lens_core.tracing.result import TraceKind

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

MakeAt = Callable[["HookedModel", EditRequest, int], Editing]
SUCCESSES = ("rewrite", "paraphrase", "neighbourhood")
_NEIGHBOURS = 5


class Estimate(NamedTuple):
    """A statistic over facts with its 95% bootstrap interval; NaN where something never varies."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Locating:
    """Editing and tracing of the same facts at every layer.

    Attributes:
        kind: what tracing restored at the subject's last token; window: in how many layers.
        cases: the facts; layers: the layers.
        tracing: [fact, layer], the indirect effect on the old answer's probability.
        success: by name [fact, layer]. "rewrite": (p_after - p_before) / (1 - p_before) of the new
            answer at the edited prompt, as Hase et al. score it; "paraphrase": share of other
            wordings that prefer the new answer; "neighbourhood": share of neighbours that do not.
            NaN where a fact has no such question.
    """

    model_name: str
    method: str
    kind: TraceKind
    window: int
    cases: tuple[str, ...]
    layers: tuple[int, ...]
    tracing: Array
    success: Mapping[str, Array]

    def mean_success(self, name: str = "rewrite") -> list[Estimate]:
        """For each layer the mean over facts."""
        return [_mean(column) for column in self.success[name].T]

    def mean_tracing(self) -> list[Estimate]:
        """For each layer the mean over facts."""
        return [_mean(column) for column in self.tracing.T]

    def correlation(self, layer: int, name: str = "rewrite") -> Estimate:
        """Pearson's, over facts, at one layer: do edits work better where tracing is strong?"""
        at = self.layers.index(layer)
        return _correlation(self.tracing[:, [at]], self.success[name][:, [at]])

    def correlation_over_layers(self, name: str = "rewrite") -> Estimate:
        """Pearson's, over layers of the same fact, averaged over facts: does a fact's tracing pick
        its layer? The mean curves can agree where this does not."""
        x, y = self.tracing, self.success[name]

        def statistic(i: Array) -> float:
            each = [_pearson(x[n], y[n]) for n in i]
            known = [r for r in each if not np.isnan(r)]
            return float(np.mean(known)) if known else np.nan

        return Estimate(*map(float, over_documents(statistic, np.arange(len(x)))[:3]))

    def explained(self, name: str = "rewrite") -> dict[str, float]:
        """R2 of regressions of success: on the layer, on the tracing effect, and on both."""
        y = self.success[name].ravel()
        effect = self.tracing.ravel()
        layer = np.tile(np.eye(len(self.layers)), (len(self.cases), 1))
        kept = ~np.isnan(y)
        both = np.column_stack([layer, effect])
        alone = np.column_stack([np.ones_like(effect), effect])
        inputs = {"layer": layer, "tracing": alone, "both": both}
        return {key: _r2(x[kept], y[kept]) for key, x in inputs.items()}

    def to_frame(self) -> pd.DataFrame:
        """One line a fact and layer."""
        import pandas as pd

        fact, layer = (i.ravel() for i in np.indices(self.tracing.shape))
        columns: dict[str, Any] = {
            "case_id": [self.cases[i] for i in fact],
            "layer": [self.layers[i] for i in layer],
            "tracing": self.tracing.ravel(),
        }
        return pd.DataFrame(columns | {k: v.ravel() for k, v in self.success.items()})


def locating(
    model: HookedModel,
    make: MakeAt,
    records: Sequence[EvaluationRecord],
    *,
    method: str = "r-rome",
    layers: Sequence[int] | None = None,
    kind: TraceKind = "mlp",
    window: int | None = None,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
) -> Locating:
    """Trace every fact, and edit it at every layer.

    Args:
        make: from the model, a request and a layer to an edit.
        method: what ``make`` is called.
        layers: None: all.
        kind, window: of the tracing, as in `lens_core.tracing.causal_trace`.
        checkpoint: a file that is added to after each fact; the same call goes on from it.
        on_step: called with the facts done and all of them; what it raises ends the work.

    Raises:
        EditingError: a record does not name its old answer, or there are fewer than two.
        TracingError: as `causal_trace`.
    """
    if len(records) < 2 or not all(r.request.target_true.strip() for r in records):
        raise EditingError("Give two records or more, each with its old answer.")
    chosen = tuple(range(model.cfg.n_layers)) if layers is None else tuple(layers)
    work = {
        "locating": method,
        "weights_sha256": weights_sha256(model),
        "cases": [r.case_id for r in records],
        "layers": list(chosen),
        "kind": kind,
        "window": window,
    }
    log = Checkpoint(checkpoint, work)
    for record in records[len(log.pieces) :]:
        log.add(_one(model, make, record, chosen, kind, window))
        if on_step is not None:
            on_step(len(log.pieces), len(records))
    return Locating(
        model_name=model.cfg.name,
        method=method,
        kind=kind,
        window=log.pieces[0]["window"],
        cases=tuple(r.case_id for r in records),
        layers=chosen,
        tracing=np.array([p["tracing"] for p in log.pieces]),
        success={k: np.array([p[k] for p in log.pieces], dtype=float) for k in SUCCESSES},
    )


def _one(
    model: HookedModel,
    make: MakeAt,
    record: EvaluationRecord,
    layers: Sequence[int],
    kind: TraceKind,
    window: int | None,
) -> dict[str, Any]:
    """One fact traced, and edited at every layer."""
    request = record.request
    located = request.tokenize(model)
    traced = causal_trace(
        model,
        located.tokens,
        (located.subject_start, located.subject_end),
        int(located.true_ids[0]),
        kinds=(kind,),
        window=window,
    )
    effect = traced.indirect_effect(kind)[list(layers), located.subject_end]
    groups: list[tuple[str, Question]] = [("rewrite", record.edit_question)]
    groups += [("paraphrase", q) for q in record.questions.get("paraphrase", ())]
    groups += [("neighbourhood", q) for q in record.questions.get("neighbour", ())[:_NEIGHBOURS]]
    asked = [q for _, q in groups]
    before = ask(model, asked[:1])[0].p_answer
    out: dict[str, Any] = {"window": traced.windows[kind], "tracing": effect.tolist()}
    out |= {name: [] for name in SUCCESSES}
    for layer in layers:
        said = ask(model, asked, make(model, request, layer))
        out["rewrite"].append((said[0].p_answer - before) / max(1 - before, 1e-9))
        for name in SUCCESSES[1:]:
            hits = [s.prefers_answer for (g, _), s in zip(groups, said, strict=True) if g == name]
            out[name].append(sum(hits) / len(hits) if hits else None)
    return out


def _mean(values: Array) -> Estimate:
    found = over_documents(lambda i: _nanmean(values[i]), np.arange(len(values)))
    return Estimate(*map(float, found[:3]))


def _nanmean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def _correlation(x: Array, y: Array) -> Estimate:
    if np.isnan(_pearson(x.ravel(), y.ravel())):
        return Estimate(np.nan, np.nan, np.nan)
    found = over_documents(lambda i: _pearson(x[i].ravel(), y[i].ravel()), np.arange(len(x)))
    return Estimate(*map(float, found[:3]))


def _pearson(x: Array, y: Array) -> float:
    kept = ~(np.isnan(x) | np.isnan(y))
    x, y = x[kept], y[kept]
    if len(x) < 2 or np.ptp(x) < 1e-9 or np.ptp(y) < 1e-9:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _r2(x: Array, y: Array) -> float:
    spread = float(((y - y.mean()) ** 2).sum())
    if spread < 1e-12:
        return float("nan")
    rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - float((rest**2).sum()) / spread
