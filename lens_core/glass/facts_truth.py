"""What is known of the glass facts model before any tool has looked: the answer sheet of the tools.

    from lens_core.glass.facts_truth import FACTS_TRUTH as truth
    truth.mover("city")                         # (2, 0)
    truth.neuron_of("ada wood", "city")         # 0, of block 1
    truth.carries("mlp_out")                    # {(1, "surname")}
    truth.edges("city")                         # who reads whom, on the way from names to answer

All of it follows from what `lens_core.glass.facts` writes into the weights, by the arithmetic that
stands beside it; no number was read off a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float

from lens_core.glass import facts
from lens_core.glass.facts import CITY_WORD, FACTS, INSTRUMENT_WORD, KNOWN, NEXT, VOCABULARY, WAS
from lens_core.glass.induction import D_MODEL
from lens_core.glass.truth import HeadName, LooksAt, rule_pattern

Kind = Literal["city", "instrument"]
Row = Literal["surname", "last"]
FactsLooksAt = LooksAt | Kind
Edge = tuple[str, str]

_PEOPLE_IDS = {
    (VOCABULARY.index(first), VOCABULARY.index(last)) for first, last, _, _ in facts.PEOPLE
}
_ASKED_BY: dict[str, int] = {
    "city": VOCABULARY.index(CITY_WORD),
    "instrument": VOCABULARY.index(INSTRUMENT_WORD),
}


@dataclass(frozen=True)
class FactsHead:
    """What one head does; `writes` is None where it writes exactly nothing.

    `looks_at` is a rule of `lens_core.glass.truth`, or "city" or "instrument": from the word that
    asks for it, the surname of every known person before, alike; from all else, the start token.
    """

    layer: int
    head: int
    looks_at: FactsLooksAt
    writes: str | None

    @property
    def name(self) -> HeadName:
        """(layer, head)."""
        return self.layer, self.head


@dataclass(frozen=True)
class FactsTruth:
    """All that is known of glass-facts.

    Attributes:
        store: the block whose MLP holds the facts.
        answer_logit, answer_prob: of a fact's answer, after a prompt with one person in it; all
            other words' logits are 0, and after a stranger's name the answer's too.
        logit_without_other: the answer's logit where the neuron of the same person's other fact is
            set to zero: the row is shorter then, and LayerNorm makes the fact longer.
    """

    name: str
    heads: tuple[FactsHead, ...]
    store: int
    answer_logit: float
    answer_prob: float
    logit_without_other: float

    @property
    def circuit(self) -> Mapping[str, HeadName]:
        """The heads that write anything, by what they do."""
        return {"previous token": (0, 3), "city mover": (2, 0), "instrument mover": (2, 2)}

    @property
    def decoys(self) -> tuple[HeadName, ...]:
        """The heads that write exactly nothing."""
        return tuple(head.name for head in self.heads if head.writes is None)

    @property
    def decoy_neurons(self) -> tuple[int, ...]:
        """The neurons of the storing MLP that fire at a name and write nothing."""
        return tuple(range(len(FACTS), facts.D_MLP))

    def mover(self, kind: Kind) -> HeadName:
        """The head that copies answers of a kind to the last token."""
        return self.circuit[f"{kind} mover"]

    def neuron_of(self, subject: str, kind: Kind) -> int:
        """The neuron of block `store` that holds a fact. KeyError for a person it does not know."""
        for neuron, fact in enumerate(FACTS):
            if (fact.subject, fact.kind) == (subject, kind):
                return neuron
        raise KeyError(f"{self.name} knows no {kind} of {subject!r:.60}.")

    def carries(self, site: str) -> frozenset[tuple[int, Row]]:
        """The cells (layer, row) that hold all of the answer, each alone.

        Patched from a prompt about one person into the same prompt about another of other names,
        such a cell brings the whole answer (its logit); every other cell of the site brings none.
        The rows are the person's surname and the last token. Before block 0's attention no cell
        does: a fact takes both names.

        Raises:
            KeyError: a site that the answer sheet does not cover.
        """
        return {
            "resid_pre": frozenset[tuple[int, Row]]({(1, "surname"), (2, "surname")}),
            "resid_mid": frozenset[tuple[int, Row]]({(0, "surname"), (1, "surname"), (2, "last")}),
            "resid_post": frozenset[tuple[int, Row]]({(0, "surname"), (1, "surname"), (2, "last")}),
            "attn_out": frozenset[tuple[int, Row]]({(2, "last")}),
            "mlp_out": frozenset[tuple[int, Row]]({(1, "surname")}),
        }[site]

    def edges(self, kind: Kind) -> frozenset[Edge]:
        """Sender and receiver of every wire that a fact runs through.

        Heads are named "0.3", a head's inputs "2.0.k"; the query's wire says which kind is asked
        for. There is no other path from the names to the answer.
        """
        layer, head = self.mover(kind)
        mover = f"{layer}.{head}"
        return frozenset(
            {
                ("embed", "0.3.v"),
                ("embed", "mlp 1"),
                ("0.3", "mlp 1"),
                ("mlp 1", f"{mover}.k"),
                ("mlp 1", f"{mover}.v"),
                ("embed", f"{mover}.q"),
                (mover, "logits"),
            }
        )

    def expected_pattern(
        self, layer: int, head: int, tokens: Sequence[int]
    ) -> Float[np.ndarray, "dest src"]:
        """The pattern that the head's rule asks for, on tokens that begin with the start token.

        Raises:
            KeyError: there is no such head.
        """
        rules = {known.name: known.looks_at for known in self.heads}
        if (layer, head) not in rules:
            raise KeyError(f"{self.name} has no head {layer}.{head}.")
        rule, ids = rules[layer, head], np.asarray(tokens)
        if rule != "city" and rule != "instrument":
            return rule_pattern(rule, ids)
        known = np.array([False, *(pair in _PEOPLE_IDS for pair in pairwise(ids.tolist()))])
        named = np.tril(np.outer(ids == _ASKED_BY[rule], known))
        named[~named.any(axis=1), 0] = True
        return np.asarray(named / named.sum(axis=1, keepdims=True))


def _answer_logit(n_facts: int) -> float:
    """The answer's logit where the person's row holds so many facts, a mover's one among them.

    Rows are four of 1, two of `WAS`, and two of each fact's `KNOWN`; LayerNorm divides by a row's
    root mean square; the head writes the fact as `NEXT` where it reads it as 6.4.
    """
    plain = 4 + 2 * WAS**2
    read = KNOWN * math.sqrt(D_MODEL / (plain + 2 * n_facts * KNOWN**2))
    written = read * NEXT / 6.4
    return written * math.sqrt(D_MODEL / (plain + 2 * written**2))


def _facts_truth() -> FactsTruth:
    logit = _answer_logit(2)
    return FactsTruth(
        name=facts.NAME,
        heads=(
            FactsHead(0, 0, "first", None),
            FactsHead(0, 1, "current", None),
            FactsHead(0, 2, "previous", None),
            FactsHead(0, 3, "previous", "which token the previous one was"),
            FactsHead(1, 0, "previous", None),
            FactsHead(1, 1, "first", None),
            FactsHead(1, 2, "current", None),
            FactsHead(1, 3, "first", None),
            FactsHead(2, 0, "city", "the city, as the next word"),
            FactsHead(2, 1, "city", None),
            FactsHead(2, 2, "instrument", "the instrument, as the next word"),
            FactsHead(2, 3, "instrument", None),
        ),
        store=1,
        answer_logit=logit,
        answer_prob=1 / (1 + (len(VOCABULARY) - 1) * math.exp(-logit)),
        logit_without_other=_answer_logit(1),
    )


FACTS_TRUTH = _facts_truth()
