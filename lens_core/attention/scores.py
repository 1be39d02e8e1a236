"""What each head does: scores of all heads at once, each with what it can reach at most.

    from lens_core.attention import head_scores

    found = head_scores(model)                       # 32 sequences of 2 x 25 random tokens
    found["induction"].value                         # [L, H]
    found.ranking("induction")[:3]                   # the best heads, as (layer, head)
    head_scores(model, text="Ann met Bob. Ann met")  # on one's own text

A score says how much a head's attention looks like a rule. It does not say that the head is needed
for what the rule is about, nor that it does the same in other text.

Definitions after Elhage et al. 2021 and Olsson et al. 2022 (arXiv 2209.11895); those in use differ,
so every score carries its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel
    from lens_core.interventions import Intervention

Array = np.ndarray[Any, Any]

PATTERN_SCORES = (
    "previous_token",
    "current_token",
    "first_token",
    "duplicate_token",
    "induction",
    "prefix_matching",
    "entropy_nats",
    "locality",
)
WEIGHT_SCORES = ("copying_eigen", "copying_direct")
ALL = (*PATTERN_SCORES, *WEIGHT_SCORES)


@dataclass(frozen=True)
class ScoreKind:
    """What a score is: for a heading, a sentence, a formula, and where it comes from."""

    name: str
    label: str  # "Previous token"
    definition: str  # one sentence
    formula: str  # in plain text; A[q, k] is attention from q to k, t the tokens
    source: str  # the paper
    unit: str  # "", "nats", "positions"
    needs_repeats: bool  # it has no value on text in which no token comes twice


@dataclass(frozen=True, eq=False)
class HeadScore:
    """One score of every head. All arrays are [L, H] float64; NaN where there is no value.

    Attributes:
        value: mean over sequences.
        low, high: 95% bootstrap interval over sequences; NaN for fewer than two of them, and for
            what is read from the weights alone.
        per_sequence: [n_sequences, L, H]; None for what is read from the weights alone.
        control: the same score of a model of this shape with random weights; None if not asked for.
        ceiling, floor: the most and the least that any head could reach on these sequences.
        uniform: what a head would get that looks at everything it can see alike; NaN where that
            means nothing.
        n_counted: how many positions (or tokens) of all sequences the mean is over.
        reason: why there is no value, None if there is one.
    """

    kind: ScoreKind
    value: Array
    low: Array
    high: Array
    per_sequence: Array | None
    control: Array | None
    ceiling: float
    floor: float
    uniform: float
    n_counted: int
    reason: str | None


@dataclass(frozen=True, eq=False)
class HeadScores(Mapping[str, HeadScore]):
    """Scores by name (see `ALL`), and what they were measured on."""

    model_name: str
    scores: Mapping[str, HeadScore]
    token_ids: tuple[tuple[int, ...], ...]  # the sequences
    origin: str  # "repeated random tokens", "text" or "tokens"
    half: int | None  # length of one copy, of generated sequences
    copies: int | None
    seed: int  # of the sequences, the bootstrap and the control's weights
    n_layers: int
    n_heads: int

    def __getitem__(self, name: str) -> HeadScore:
        return self.scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def ranking(self, name: str) -> list[tuple[int, int]]:
        """(layer, head), best first; heads without a value are left out."""
        value = self.scores[name].value
        order = np.argsort(-value, axis=None, kind="stable")
        heads = [divmod(int(i), self.n_heads) for i in order]
        return [head for head in heads if not np.isnan(value[head])]

    def to_frame(self) -> pd.DataFrame:
        """One line a head and score."""
        import pandas as pd

        layer, head = (i.ravel() for i in np.indices((self.n_layers, self.n_heads)))
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "score": name,
                        "layer": layer,
                        "head": head,
                        "value": score.value.ravel(),
                        "low": score.low.ravel(),
                        "high": score.high.ravel(),
                        "control": np.nan if score.control is None else score.control.ravel(),
                        "ceiling": score.ceiling,
                        "floor": score.floor,
                        "uniform": score.uniform,
                    }
                )
                for name, score in self.scores.items()
            ],
            ignore_index=True,
        )


def head_scores(
    model: HookedModel,
    sequences: Int[Tensor, "n pos"] | None = None,
    *,
    text: str | Sequence[str] | None = None,
    names: Iterable[str] = ALL,
    seed: int = 0,
    n_sequences: int = 32,
    half: int = 25,
    copies: int = 2,
    control: bool = True,
    interventions: Iterable[Intervention] = (),
) -> HeadScores:
    """Score every head, all heads in one batched pass.

    Without ``sequences`` and ``text``: on `repeated_random_tokens`; ``half`` is made shorter where
    vocabulary or context do not hold that much, and the result says how long it was.

    Args:
        sequences: token ids, as the model reads them (BOS included).
        text: the learner's own, one or several; scores that need repeated tokens have no value
            (NaN, and a reason) where no token comes twice.
        names: some of `ALL`.
        copies: how often the random half is written; Olsson et al. have 4. With 2,
            ``prefix_matching`` and ``induction`` are the same number.
        control: score a twin with random weights as well, which takes as long again.
        interventions: what to change while the model runs (the control runs without).

    Raises:
        TokenError: both sequences and text, or too small a vocabulary.
        KeyError: there is no score of that name; the message lists them.
        EmptyPromptError, PromptTooLongError, UnknownSiteError: as `read_attention`.

    Example:
        >>> head_scores(model)["induction"].value.shape  # doctest: +SKIP
        (8, 8)
    """
    raise NotImplementedError
