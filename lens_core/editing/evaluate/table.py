"""The results of several methods as a table for people and a file for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from lens_core.editing.evaluate.evaluation import Evaluation, Summary
from lens_core.editing.evaluate.metrics import METRICS, NOT_COMPARABLE

# Rows of the table: key, and how its number is written.
_ROWS: tuple[tuple[str, str], ...] = (
    ("s", "%"),
    *((key, "%") for key in METRICS),
    ("perplexity_median", "+%"),
    ("perplexity_worst", "+%"),
    ("disabling", "%"),
    ("kl_nats", "nats"),
    ("fluency_bits", "bits"),
    ("consistency", ""),
    ("change", "%"),
)


def markdown(evaluations: Sequence[Evaluation]) -> str:
    """One column a method, one row a score, intervals in brackets, the unedited model first."""
    if not evaluations:
        return ""
    found = [{s.key: s for s in e.summaries} for e in evaluations]
    titles = {key: s.title for table in found for key, s in table.items()}
    head = ["", "unedited", *(_heading(e) for e in evaluations)]
    lines = [head, ["---"] * len(head)]
    for key, unit in _ROWS:
        if key not in titles:
            continue
        first = next(table[key] for table in found if key in table)
        before = "" if math.isnan(first.before) else _number(first.before, unit)
        cells = [_cell(table.get(key), unit) for table in found]
        lines.append([titles[key], before, *cells])
    lines.append(["records", "", *(str(len(e.scores)) for e in evaluations)])
    lines.append(["edits that could not be made", "", *(str(len(e.failed)) for e in evaluations)])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{NOT_COMPARABLE}\n"


def _heading(evaluation: Evaluation) -> str:
    """The method, and how many facts an edit of it changed if more than one."""
    n = evaluation.batch
    return evaluation.title + (f", {n} facts an edit" if n > 1 else "")


def document(evaluations: Sequence[Evaluation], provenance: dict[str, Any]) -> str:
    """A page with the table, what each score means, and how the figures were made."""
    if not evaluations:
        return ""
    means = "\n".join(
        f"- **{m.title}**{f' ({m.symbol})' if m.symbol else ''}: {m.means}"
        for m in METRICS.values()
    )
    settings = "\n".join(
        f"- {_heading(e)}: "
        + (", ".join(f"`{k}` {v}" for k, v in e.settings.items()) or "no settings")
        for e in evaluations
    )
    return f"""# Editing methods on {evaluations[0].model_name}

Made by `{provenance["command"]}` on the records of the {provenance["split"]} split, on
{provenance["date"]}. The command goes on where it was stopped and writes this page again.

Shares are in percent, with 95% bootstrap intervals over the records in brackets. An edit of one
fact is made, scored and taken back; of a method with several facts an edit, each fact is scored
under the edit of its whole batch, and facts that the batch changes too are not asked about.
The facts are counterfactual, known to the unedited model, and asked about in wordings that training
never used for them; no subject of the test split is in the development split, on which settings
were chosen. Where a method holds the subject's other relations still, it does so on other wordings
than those asked about here. Where `names_weight` is above 0, the statistics of keys also weigh the
last tokens of the names of all subjects of the world, those of the test split included; they see
no answer.

{markdown(evaluations)}
## What is counted

{means}
- **S**: harmonic mean of ES, PS and NS, as published.
- Probabilities of answers of several tokens are means of log-probabilities, as published. "Free
  decoding" is greedy. "Kept" scores count the questions that the unedited model answers rightly.
- Perplexity and divergence are of held-out text that does not name the subject. An edit is
  disabling if it raises the perplexity by more than 10%. An edit in context is text before that
  text, which is all that its figures say.
- The last row compares Frobenius norms, in the layer that changed most.

## Settings

{settings}
"""


def _cell(summary: Summary | None, unit: str) -> str:
    if summary is None:
        return ""
    value = _number(summary.value, unit)
    if math.isnan(summary.low):
        return value
    return f"{value} [{_number(summary.low, unit)}, {_number(summary.high, unit)}]"


def _number(value: float, unit: str) -> str:
    if math.isnan(value):
        return "–"
    if unit == "+%":
        return f"{100 * value:+.2f}%" if abs(value) < 10 else f"x{1 + value:.0f}"
    if unit == "%":
        return f"{100 * value:.1f}"
    return f"{value:.4f}" if unit == "nats" else f"{value:.2f}"


def as_json(evaluation: Evaluation, provenance: dict[str, Any]) -> str:
    """Summaries, those of each relation, and every record's numbers."""
    frame = evaluation.records_frame()
    content = {
        "model": evaluation.model_name,
        "method": evaluation.method,
        "title": evaluation.title,
        "batch": evaluation.batch,
        "settings": {k: _plain(v) for k, v in evaluation.settings.items()},
        "n_records": len(evaluation.scores),
        "failed": [list(f) for f in evaluation.failed],
        "note": NOT_COMPARABLE,
        "provenance": provenance,
        "summaries": [{k: _plain(v) for k, v in s._asdict().items()} for s in evaluation.summaries],
        "records": [
            {k: _plain(v) for k, v in row.items() if not _is_nan(v)}
            for row in frame.to_dict("records")
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _plain(value: Any) -> Any:
    """What JSON has a word for; numbers to six digits, no number as null."""
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Iterable):
        return [_plain(v) for v in value]
    return str(value)
