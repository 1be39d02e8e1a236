"""One method on many records, one edit (or one batch) after another; can be gone on with."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_core.editing.errors import EditingError
from lens_core.editing.evaluate.asking import Editing, merged
from lens_core.editing.evaluate.checkpoint import Checkpoint
from lens_core.editing.evaluate.evaluation import Evaluation, Made
from lens_core.editing.evaluate.record import EvaluationRecord
from lens_core.editing.evaluate.scores import Baseline, FactKey, Scores, baseline, score
from lens_core.editing.evaluate.unrelated import UnrelatedText
from lens_core.editing.requests import EditRequest
from lens_core.interventions import Intervention
from lens_core.lens.identity import weights_sha256
from lens_core.patching.engine import OnStep
from lens_core.world.facts import RELATIONS, entangled

if TYPE_CHECKING:
    from lens_core import HookedModel

Make = Callable[["HookedModel", Sequence[EditRequest]], Editing]


@dataclass(frozen=True)
class Method:
    """A way to make edits.

    Attributes:
        name: its short name in files; title: what tables call it.
        make: from the unedited model and the requests to one edit.
        settings: what it was made with, as plain values: two evaluations with other settings are
            not one.
    """

    name: str
    title: str
    make: Make
    settings: Mapping[str, Any] = field(default_factory=dict)


def evaluate(
    model: HookedModel,
    method: Method,
    records: Sequence[EvaluationRecord],
    *,
    batch: int = 1,
    unrelated: UnrelatedText | None = None,
    generate: bool = False,
    baselines: MutableMapping[str, Baseline] | None = None,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
) -> Evaluation:
    """Edit, score, take the edit back, and so on through the records.

    Args:
        model: the unedited model, which stays so.
        batch: so many facts an edit; each record is then scored under the edit of its whole batch,
            without the questions about facts that the batch changes too.
        unrelated, generate: as in `score`.
        baselines: by case, filled as records come: give the same one to several methods, and the
            unedited model is asked once.
        checkpoint: a file that is added to after each batch; the same call goes on from it.
        on_step: called with the records done and all of them; what it raises ends the work.

    Raises:
        EditingError: two records are of one fact, or the checkpoint belongs to other work.

    An edit that cannot be made (`EditingError`) is listed in `Evaluation.failed` with its sentence.
    """
    if batch < 1:
        raise EditingError("A batch has one record or more.")
    _check_distinct(records)
    known = {} if baselines is None else baselines
    log = Checkpoint(checkpoint, _work(model, method, records, batch, unrelated, generate))
    groups = [tuple(records[i : i + batch]) for i in range(0, len(records), batch)]
    done = sum(len(groups[i]) for i in range(len(log.pieces)))
    for group in groups[len(log.pieces) :]:
        for record in group:
            if record.case_id not in known:
                known[record.case_id] = baseline(model, record, generate=generate)
        log.add(_piece(model, method, group, known, unrelated, generate))
        done += len(group)
        if on_step is not None:
            on_step(done, len(records))
    return _evaluation(model, method, batch, log.pieces)


def _piece(
    model: HookedModel,
    method: Method,
    group: Sequence[EvaluationRecord],
    known: Mapping[str, Baseline],
    unrelated: UnrelatedText | None,
    generate: bool,
) -> dict[str, Any]:
    """One edit with the scores of its records, as plain values."""
    started = time.perf_counter()
    try:
        edit = method.make(model, [r.request for r in group])
    except EditingError as error:
        return {"failed": [[r.case_id, str(error)] for r in group]}
    made = Made(
        time.perf_counter() - started, max(change_of(model, edit.terms).values(), default=0)
    )
    text = None if unrelated is None else unrelated.without(r.subject for r in group)
    scores: list[dict[str, Any]] = []
    for record in group:
        scores.append(
            score(
                model,
                edit,
                record,
                before=known[record.case_id],
                unrelated=None if scores else text,
                generate=generate,
                leave_out=_changed_by_others(record, group),
            ).to_json()
        )
    return {"made": asdict(made), "scores": scores}


def _evaluation(
    model: HookedModel, method: Method, batch: int, pieces: Iterable[Mapping[str, Any]]
) -> Evaluation:
    scores: list[Scores] = []
    made: list[Made] = []
    failed: list[tuple[str, str]] = []
    for piece in pieces:
        failed += [(str(case), str(why)) for case, why in piece.get("failed", ())]
        found = [Scores.from_json(s) for s in piece.get("scores", ())]
        scores += found
        made += [Made(**piece["made"])] * len(found) if found else []
    return Evaluation(
        model.cfg.name,
        method.name,
        method.title,
        method.settings,
        batch,
        tuple(scores),
        tuple(made),
        tuple(failed),
    )


def _check_distinct(records: Sequence[EvaluationRecord]) -> None:
    if not records:
        raise EditingError("There is no record to evaluate.")
    seen: set[tuple[str, str]] = set()
    for r in records:
        key = (r.subject, r.request.relation or r.request.template)
        if key in seen:
            raise EditingError(f"Two records change one fact: {r.request}; keep one of them.")
        seen.add(key)


def _changed_by_others(
    record: EvaluationRecord, group: Collection[EvaluationRecord]
) -> set[FactKey]:
    """Facts that the other edits of a batch change, or that follow from those."""
    out: set[FactKey] = set()
    for other in group:
        if other.case_id == record.case_id:
            continue
        relation = other.request.relation
        out.add((other.subject, relation))
        out |= {(other.subject, r) for r in RELATIONS if entangled(r, relation)}
        out |= {(q.subject, q.relation) for q in other.questions.get("two-hop", ())}
    return out


def change_of(model: HookedModel, terms: Iterable[Intervention]) -> dict[int, float]:
    """||dW|| / ||W|| of each layer whose W_out the terms change, Frobenius norms."""
    out: dict[int, float] = {}
    for term in merged(terms):
        if term.op == "low_rank" and term.site == "mlp_out" and term.layer is not None:
            left, right = (term.tensors[k].double() for k in ("left", "right"))
            squared = float(((left.T @ left) * (right @ right.T)).sum().clamp(min=0))
            norm = float(model.W_out[term.layer].double().norm())
            out[term.layer] = squared**0.5 / norm
    return out


def _work(
    model: HookedModel,
    method: Method,
    records: Sequence[EvaluationRecord],
    batch: int,
    unrelated: UnrelatedText | None,
    generate: bool,
) -> dict[str, Any]:
    """What makes two evaluations the same one."""
    text = json.dumps([r.to_json() for r in records], sort_keys=True)
    return {
        "version": 1,
        "weights_sha256": weights_sha256(model),
        "method": method.name,
        "settings": {k: repr(v) for k, v in method.settings.items()},
        "records_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "batch": batch,
        "text_rows": 0 if unrelated is None else len(unrelated),
        "generate": generate,
    }
