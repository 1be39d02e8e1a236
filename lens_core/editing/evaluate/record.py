"""One edit and the questions that judge it, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

from lens_core.editing.errors import EditingError
from lens_core.editing.requests import EditRequest

Group = Literal[
    "edit",
    "paraphrase",
    "neighbour",
    "other subject",
    "neighbour after the edit",
    "near",
    "same subject",
    "two-hop",
    "reversed",
]
GROUPS: tuple[Group, ...] = get_args(Group)


class Question(NamedTuple):
    """A prompt, the answer that counts as right once the edit is made, and one to compare it with.

    Attributes:
        prompt: what the model is asked to go on from.
        answer: what should follow, after a space.
        rival: the other answer; "" where there is none to compare with.
        subject, relation: the fact that is asked about, where it is one of the world.
        rival_prompt: the prompt that the rival is measured after; "" is the same prompt.
    """

    prompt: str
    answer: str
    rival: str = ""
    subject: str = ""
    relation: str = ""
    rival_prompt: str = ""


@dataclass(frozen=True)
class EvaluationRecord:
    """An edit with the questions that judge it.

    Attributes:
        case_id: a name that no other record of the set has.
        request: the edit. Its ``subject`` is written as the prompt writes it.
        subject: the subject's own name.
        questions: by group; of "neighbour", "other subject", "near" and "same subject" the answer
            is what was true before, which should stay.
        generation_prompts: beginnings of texts about the subject.
        reference_texts: texts about subjects of which the new answer is true.
    """

    case_id: str
    request: EditRequest
    subject: str
    questions: Mapping[Group, tuple[Question, ...]]
    generation_prompts: tuple[str, ...] = ()
    reference_texts: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for group in self.questions:
            if group not in GROUPS:
                raise EditingError(f"There is no group of questions {group!r}; use {GROUPS}.")
        object.__setattr__(self, "questions", MappingProxyType(dict(self.questions)))

    @property
    def asked(self) -> tuple[tuple[Group, Question], ...]:
        """Every question with its group, the edit's own first.

        The neighbours are asked a second time with the edit's sentence before them, as
        CounterFact+ does (Hoelscher-Obermaier et al. 2023).
        """
        all_questions: dict[Group, tuple[Question, ...]] = dict(self.questions)
        all_questions.setdefault("edit", (self.edit_question,))
        said = f"{self.request.prompt} {self.request.target_new.strip()}. "
        plus = (q._replace(prompt=said + q.prompt) for q in all_questions.get("neighbour", ()))
        all_questions.setdefault("neighbour after the edit", tuple(plus))
        return tuple((g, q) for g in GROUPS for q in all_questions.get(g, ()))

    @property
    def edit_question(self) -> Question:
        """The edit's own prompt."""
        r = self.request
        return Question(
            r.prompt, r.target_new.strip(), r.target_true.strip(), self.subject, r.relation
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "case_id": self.case_id,
            "request": asdict(self.request),
            "subject": self.subject,
            "questions": {g: [list(q) for q in qs] for g, qs in self.questions.items()},
            "generation_prompts": list(self.generation_prompts),
            "reference_texts": list(self.reference_texts),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EvaluationRecord:
        """The record that `to_json` wrote.

        Raises:
            EditingError: a field is missing or of another kind.
        """
        try:
            return cls(
                case_id=str(values["case_id"]),
                request=EditRequest(**values["request"]),
                subject=str(values["subject"]),
                questions={
                    g: tuple(Question(*map(str, q)) for q in qs)
                    for g, qs in values["questions"].items()
                },
                generation_prompts=tuple(map(str, values["generation_prompts"])),
                reference_texts=tuple(map(str, values["reference_texts"])),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise EditingError(f"This is no evaluation record: {error!r:.100}.") from None


def harmonic_mean(values: tuple[float, ...]) -> float:
    """The published S of three scores; 0 where one of them is 0, NaN where one is missing.

    >>> harmonic_mean((1.0, 1.0, 0.5))
    0.75
    """
    if any(math.isnan(v) for v in values):
        return math.nan
    return len(values) / sum(1 / v for v in values) if all(values) else 0.0
