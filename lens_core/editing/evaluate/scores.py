"""Every score of one edit, with the questions behind each and both models' answers."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from lens_core.editing.evaluate.asking import AnyEdit, Said, ask
from lens_core.editing.evaluate.free_text import FreeText, free_text
from lens_core.editing.evaluate.metrics import (
    METRICS,
    OF_S,
    Rate,
    Reply,
    magnitude,
    published_s,
    rate,
)
from lens_core.editing.evaluate.record import EvaluationRecord, Question
from lens_core.editing.evaluate.unrelated import (
    UnrelatedEffect,
    UnrelatedText,
    unrelated_effect,
)

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

# A fact of the world: subject and relation.
FactKey = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Baseline:
    """What the unedited model says to one record; the same for every edit of it."""

    said: tuple[Said, ...]
    text: FreeText | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        text = None if self.text is None else asdict(self.text)
        return {"said": [_said_json(s) for s in self.said], "text": text}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Baseline:
        """What `to_json` wrote."""
        return cls(tuple(_said(s) for s in values["said"]), _text(values["text"]))


def baseline(
    model: HookedModel, record: EvaluationRecord, *, generate: bool = False, seed: int = 0
) -> Baseline:
    """Ask the unedited model, once for all the edits that a record is to judge."""
    said = ask(model, [q for _, q in record.asked])
    if not generate:
        return Baseline(said)
    prompts, references = record.generation_prompts, record.reference_texts
    return Baseline(said, free_text(model, prompts, references, seed=seed))


@dataclass(frozen=True, eq=False)
class Scores:
    """How one edit did on one record.

    Attributes:
        replies: every question with both models' answers.
        unrelated: effect on ordinary text; text_before, text_after: what the two models write about
            the subject. None where it was not asked for.
    """

    record: EvaluationRecord
    replies: tuple[Reply, ...]
    unrelated: UnrelatedEffect | None = None
    text_before: FreeText | None = None
    text_after: FreeText | None = None

    def rate(self, key: str) -> Rate:
        """One metric of `METRICS` with the answers behind it."""
        return rate(self.replies, METRICS[key])

    @property
    def rates(self) -> tuple[Rate, ...]:
        """Every metric that has a question to count."""
        found = (rate(self.replies, metric) for metric in METRICS.values())
        return tuple(r for r in found if r.replies)

    @property
    def s(self) -> float:
        """The published S of this one edit; NaN where the record has no neighbours."""
        return published_s({key: self.rate(key).after for key in OF_S})

    def values(self) -> dict[str, float]:
        """Every number of this edit by name; what the unedited model reaches ends in ``_before``.

        Shares are from 0 to 1; a metric without a question is NaN.
        """
        out: dict[str, float] = {}
        for key, metric in METRICS.items():
            found = rate(self.replies, metric)
            out |= {key: found.after, f"{key}_before": found.before, f"{key}_n": float(found.n)}
        for name, group in (("efficacy", "edit"), ("paraphrase", "paraphrase")):
            out[f"{name}_magnitude"] = magnitude(self.replies, group)  # type: ignore[arg-type]
        out["neighbourhood_magnitude"] = magnitude(self.replies, "neighbour")
        if self.unrelated is not None:
            out["perplexity_ratio"] = self.unrelated.ratio
            out["kl_nats"] = self.unrelated.kl_nats
        for when, text in (("_before", self.text_before), ("", self.text_after)):
            if text is not None:
                out[f"fluency_bits{when}"] = text.fluency_bits
                out[f"consistency{when}"] = text.consistency
        return out

    def to_frame(self) -> pd.DataFrame:
        """One line a question, with both models' answers."""
        import pandas as pd

        return pd.DataFrame([_row(r) for r in self.replies])

    def to_json(self) -> dict[str, Any]:
        """Plain values, the record included."""
        return {
            "record": self.record.to_json(),
            "replies": [
                [r.group, list(r.question), *(_said_json(s) for s in (r.before, r.after))]
                for r in self.replies
            ],
            "unrelated": None if self.unrelated is None else asdict(self.unrelated),
            "text_before": None if self.text_before is None else asdict(self.text_before),
            "text_after": None if self.text_after is None else asdict(self.text_after),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scores:
        """The scores that `to_json` wrote."""
        unrelated = values["unrelated"]
        return cls(
            EvaluationRecord.from_json(values["record"]),
            tuple(
                Reply(group, Question(*question), _said(before), _said(after))
                for group, question, before, after in values["replies"]
            ),
            None if unrelated is None else UnrelatedEffect(**unrelated),
            _text(values["text_before"]),
            _text(values["text_after"]),
        )


@dataclass(frozen=True)
class ScoreLine:
    """One line of the scoreboard: a share or a number, before and after, and what is behind it."""

    key: str
    title: str
    means: str
    before: float
    after: float
    n: int
    unit: str
    replies: tuple[Reply, ...] = ()


def score(
    model: HookedModel,
    edit: AnyEdit,
    record: EvaluationRecord,
    *,
    before: Baseline | None = None,
    unrelated: UnrelatedText | None = None,
    generate: bool = False,
    leave_out: Collection[FactKey] = (),
    seed: int = 0,
) -> Scores:
    """Ask the model everything about one edit, with the edit made and without.

    Args:
        model: the unedited model.
        edit: an `Edit`, or several that are made together.
        before: what `baseline` found, where it is known already.
        unrelated: text to measure perplexity and divergence on; None leaves both out.
        generate: let both models write about the subject, for fluency and consistency.
        leave_out: facts that must not be asked about, as (subject, relation): those that the same
            edit changes too. The record's own fact is always asked.
        seed: of the writing.

    Example:
        >>> from lens_core import HookedModel
        >>> from lens_core.editing.evaluate import records, score
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> score(model, None, records(model, 1)[0]).rate("efficacy").after
        0.0
    """
    known = before or baseline(model, record, generate=generate, seed=seed)
    if generate and known.text is None:
        known = replace(known, text=baseline(model, record, generate=True, seed=seed).text)
    own, out = (record.subject, record.request.relation), set(leave_out)
    asked = [
        (group, q, said)
        for (group, q), said in zip(record.asked, known.said, strict=True)
        if (q.subject, q.relation) == own or (q.subject, q.relation) not in out
    ]
    after = ask(model, [q for _, q, _ in asked], edit)
    replies = tuple(
        Reply(group, q, told, said) for (group, q, told), said in zip(asked, after, strict=True)
    )
    effect = None
    if unrelated is not None:
        effect = unrelated_effect(model, edit, unrelated, without=[record.subject])
    if not generate:
        return Scores(record, replies, effect)
    prompts, references = record.generation_prompts, record.reference_texts
    text = free_text(model, prompts, references, edit, seed=seed)
    return Scores(record, replies, effect, known.text, text)


def scoreboard(scores: Scores) -> tuple[ScoreLine, ...]:
    """The lines that a page shows of one edit: S first, then every score, then ordinary text."""
    lines = [
        ScoreLine(
            "s",
            "S",
            "Harmonic mean of efficacy, paraphrases and neighbours, as published.",
            published_s({key: scores.rate(key).before for key in OF_S}),
            scores.s,
            sum(scores.rate(key).n for key in OF_S),
            "share",
        )
    ]
    for found in scores.rates:
        m = found.metric
        lines.append(
            ScoreLine(
                m.key, m.title, m.means, found.before, found.after, found.n, "share", found.replies
            )
        )
    lines += _of_text(scores)
    return tuple(lines)


def _of_text(scores: Scores) -> Iterator[ScoreLine]:
    effect, before, after = scores.unrelated, scores.text_before, scores.text_after
    if effect is not None:
        n = effect.n_tokens
        yield ScoreLine(
            "perplexity",
            "Corpus perplexity",
            "Of held-out text that does not name the subject.",
            effect.perplexity_before,
            effect.perplexity_after,
            n,
            "",
        )
        yield ScoreLine(
            "kl",
            "Divergence on unrelated text",
            "KL(model || edited model), mean over the tokens of that text.",
            0.0,
            effect.kl_nats,
            n,
            "nats",
        )
    if before is not None and after is not None:
        n = len(after.texts)
        yield ScoreLine(
            "fluency",
            "Fluency",
            "Weighted entropy of the pairs and triples of words in texts about the subject.",
            before.fluency_bits,
            after.fluency_bits,
            n,
            "bits",
        )
        yield ScoreLine(
            "consistency",
            "Consistency",
            "TF-IDF cosine of those texts and texts about subjects that have the new answer.",
            before.consistency,
            after.consistency,
            n,
            "cosine",
        )


def _row(r: Reply) -> dict[str, Any]:
    return {
        "group": r.group,
        "prompt": r.question.prompt,
        "answer": r.question.answer,
        "rival": r.question.rival,
        "before": r.before.text,
        "after": r.after.text,
        "exact_before": r.before.exact,
        "exact_after": r.after.exact,
        "p_answer_before": r.before.p_answer,
        "p_answer_after": r.after.p_answer,
        "p_rival_before": r.before.p_rival,
        "p_rival_after": r.after.p_rival,
    }


def _said_json(said: Said) -> list[Any]:
    rival = None if math.isnan(said.p_rival) else said.p_rival
    return [said.text, said.exact, said.p_answer, rival]


def _said(values: list[Any]) -> Said:
    text, exact, answer, rival = values
    return Said(text, exact, answer, math.nan if rival is None else rival)


def _text(values: Mapping[str, Any] | None) -> FreeText | None:
    return None if values is None else FreeText(**{**values, "texts": tuple(values["texts"])})
