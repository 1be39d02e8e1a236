"""Evaluation records from the generated world, in the manner of CounterFact.

What is asked is in wordings that training never used for the fact in question (questions from the
answer back to the subject apart, which are few). Development and test records share no subject:
an edit's key is the subject, so that a fact of the same subject would be half known.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from lens_core.editing.errors import EditingError
from lens_core.editing.evaluate.asking import ask
from lens_core.editing.evaluate.record import EvaluationRecord, Group, Question
from lens_core.editing.requests import EditRequest
from lens_core.world.datasets.edits import new_objects, untrained_frames
from lens_core.world.datasets.facts import FactPrompt, located_prompts, object_ids
from lens_core.world.facts import (
    FACTS,
    NATIONALITY_COUNTRY,
    Fact,
    entangled,
    facts_about,
    facts_of,
    subjects,
)
from lens_core.world.frames import capital, expand, fact_frames, lower_article, put_subject, word
from lens_core.world.generators.fact_docs import fact_sentence
from lens_core.world.generators.stories import story
from lens_core.world.splits import bucket

if TYPE_CHECKING:
    from lens_core import HookedModel

Split = Literal["development", "test"]
_COUNTRY_NATIONALITY = {country: name for name, country in NATIONALITY_COUNTRY.items()}
_ASKED_AT_ONCE = 64


def split_of(subject: str) -> Split:
    """Which records a subject's facts may be in: about one in five is for development."""
    return "development" if bucket(f"edit|{subject}") % 5 == 0 else "test"


@dataclass(frozen=True)
class Sizes:
    """How many questions a record has at most; fewer where the world has fewer.

    ``after_story`` of the paraphrases come after a sentence of a story.
    """

    paraphrases: int = 6
    after_story: int = 2
    neighbours: int = 10
    other_subjects: int = 5
    near: int = 5
    wordings: int = 2
    followers: int = 3
    reference_subjects: int = 5


def records(
    model: HookedModel,
    n: int,
    seed: int = 0,
    split: Split = "development",
    *,
    only_known: bool = True,
    sizes: Sizes | None = None,
) -> tuple[EvaluationRecord, ...]:
    """``n`` edits of different facts of the world, each to another answer of the same relation.

    Args:
        model: whose tokenizer counts tokens, and who must know the facts.
        seed: decides facts, new answers and wordings.
        split: "development" to choose settings on, "test" to report. No subject is in both.
        only_known: only facts that the model answers by itself, at the very prompt that is edited.
        sizes: how many questions of each kind.

    Raises:
        EditingError: fewer facts than that are there; the sentence says how many.

    Paper: Meng et al. 2022, "Locating and Editing Factual Associations in GPT" (CounterFact).

    Example:
        >>> from lens_core import HookedModel
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> record = records(model, 1)[0]
        >>> record.request.target_new != record.request.target_true
        True
    """
    if split not in ("development", "test"):
        raise EditingError(f'The split is "development" or "test", not {split!r}.')
    rng = random.Random(f"{split} {seed}")
    facts = [f for f in rng.sample(FACTS, len(FACTS)) if split_of(f.subject) == split]
    tokenizer = model._tokenizer()
    located = located_prompts(
        tokenizer,
        facts,
        rng,
        split="held",
        multi_token_subject=False,
        single_token_object=False,
    )
    writer = _Writer(tokenizer, rng, sizes or Sizes())
    out: list[EvaluationRecord] = []
    waiting: list[FactPrompt] = []
    for prompt in located:
        waiting.append(prompt)
        if len(waiting) == _ASKED_AT_ONCE:
            out += [writer.record(p) for p in _known(model, waiting, only_known)]
            waiting = []
            if len(out) >= n:
                return tuple(out[:n])
    out += [writer.record(p) for p in _known(model, waiting, only_known)]
    if len(out) < n:
        raise EditingError(
            f"The {split} split has {len(out)} facts that can be edited, not {n}: ask for fewer."
        )
    return tuple(out[:n])


def record_of(
    model: HookedModel, request: EditRequest, seed: int = 0, *, sizes: Sizes | None = None
) -> EvaluationRecord:
    """The questions that judge an edit somebody wrote.

    If the subject is one of the world and the old answer one of its objects, the record is like
    those of `records`; of any other edit there is only its own prompt to ask about.
    """
    fact = _fact_of(request)
    if fact is None:
        return EvaluationRecord("own", request, request.subject, {})
    writer = _Writer(model._tokenizer(), random.Random(f"own {seed}"), sizes or Sizes())
    return writer.questions_about(fact, request, frame="")


def _fact_of(request: EditRequest) -> Fact | None:
    """The world's fact that a request changes, by its subject, its old answer and its relation."""
    names = {s.lower(): s for s in subjects()}
    subject = request.subject.strip().lower()
    name = names.get(subject) or names.get(f"the {subject}")
    if name is None:
        return None
    for fact in facts_about(name):
        if request.relation in ("", fact.relation) and request.target_true.strip() == fact.object:
            return fact
    return None


def _known(model: HookedModel, prompts: Sequence[FactPrompt], only_known: bool) -> list[FactPrompt]:
    if not only_known:
        return list(prompts)
    said = ask(model, [Question(p.prompt, p.object) for p in prompts])
    return [p for p, s in zip(prompts, said, strict=True) if s.exact]


class _Writer:
    """Writes the questions about one fact after another from one source of randomness."""

    def __init__(self, tokenizer: Any, rng: random.Random, sizes: Sizes) -> None:
        self.tokenizer, self.rng, self.sizes = tokenizer, rng, sizes

    def record(self, located: FactPrompt) -> EvaluationRecord:
        fact = Fact(located.relation, located.subject, located.object)
        start, end = located.subject_chars
        request = EditRequest(
            prompt=located.prompt,
            subject=located.prompt[start:end],
            target_new=self.rng.choice(new_objects(self.tokenizer, fact, False)),
            target_true=fact.object,
            relation=fact.relation,
        )
        return self.questions_about(fact, request, located.frame)

    def questions_about(self, fact: Fact, request: EditRequest, frame: str) -> EvaluationRecord:
        new, old, s = request.target_new.strip(), fact.object, self.sizes
        others = [f for f in facts_of(fact.relation) if f.subject != fact.subject]
        same_subject = [
            f
            for f in facts_about(fact.subject)
            if f.relation != fact.relation and not entangled(f.relation, fact.relation)
        ]
        questions: dict[Group, list[Question]] = {
            "paraphrase": self._paraphrases(fact, request, frame),
            "neighbour": [
                self._kept(f, new)
                for f in self._some([f for f in others if f.object == old], s.neighbours)
            ],
            "other subject": [
                self._kept(f, new)
                for f in self._some(
                    [f for f in others if f.object not in (old, new)], s.other_subjects
                )
            ],
            "near": [
                self._kept(f, new if f.object != new else old)
                for f in self._some([f for f in others if self._near(f, fact)], s.near)
            ],
            "same subject": [self._kept(f, "") for f in same_subject for _ in range(s.wordings)],
            "two-hop": [
                self._ask(f, implied, f.object)
                for f, implied in self._followers(fact, new)
                for _ in range(s.wordings)
            ],
            "reversed": self._reversed(fact, new),
        }
        return EvaluationRecord(
            case_id=f"{fact.relation} / {fact.subject}",
            request=request,
            subject=fact.subject,
            questions={g: tuple(q) for g, q in questions.items() if q},
            generation_prompts=self._beginnings(fact),
            reference_texts=self._references(fact, new),
        )

    def _some(self, facts: list[Fact], n: int) -> list[Fact]:
        return self.rng.sample(facts, min(n, len(facts)))

    def _prompt(self, fact: Fact) -> str:
        return word(fact, self.rng.choice(untrained_frames(fact)), self.rng).prompt

    def _ask(self, fact: Fact, answer: str, rival: str) -> Question:
        return Question(self._prompt(fact), answer, rival, fact.subject, fact.relation)

    def _kept(self, fact: Fact, rival: str) -> Question:
        return self._ask(fact, fact.object, rival)

    def _paraphrases(self, fact: Fact, request: EditRequest, frame: str) -> list[Question]:
        frames = [f for f in untrained_frames(fact) if f != frame]
        chosen = self.rng.sample(frames, min(self.sizes.paraphrases, len(frames)))
        prompts = [word(fact, f, self.rng).prompt for f in chosen]
        for i in range(min(self.sizes.after_story, len(prompts))):
            prompts[i] = f"{story(self.rng, 1)} {prompts[i]}"
        new, old = request.target_new.strip(), fact.object
        return [
            Question(p, new, old, fact.subject, fact.relation)
            for p in prompts
            if p != request.prompt
        ]

    @cached_property
    def _name_tokens(self) -> dict[str, frozenset[int]]:
        """The telling tokens of each subject's name: three letters or more, no article."""
        out = {}
        for subject in subjects():
            ids = object_ids(self.tokenizer, subject)
            texts = {i: self.tokenizer.decode([i]).strip() for i in ids}
            out[subject] = frozenset(
                i for i, t in texts.items() if len(t) >= 3 and t.isalpha() and t.lower() != "the"
            )
        return out

    def _near(self, other: Fact, fact: Fact) -> bool:
        return bool(self._name_tokens[other.subject] & self._name_tokens[fact.subject])

    def _followers(self, fact: Fact, new: str) -> list[tuple[Fact, str]]:
        """Facts that would have another answer if the edit were believed, with that answer."""
        about = {f.relation: f for f in facts_about(fact.subject)}
        found: list[tuple[Fact, str]] = []
        if fact.relation == "landmark_city" and "landmark_country" in about:
            countries = [f.object for f in facts_of("city_country") if f.subject == new]
            found += [(about["landmark_country"], c) for c in countries]
        elif fact.relation == "person_nationality" and "person_country" in about:
            countries = [NATIONALITY_COUNTRY[new]] if new in NATIONALITY_COUNTRY else []
            found += [(about["person_country"], c) for c in countries]
        elif fact.relation == "person_country" and "person_nationality" in about:
            names = [_COUNTRY_NATIONALITY[new]] if new in _COUNTRY_NATIONALITY else []
            found += [(about["person_nationality"], n) for n in names]
        elif fact.relation == "city_country":
            inside = {f.subject for f in facts_of("landmark_city") if f.object == fact.subject}
            standing = [f for f in facts_of("landmark_country") if f.subject in inside]
            found += [(f, new) for f in self._some(standing, self.sizes.followers)]
        return [(f, implied) for f, implied in found if implied != f.object]

    def _reversed(self, fact: Fact, new: str) -> list[Question]:
        """Is the subject likelier after the new answer than after the old one?"""
        frames = [
            f
            for split in fact_frames(fact.relation, fact.subject).values()
            for f in split
            if f.endswith("{s}") and "{o}" in f
        ]
        out = []
        for frame in self.rng.sample(frames, min(self.sizes.wordings, len(frames))):
            body = put_subject(expand(frame, self.rng), fact.subject)
            name = fact.subject if body.endswith(fact.subject) else lower_article(fact.subject)
            body = body.removesuffix(name).rstrip()
            prompts = [capital(body.replace("{o}", o)) for o in (new, fact.object)]
            out.append(Question(prompts[0], name, name, fact.subject, fact.relation, prompts[1]))
        return out

    def _beginnings(self, fact: Fact) -> tuple[str, ...]:
        told = self._prompt(fact)
        name = fact.subject if fact.subject in told else lower_article(fact.subject)
        upto = told[: told.find(name) + len(name)] if name in told else fact.subject
        return tuple(dict.fromkeys([fact.subject, f"About {lower_article(fact.subject)}:", upto]))

    def _references(self, fact: Fact, new: str) -> tuple[str, ...]:
        alike = [f for f in facts_of(fact.relation) if f.object == new]
        return tuple(
            fact_sentence(f, self.rng, mention=f.subject)
            for f in self._some(alike, self.sizes.reference_subjects)
            for _ in range(3)
        )
