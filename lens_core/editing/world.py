"""What editing knows of the world that tiny-world was trained on: its texts and its questions."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lens_core.world.datasets.facts import cloze_frames
from lens_core.world.facts import Fact, entangled, facts_about, subjects
from lens_core.world.frames import capital, word
from lens_core.world.mix import PHASES, document

if TYPE_CHECKING:
    from lens_core import HookedModel

# Names that are one token each to the world's tokenizer, and to no other.
_SIGNS = (" Eiffel", " Colosseum", " Kahlo", " Rapinoe", " Mozart")
# Kinds of documents in whole sentences.
PROSE = (
    "facts", "last talk", "composed", "cards", "stories", "giving", "pronouns", "sentiment",
)  # fmt: skip


class Mention(NamedTuple):
    """A text, and where the subject's mention ends in it (the index after its last character)."""

    text: str
    end: int


def is_world_model(model: HookedModel) -> bool:
    """Whether a model has the world's tokenizer: tiny-world, its checkpoints and views of it."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        return False
    return all(len(tokenizer.encode(s, add_special_tokens=False)) == 1 for s in _SIGNS)


def world_texts(seed: int | str, kinds: Sequence[str] | None = None) -> Iterator[str]:
    """Endless documents of some kinds, in the shares of tiny-world's last phase of training.

    The same from the same seed, and never those that training drew, whose seed is a number.

    Args:
        kinds: None: all of them.
    """
    last = list(PHASES.values())[-1]
    shares = {k: share for k, share in last.items() if kinds is None or k in kinds}
    rng = random.Random(f"editing {seed}")
    while True:
        yield document(rng, shares)[1]


def other_questions(
    subject: str, old_answer: str, relation: str, n: int, seed: int = 0
) -> tuple[Mention, ...]:
    """Questions about the subject's other relations, in wordings that training used.

    Relations that say the same as the edited one are left out. () for a subject that the world
    does not know.

    Args:
        old_answer: tells which relation is edited if that is not named.
    """
    known = capital(subject)
    if known not in subjects():
        return ()
    about = facts_about(known)
    if not relation:
        same = [f.relation for f in about if old_answer.strip().startswith(f.object)]
        relation = same[0] if same else ""
    others = [
        f
        for f in about
        if f.relation != relation
        and not old_answer.strip().startswith(f.object)
        and not entangled(f.relation, relation)
    ]
    rng = random.Random(f"questions {seed} {known}")
    asked = [mention for fact in others for mention in _wordings(fact, rng)]
    rng.shuffle(asked)
    return tuple(asked[:n])


def _wordings(fact: Fact, rng: random.Random) -> Iterator[Mention]:
    for frame in cloze_frames(fact.relation, fact.subject, "train"):
        said = word(fact, frame, rng)
        if said.subject_chars is not None:
            yield Mention(said.prompt, said.subject_chars[1])
