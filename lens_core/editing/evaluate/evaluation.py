"""Many edits of one method, scored: means with intervals over the records."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lens_core.bootstrap import Array, over_documents
from lens_core.editing.evaluate.metrics import METRICS, OF_S, counts, published_s
from lens_core.editing.evaluate.scores import Scores
from lens_core.editing.evaluate.unrelated import DISABLING

if TYPE_CHECKING:
    import pandas as pd

_RESAMPLES = 1000
# What is a number of each record rather than a share of its questions.
_NUMBERS = {
    "efficacy_magnitude": "P(new) - P(old) at the edited prompt",
    "paraphrase_magnitude": "P(new) - P(old) in other wordings",
    "neighbourhood_magnitude": "P(true) - P(new) for neighbours",
    "fluency_bits": "fluency",
    "consistency": "consistency",
    "kl_nats": "divergence on unrelated text",
}


class Summary(NamedTuple):
    """A score over all records with its 95% bootstrap interval over them.

    ``before`` is the unedited model's; NaN where there is none. ``n`` is the number of records that
    count.
    """

    key: str
    title: str
    value: float
    low: float
    high: float
    before: float
    n: int
    unit: str


@dataclass(frozen=True)
class Made:
    """What is known of one edit apart from its scores.

    Attributes:
        seconds: that it took to make.
        change: ||dW|| / ||W|| of the layer that it changed most; 0 without a change.
    """

    seconds: float
    change: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One method over many records.

    Attributes:
        method, title, settings: how the edits were made; batch: how many facts an edit changed.
        scores: of each record, in order; made: of each record, its edit.
        failed: records whose edit could not be made, with the sentence that says why.
    """

    model_name: str
    method: str
    title: str
    settings: Mapping[str, Any]
    batch: int
    scores: tuple[Scores, ...]
    made: tuple[Made, ...]
    failed: tuple[tuple[str, str], ...] = ()

    @property
    def summaries(self) -> tuple[Summary, ...]:
        """S, every metric, numbers and perplexity; what no record has is left out."""
        table = _Table(self.scores)
        found = [table.s(), *(table.share(key) for key in METRICS)]
        found += [table.number(key, title) for key, title in _NUMBERS.items()]
        found += table.perplexity()
        found.append(
            table.mean(
                "change", "size of the change over the weight's", [m.change for m in self.made], ""
            )
        )
        found.append(table.mean("seconds", "seconds an edit", [m.seconds for m in self.made], "s"))
        return tuple(s for s in found if s is not None)

    def summary(self, key: str) -> Summary:
        """One of `summaries`.

        Raises:
            KeyError: there is none of this name.
        """
        return next((s for s in self.summaries if s.key == key), None) or _missing(key)

    def to_frame(self) -> pd.DataFrame:
        """One line a score."""
        import pandas as pd

        rows = [{"method": self.method, "batch": self.batch, **s._asdict()} for s in self.summaries]
        return pd.DataFrame(rows)

    def records_frame(self) -> pd.DataFrame:
        """One line a record with all its numbers."""
        import pandas as pd

        rows = [
            {
                "case_id": s.record.case_id,
                "relation": s.record.request.relation,
                "subject": s.record.subject,
                "target_new": s.record.request.target_new,
                **s.values(),
                "change": m.change,
                "seconds": m.seconds,
            }
            for s, m in zip(self.scores, self.made, strict=True)
        ]
        return pd.DataFrame(rows)


def _missing(key: str) -> Summary:
    raise KeyError(key)


class _Table:
    """The records' numbers as arrays, and statistics of them over resampled records."""

    def __init__(self, scores: tuple[Scores, ...]) -> None:
        self.scores = scores
        self.values = [s.values() for s in scores]
        self.hits = {key: self._hits(key) for key in METRICS}

    def _hits(self, key: str) -> tuple[Array, Array, Array]:
        """Hits after, questions that count, and hits before of all questions; one a record each."""
        metric = METRICS[key]
        rows = []
        for s in self.scores:
            asked = [r for r in s.replies if r.group == metric.group]
            counted = [r for r in asked if counts(metric, r)]
            before = sum(metric.hit(r.before) for r in asked) / len(asked) if asked else math.nan
            rows.append((sum(metric.hit(r.after) for r in counted), len(counted), before))
        hits, n, before_shares = np.array(rows, dtype=float).reshape(-1, 3).T
        return hits, n, before_shares

    def _interval(
        self, key: str, title: str, statistic: Callable[[Array], float], before: float, n: int
    ) -> Summary:
        found = over_documents(statistic, np.arange(len(self.scores)), n_resamples=_RESAMPLES)
        value, low, high = float(found.value), float(found.low), float(found.high)
        return Summary(key, title, value, low, high, before, n, "share")

    def _share_of(self, key: str) -> Callable[[Array], float]:
        """Of records with equal weight, as published; "kept" ones over all questions together."""
        hits, n, _ = self.hits[key]

        def pooled(i: Array) -> float:
            return float(hits[i].sum() / max(n[i].sum(), 1))

        def of_records(i: Array) -> float:
            kept = i[n[i] > 0]
            return float((hits[kept] / n[kept]).mean()) if len(kept) else math.nan

        return pooled if METRICS[key].how == "kept" else of_records

    def share(self, key: str) -> Summary | None:
        _, n, before = self.hits[key]
        if not n.any():
            return None
        return self._interval(
            key,
            METRICS[key].title,
            self._share_of(key),
            float(np.nanmean(before)),
            int((n > 0).sum()),
        )

    def s(self) -> Summary | None:
        if not all(self.hits[key][1].any() for key in OF_S):
            return None
        of = {key: self._share_of(key) for key in OF_S}

        def statistic(i: Array) -> float:
            return published_s({key: f(i) for key, f in of.items()})

        before = published_s({key: float(np.nanmean(self.hits[key][2])) for key in OF_S})
        return self._interval("s", "S", statistic, before, len(self.scores))

    def number(self, key: str, title: str) -> Summary | None:
        if key not in (self.values[0] if self.values else {}):
            return None
        before = [v.get(f"{key}_before", math.nan) for v in self.values]
        unit = {"fluency_bits": "bits", "kl_nats": "nats"}.get(key, "")
        known = [b for b in before if not math.isnan(b)]
        values = [v.get(key, math.nan) for v in self.values]
        return self.mean(key, title, values, unit, _mean(known))

    def mean(
        self, key: str, title: str, values: list[float], unit: str, before: float = math.nan
    ) -> Summary | None:
        x = np.array(values)
        present = ~np.isnan(x)
        if not present.any():
            return None
        found = self._interval(
            key, title, lambda i: _mean(x[i][present[i]]), before, int(present.sum())
        )
        return found._replace(unit=unit)

    def perplexity(self) -> list[Summary | None]:
        """Median and worst change of the corpus perplexity, and the share of disabling edits."""
        ratios = np.array([v.get("perplexity_ratio", math.nan) for v in self.values])
        known = ~np.isnan(ratios)
        if not known.any():
            return []
        change = ratios - 1
        n = int(known.sum())
        median = self._interval(
            "perplexity_median",
            "corpus perplexity, median change",
            lambda i: _median(change[i]),
            0.0,
            n,
        )
        worst = float(np.nanmax(change))
        disabled = self._interval(
            "disabling",
            "disabling edits (perplexity above +10%)",
            lambda i: _mean(~(ratios[i][known[i]] <= DISABLING)),
            0.0,
            n,
        )
        top = Summary(
            "perplexity_worst",
            "corpus perplexity, worst change",
            worst,
            math.nan,
            math.nan,
            0.0,
            n,
            "share",
        )
        return [median, top, disabled]


def _median(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else math.nan


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else math.nan
