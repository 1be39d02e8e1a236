"""The scores of an edit: what each counts, and on which questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lens_core.editing.evaluate.asking import Said
from lens_core.editing.evaluate.record import Group, Question, harmonic_mean

How = Literal["preferred", "exact", "kept"]
NOT_COMPARABLE = (
    "S is not comparable with the papers': the unedited model starts elsewhere (it answers nearly "
    "every question about a neighbour rightly and almost never prefers the new answer, where "
    "GPT-2 XL scores 78% and 22%)."
)


@dataclass(frozen=True)
class Metric:
    """One score.

    Attributes:
        key, title: its name in tables and on pages; symbol: the papers', "" where they have none.
        group: the questions that it counts.
        how: "preferred": the answer is likelier than its rival. "exact": free decoding begins with
            the answer. "kept": the same, of those questions that were answered rightly before.
        means: what a hit is, in a sentence.
    """

    key: str
    title: str
    group: Group
    how: How
    means: str
    symbol: str = ""

    def hit(self, said: Said) -> bool:
        """Whether an answer counts."""
        return said.prefers_answer if self.how == "preferred" else said.exact


METRICS: dict[str, Metric] = {
    m.key: m
    for m in (
        Metric(
            "efficacy",
            "Efficacy",
            "edit",
            "preferred",
            "The new answer is likelier than the old one at the edited prompt.",
            "ES",
        ),
        Metric(
            "efficacy_exact",
            "Efficacy, free decoding",
            "edit",
            "exact",
            "Left to itself, the model gives the new answer at the edited prompt.",
        ),
        Metric(
            "paraphrase",
            "Paraphrases",
            "paraphrase",
            "preferred",
            "The new answer is likelier than the old one in other wordings.",
            "PS",
        ),
        Metric(
            "paraphrase_exact",
            "Paraphrases, free decoding",
            "paraphrase",
            "exact",
            "Left to itself, the model gives the new answer in other wordings.",
        ),
        Metric(
            "neighbourhood",
            "Neighbours",
            "neighbour",
            "preferred",
            "For other subjects with the same old answer, it is still likelier than the new one.",
            "NS",
        ),
        Metric(
            "neighbourhood_exact",
            "Neighbours, free decoding",
            "neighbour",
            "kept",
            "Neighbours that the model answered rightly are still answered rightly.",
        ),
        Metric(
            "neighbourhood_plus",
            "Neighbours, the edit said before",
            "neighbour after the edit",
            "preferred",
            "The same with the edit's sentence put before the question.",
            "NS+",
        ),
        Metric(
            "neighbourhood_plus_exact",
            "Neighbours, the edit said before, free decoding",
            "neighbour after the edit",
            "exact",
            "The same, left to itself.",
        ),
        Metric(
            "other_subjects",
            "Other subjects",
            "other subject",
            "kept",
            "Subjects with neither answer that were answered rightly still are.",
        ),
        Metric(
            "near",
            "Near subjects",
            "near",
            "kept",
            "Subjects that share a token of the name, answered rightly before, still are.",
        ),
        Metric(
            "same_subject",
            "Same subject's other relations",
            "same subject",
            "kept",
            "What else the model rightly said of the subject, it still says.",
        ),
        Metric(
            "two_hop",
            "Two hops",
            "two-hop",
            "preferred",
            "What follows from the edit is likelier than what followed before.",
        ),
        Metric(
            "two_hop_exact",
            "Two hops, free decoding",
            "two-hop",
            "exact",
            "Left to itself, the model says what follows from the edit.",
        ),
        Metric(
            "reversed",
            "Reversed",
            "reversed",
            "preferred",
            "The subject is likelier after the new answer than after the old one (expected to "
            "fail: an edit has a direction).",
        ),
        Metric(
            "reversed_exact",
            "Reversed, free decoding",
            "reversed",
            "exact",
            "Left to itself, the model names the subject after the new answer.",
        ),
    )
}
OF_S = ("efficacy", "paraphrase", "neighbourhood")


@dataclass(frozen=True)
class Reply:
    """A question with both models' answers."""

    group: Group
    question: Question
    before: Said
    after: Said


@dataclass(frozen=True)
class Rate:
    """A share of hits with the answers behind it.

    ``before`` is the unedited model's share of all questions; ``after`` is NaN where no question
    counts. Of a "kept" metric only the questions answered rightly before count.
    """

    metric: Metric
    before: float
    after: float
    replies: tuple[Reply, ...]

    @property
    def counted(self) -> tuple[Reply, ...]:
        """The answers that ``after`` is a share of."""
        return tuple(r for r in self.replies if counts(self.metric, r))

    @property
    def n(self) -> int:
        """How many questions count."""
        return len(self.counted)


def counts(metric: Metric, reply: Reply) -> bool:
    """Whether a metric counts this answer."""
    if reply.group != metric.group:
        return False
    if metric.how == "preferred":
        return bool(reply.question.rival)
    return metric.how == "exact" or reply.before.exact


def rate(replies: Sequence[Reply], metric: Metric) -> Rate:
    """One metric over some answers."""
    asked = tuple(r for r in replies if r.group == metric.group)
    counted = [r for r in asked if counts(metric, r)]
    return Rate(
        metric,
        _share([metric.hit(r.before) for r in asked]),
        _share([metric.hit(r.after) for r in counted]),
        asked,
    )


def magnitude(replies: Sequence[Reply], group: Group, *, after: bool = True) -> float:
    """Mean of P(answer) - P(rival): the published EM, PM and NM, as a probability."""
    said = [r.after if after else r.before for r in replies if r.group == group]
    gaps = [s.p_answer - s.p_rival for s in said if not math.isnan(s.p_rival)]
    return sum(gaps) / len(gaps) if gaps else math.nan


def published_s(values: dict[str, float]) -> float:
    """S: the harmonic mean of efficacy, paraphrase and neighbourhood score."""
    return harmonic_mean(tuple(values[key] for key in OF_S))


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else math.nan
