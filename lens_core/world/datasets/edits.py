"""Counterfactual edit records: what an edit should change, and what it must leave alone."""

import random
from dataclasses import dataclass
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from lens_core.world.datasets.facts import (
    FactPrompt,
    cloze_frames,
    located_prompts,
    object_ids,
)
from lens_core.world.datasets.records import Records, not_enough
from lens_core.world.facts import FACTS, Fact, entangled, facts_about, facts_of
from lens_core.world.frames import word


class Question(NamedTuple):
    """A prompt and the object that the world says completes it."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class EditRecord:
    """ "The Eiffel Tower is in Rome": one edit and the prompts that judge it.

    All prompts are cloze and in wordings that training did not use for their fact. Positions count
    the BOS token as position 0; ``subject_end`` is inclusive.

    Attributes:
        paraphrases: the edited fact in other wordings; the answer should become ``new_object``.
        same_object: other subjects whose true object is ``old_object``; it should stay.
        other_objects: other subjects with neither object; theirs should stay.
        other_relations: the subject's other facts, less those entangled with the edited one.
    """

    relation: str
    subject: str
    old_object: str
    new_object: str
    prompt: str
    subject_chars: tuple[int, int]
    subject_start: int
    subject_end: int
    paraphrases: tuple[str, ...]
    same_object: tuple[Question, ...]
    other_objects: tuple[Question, ...]
    other_relations: tuple[Question, ...]

    @property
    def other_subjects(self) -> tuple[Question, ...]:
        """Both kinds of neighbours."""
        return self.same_object + self.other_objects


def untrained_frames(fact: Fact) -> tuple[str, ...]:
    """Cloze frames that training never used for this fact."""
    return tuple(
        f for split in ("held", "unseen") for f in cloze_frames(fact.relation, fact.subject, split)
    )


def _ask(fact: Fact, rng: random.Random) -> Question:
    return Question(word(fact, rng.choice(untrained_frames(fact)), rng).prompt, fact.object)


def _some(facts: list[Fact], n: int, rng: random.Random) -> tuple[Question, ...]:
    return tuple(_ask(f, rng) for f in rng.sample(facts, min(n, len(facts))))


def new_objects(
    tokenizer: PreTrainedTokenizerBase, fact: Fact, single_token_object: bool
) -> list[str]:
    """Objects of the relation that begin with another token than the true one."""
    old = object_ids(tokenizer, fact.object)[0]
    objects = dict.fromkeys(f.object for f in facts_of(fact.relation))
    ids = {o: object_ids(tokenizer, o) for o in objects}
    return [o for o, i in ids.items() if i[0] != old and (len(i) == 1 or not single_token_object)]


def _record(
    located: FactPrompt, new: str, rng: random.Random, *, sizes: tuple[int, int]
) -> EditRecord:
    """The edit of one fact to ``new`` with its prompts; sizes (paraphrases, neighbours a kind)."""
    n_paraphrases, n_neighbours = sizes
    fact = Fact(located.relation, located.subject, located.object)
    frames = [f for f in untrained_frames(fact) if f != located.frame]
    paraphrases = rng.sample(frames, min(n_paraphrases, len(frames)))
    others = [f for f in facts_of(fact.relation) if f.subject != fact.subject]
    same_subject = [
        f
        for f in facts_about(fact.subject)
        if f.relation != fact.relation and not entangled(f.relation, fact.relation)
    ]
    return EditRecord(
        relation=fact.relation,
        subject=fact.subject,
        old_object=fact.object,
        new_object=new,
        prompt=located.prompt,
        subject_chars=located.subject_chars,
        subject_start=located.subject_start,
        subject_end=located.subject_end,
        paraphrases=tuple(word(fact, f, rng).prompt for f in paraphrases),
        same_object=_some([f for f in others if f.object == fact.object], n_neighbours, rng),
        other_objects=_some(
            [f for f in others if f.object not in (fact.object, new)], n_neighbours, rng
        ),
        other_relations=tuple(_ask(f, rng) for f in same_subject for _ in range(2)),
    )


def counterfactual_edits(
    tokenizer: PreTrainedTokenizerBase,
    n: int,
    seed: int = 0,
    *,
    n_paraphrases: int = 6,
    n_neighbours: int = 5,
    multi_token_subject: bool = True,
    single_token_object: bool = True,
) -> Records[EditRecord]:
    """``n`` edits of different facts, each to another object of the same relation.

    The two objects always begin with different tokens, so that a comparison of first tokens tells
    them apart.

    Args:
        tokenizer: a fast tokenizer; positions are those of ``BOS + prompt``.
        n: how many.
        seed: decides the facts, the new objects and the wordings.
        n_paraphrases: paraphrases an edit.
        n_neighbours: other subjects of each of the two kinds, fewer where the world has fewer.
        multi_token_subject: only subjects of two or more tokens.
        single_token_object: only old and new objects of one token.

    Raises:
        ValueError: fewer facts than ``n`` pass the filters.

    Paper: Meng et al. 2022, "Locating and Editing Factual Associations in GPT" (CounterFact).
    """
    rng = random.Random(seed)
    out = Records[EditRecord]()
    for located in located_prompts(
        tokenizer,
        rng.sample(FACTS, len(FACTS)),
        rng,
        split="held",
        multi_token_subject=multi_token_subject,
        single_token_object=single_token_object,
    ):
        if len(out) == n:
            break
        fact = Fact(located.relation, located.subject, located.object)
        new = rng.choice(new_objects(tokenizer, fact, single_token_object))
        out.append(_record(located, new, rng, sizes=(n_paraphrases, n_neighbours)))
    if len(out) < n:
        raise not_enough("facts that pass these filters", n, len(out))
    return out
