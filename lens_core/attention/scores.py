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

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.attention.kinds import KINDS, WEIGHT_SCORES, ScoreKind
from lens_core.attention.paths import Embedding
from lens_core.attention.prompt import one_prompt
from lens_core.attention.raw_scores import RawScore, pattern_scores, weight_score
from lens_core.attention.sequences import largest_half, repeated_random_tokens
from lens_core.attention.twin import random_twin
from lens_core.model.errors import TokenError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel
    from lens_core.interventions import Intervention

Array = np.ndarray[Any, Any]

PATTERN_SCORES = tuple(name for name in KINDS if name not in WEIGHT_SCORES)
ALL = tuple(KINDS)
GENERATED = "repeated random tokens"
_N_RESAMPLES = 1000


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
    embedding: Embedding  # what the copying scores take a token as
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
    embedding: Embedding = "effective",
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
        embedding: for the copying scores; see `lens_core.attention.copying`.
        interventions: what to change while the model runs (the control runs without).

    Raises:
        TokenError: both sequences and text, or too small a vocabulary.
        ValueError: there is no score of that name; the message lists them.
        UnsupportedModelError: a control of a model whose weights are offloaded.
        EmptyPromptError, PromptTooLongError, UnknownSiteError: as `read_attention`.

    Example:
        >>> head_scores(model)["induction"].value.shape  # doctest: +SKIP
        (8, 8)
    """
    names, edits = _known(names), tuple(interventions)
    if sequences is not None and text is not None:
        raise TokenError("Give sequences or a text, not both.")
    origin = "tokens" if sequences is not None else "text" if text is not None else GENERATED
    if origin == GENERATED:
        half = _fitting(model, half, copies)
        sequences = repeated_random_tokens(
            model, n_sequences=n_sequences, half=half, copies=copies, seed=seed
        )
    texts = [text] if isinstance(text, str) else text or ()
    given = torch.atleast_2d(sequences) if sequences is not None else ()
    rows = [*given, *(one_prompt(model, some)[0] for some in texts)]
    if not rows:
        raise TokenError("There is nothing to score heads on; give at least one text.")
    twin = random_twin(model, seed) if control else None
    return HeadScores(
        model_name=model.cfg.name,
        scores=_measured(model, twin, rows, names, edits, embedding, seed),
        token_ids=tuple(tuple(row.tolist()) for row in rows),
        origin=origin,
        half=half if origin == GENERATED else None,
        copies=copies if origin == GENERATED else None,
        seed=seed,
        embedding=embedding,
        n_layers=model.cfg.n_layers,
        n_heads=model.cfg.n_heads,
    )


def _fitting(model: HookedModel, half: int, copies: int) -> int:
    longest = largest_half(model, copies)
    if longest < 2:
        raise TokenError(
            f"{model.cfg.name} has no room for {copies} copies of two random tokens; "
            "score its heads on a text instead."
        )
    return min(half, longest)


def _known(names: Iterable[str]) -> list[str]:
    names = list(names)
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise ValueError(f"There is no score {unknown[0]!r}; the scores are {', '.join(ALL)}.")
    return names


def _measured(
    model: HookedModel,
    twin: HookedModel | None,
    rows: Sequence[Int[Tensor, " pos"]],
    names: Sequence[str],
    edits: Sequence[Intervention],
    embedding: Embedding,
    seed: int,
) -> dict[str, HeadScore]:
    """Every score asked for, of the model beside its twin."""
    of_patterns = [name for name in names if name in PATTERN_SCORES]
    found = pattern_scores(model, rows, of_patterns, edits)
    controls = pattern_scores(twin, rows, of_patterns, ()) if twin is not None else {}
    scores = {}
    for name in names:
        if name in WEIGHT_SCORES:
            own = weight_score(model, rows, name, embedding)
            other = None if twin is None else weight_score(twin, rows, name, embedding)
        else:
            own, other = found[name], controls.get(name)
        scores[name] = _summary(KINDS[name], own, other, seed)
    return scores


def _summary(kind: ScoreKind, own: RawScore, control: RawScore | None, seed: int) -> HeadScore:
    """Mean and interval over sequences."""
    low, high = _interval(own.values, seed) if own.of_sequences else _nowhere(own.values)
    floor, ceiling, uniform = (float(limit) for limit in _mean(own.limits))
    return HeadScore(
        kind=kind,
        value=_mean(own.values),
        low=low,
        high=high,
        per_sequence=own.values if own.of_sequences else None,
        control=None if control is None else _mean(control.values),
        ceiling=ceiling,
        floor=floor,
        uniform=uniform,
        n_counted=own.n_counted,
        reason=own.reason,
    )


def _mean(values: Array) -> Array:
    """The mean over sequences that have a value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no sequence has one: NaN is meant
        return np.asarray(np.nanmean(values, axis=0))


def _interval(values: Float[Array, "seq layer head"], seed: int) -> tuple[Array, Array]:
    """95% bootstrap interval of the mean over sequences; NaN with fewer than two."""
    has_value = ~np.isnan(values).all((1, 2))
    some = values[has_value]
    if len(some) < 2:
        return _nowhere(values)
    draws = np.random.default_rng(seed).integers(len(some), size=(_N_RESAMPLES, len(some)))
    weights = np.stack([np.bincount(draw, minlength=len(some)) for draw in draws]) / len(some)
    means = (weights @ some.reshape(len(some), -1)).reshape(_N_RESAMPLES, *some.shape[1:])
    low, high = np.quantile(means, (0.025, 0.975), axis=0)
    return low, high


def _nowhere(values: Array) -> tuple[Array, Array]:
    return np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
