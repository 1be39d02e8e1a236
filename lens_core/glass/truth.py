"""What is known of the two glass models before any tool has looked: the answer sheet of the tools.

    truth = truth_of("glass-induction")
    truth.circuit                       # {"previous token": (0, 2), "induction": (1, 1)}
    truth.head(1, 3).looks_at, truth.head(1, 3).writes
    truth.expected_pattern(1, 1, tokens)

Everything here follows from what `induction` and `lookup` write into the weights, by the arithmetic
that stands beside it; no number was read off a run. A tool is right if it finds this, and wrong if
it finds more: in glass-lookup there is no head to be found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from lens_core.glass import induction, lookup
from lens_core.glass.words import START

if TYPE_CHECKING:
    import pandas as pd

LooksAt = Literal["first", "current", "previous", "same", "induction", "everything"]
HeadName = tuple[int, int]

_D_VOCAB, _N_WORDS = len(induction.VOCABULARY), len(induction.WORDS)
_START_ID = induction.VOCABULARY.index(START)

# LayerNorm divides a row of glass-induction by 1/8 before block 0 and by 3/8 before block 1, and a
# score is query times key over sqrt(d_head) = 8. Head 1.1, on a match and at rest:
_MATCH_SCORE = (2 * 8 / 3) * (3 * induction.WAS * 8 / 3) / 8
_REST_SCORE = 4 * (9 * 8 / 3) / 8


@dataclass(frozen=True)
class HeadTruth:
    """What one head does.

    Attributes:
        looks_at: which rule its pattern follows, to within .001 where the rule names one token.
        writes: what it writes, in words; None: exactly nothing.
        top_scores: the pattern and weight scores (by their names in `lens_core.attention`) that are
            at their ceiling on repeated random tokens.
    """

    layer: int
    head: int
    looks_at: LooksAt
    writes: str | None
    top_scores: frozenset[str]

    @property
    def name(self) -> HeadName:
        """(layer, head)."""
        return self.layer, self.head


@dataclass(frozen=True)
class CompositionTruth:
    """The composition score of one pair of heads; every pair that is not listed has 0."""

    kind: Literal["q", "k", "v"]
    earlier: HeadName
    later: HeadName
    score: float


@dataclass(frozen=True)
class GlassTruth:
    """All that is known of one model.

    Attributes:
        circuit: the heads that do anything, by role.
        composition: the pairs of heads that compose.
        direct: the part of the model that writes all of an answer's logit: (layer, head), "embed".
        answer_logit: that logit, all other words' being 0.
        answer_prob: the answer's probability.
        first_copy_nats, second_copy_nats: loss on repeated random tokens; of a copy's first token,
            the first copy's.
    """

    name: str
    heads: tuple[HeadTruth, ...]
    circuit: Mapping[str, HeadName]
    composition: tuple[CompositionTruth, ...]
    direct: HeadName | Literal["embed"]
    answer_logit: float
    answer_prob: float
    first_copy_nats: float
    second_copy_nats: float

    def head(self, layer: int, head: int) -> HeadTruth:
        """What is known of one head. Raises KeyError where there is none."""
        for known in self.heads:
            if known.name == (layer, head):
                return known
        raise KeyError(f"{self.name} has no head {layer}.{head}.")

    @property
    def decoys(self) -> tuple[HeadName, ...]:
        """The heads that write exactly nothing: without one of them no logit changes a bit."""
        return tuple(head.name for head in self.heads if head.writes is None)

    def with_top(self, score: str) -> frozenset[HeadName]:
        """The heads whose score of that name is at its ceiling; all others are well below it."""
        return frozenset(head.name for head in self.heads if score in head.top_scores)

    def expected_pattern(
        self, layer: int, head: int, tokens: Sequence[int]
    ) -> Float[np.ndarray, "dest src"]:
        """The pattern that the head's rule asks for, on tokens that begin with the start token."""
        return rule_pattern(self.head(layer, head).looks_at, np.asarray(tokens))

    def to_frame(self) -> pd.DataFrame:
        """One line a head."""
        import pandas as pd

        return pd.DataFrame(
            {
                "layer": [head.layer for head in self.heads],
                "head": [head.head for head in self.heads],
                "looks_at": [head.looks_at for head in self.heads],
                "writes": [head.writes for head in self.heads],
            }
        )


def truth_of(name: str) -> GlassTruth | None:
    """What is known of the glass model of that name; None for a model that is not of glass.

    Example:
        >>> truth_of("glass-induction").circuit["induction"]
        (1, 1)
    """
    return {truth.name: truth for truth in (INDUCTION_TRUTH, LOOKUP_TRUTH)}.get(name)


def rule_pattern(rule: LooksAt, tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A rule as a pattern: attention is shared evenly by the places that the rule names."""
    n = len(tokens)
    dest, src = np.indices((n, n))
    seen = src <= dest
    before = np.concatenate([[-1], tokens[:-1]])
    named = {
        "first": src == 0,
        "current": src == dest,
        "previous": src == np.maximum(dest - 1, 0),
        "same": tokens[dest] == tokens[src],
        "induction": (tokens[dest] == before[src]) & (tokens[dest] != _START_ID),
        "everything": seen,
    }[rule] & seen
    if rule == "induction":  # where no place has been read before, it rests
        named[~named.any(axis=1), 0] = True
    return np.asarray(named / named.sum(axis=1, keepdims=True))


def _induction_logit() -> float:
    """The answer's logit: what 1.1 writes, as the final LayerNorm leaves it.

    A row of 1 + 1 + was + next and as much balance; LayerNorm divides by its root mean square.
    """
    share = 1 / (1 + math.exp(_REST_SCORE - _MATCH_SCORE))
    written = share * induction.NEXT
    length = math.sqrt(2 * (1 + 1 + induction.WAS**2 + written**2))
    return written * math.sqrt(induction.D_MODEL) / length


def _prob(logit: float) -> float:
    """The probability of one token with this logit among others that have 0."""
    return 1 / (1 + (_D_VOCAB - 1) * math.exp(-logit))


def _k_composition() -> float:
    """||W_OV W_QK^T|| / (||W_OV|| ||W_QK||) of 0.2 and the heads whose keys read what it wrote.

    W_QK's keys undo what W_OV wrote, word for word, so that only ||W_OV|| is left: two entries for
    each of n tokens, less what LayerNorm takes from the values by centring what they read: the
    1/d_model part of the sum of all rows, which are n of ``was`` and n times the balance.
    """
    n, d_model = len(induction.VOCABULARY), induction.D_MODEL
    return 1 / math.sqrt(2 * n - (n + n**2) / d_model)


def _induction_truth() -> GlassTruth:
    logit = _induction_logit()
    previous, repeats = frozenset({"previous_token"}), frozenset({"induction", "prefix_matching"})
    copies = frozenset({"copying_eigen", "copying_direct"})
    first, current = frozenset({"first_token"}), frozenset({"current_token"})
    return GlassTruth(
        name=induction.NAME,
        heads=(
            HeadTruth(0, 0, "first", None, first),
            HeadTruth(0, 1, "current", None, current),
            HeadTruth(0, 2, "previous", "which token the previous one was", previous),
            HeadTruth(0, 3, "same", None, frozenset()),
            HeadTruth(1, 0, "previous", None, previous),
            HeadTruth(1, 1, "induction", "the word it looks at, as the next", repeats | copies),
            HeadTruth(1, 2, "first", None, first),
            HeadTruth(1, 3, "induction", None, repeats),
        ),
        circuit={"previous token": (0, 2), "induction": (1, 1)},
        composition=(
            CompositionTruth("k", (0, 2), (1, 1), _k_composition()),
            CompositionTruth("k", (0, 2), (1, 3), _k_composition()),
        ),
        direct=(1, 1),
        answer_logit=logit,
        answer_prob=_prob(logit),
        first_copy_nats=math.log(_D_VOCAB),
        second_copy_nats=-math.log(_prob(logit)),
    )


def _lookup_truth() -> GlassTruth:
    # LayerNorm makes the 1 in the column ``is`` an 8, and the unembedding reads it with 1.25.
    logit = 1.25 * 8
    # A random other word is the looked-up one in one case of 31.
    loss = -math.log(_prob(logit)) + logit * (1 - 1 / (_N_WORDS - 1))
    return GlassTruth(
        name=lookup.NAME,
        heads=tuple(
            HeadTruth(layer, head, "everything", None, frozenset())
            for layer in range(2)
            for head in range(induction.N_HEADS)
        ),
        circuit={},
        composition=(),
        direct="embed",
        answer_logit=logit,
        answer_prob=_prob(logit),
        first_copy_nats=loss,
        second_copy_nats=loss,
    )


INDUCTION_TRUTH = _induction_truth()
LOOKUP_TRUTH = _lookup_truth()
