"""What a cell of a lens can be coloured by, each with one fixed range for every page.

Strong colour always means *closer to a settled answer*: a high probability, a good rank, few bits
of entropy, a small divergence from the final output. So switching never turns the picture over.
What can be negative has two colours that meet at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lens_core.lens import LensResult

Array = np.ndarray[Any, Any]
NATS_PER_BIT = float(np.log(2.0))
# Divergences have no upper end; their scale has half its colour here, for every model.
_HALF_KL_NATS, _HALF_ODDS_NATS, _HALF_LOSS_NATS = 1.0, 3.0, 2.0


@dataclass(frozen=True)
class Aim:
    """The token that a quantity is about, and the one that it is weighed against.

    ``target`` is ``"final"`` (the model's own answer at each position), ``"next"`` (the prompt's
    own next token) or the id of a token that the result followed (``LensResult.target_ids``), as
    ``foil`` is.
    """

    target: Literal["final", "next"] | int = "final"
    foil: int | None = None

    def logprobs(self, lens: LensResult) -> Array:
        """Log-probability of the target, [R, T]; NaN where there is no next token."""
        if self.target == "final":
            return lens.final_logprobs
        if self.target == "next":
            return lens.next_logprobs
        return np.asarray(lens.target_logprobs[:, :, lens.target_ids.index(self.target)])

    def ranks(self, lens: LensResult) -> Array:
        """Rank of the target, from 1, [R, T]; NaN where there is no next token."""
        if self.target == "final":
            return lens.final_ranks.astype(float)
        if self.target == "next":
            return np.where(lens.next_ranks > 0, lens.next_ranks, np.nan)
        return np.asarray(lens.target_ranks[:, :, lens.target_ids.index(self.target)], float)

    def log_odds(self, lens: LensResult) -> Array:
        """Log-probability of the target minus that of the foil, [R, T]; NaN without a foil."""
        if self.foil is None:
            return np.full(lens.entropy_nats.shape, np.nan)
        foil = lens.target_logprobs[:, :, lens.target_ids.index(self.foil)]
        return np.asarray(self.logprobs(lens) - foil)


FINAL_ANSWER = Aim()


@dataclass(frozen=True)
class Quantity:
    """One figure a cell: its name, its values, how they become a shade and how they are written.

    ``shade(values, d_vocab)`` is in [0, 1]: 1 is the strongest colour of a sequential scale, 0.5
    the zero of a diverging one, NaN no value. ``ticks(d_vocab)`` are written under the scale.
    """

    key: str
    label: str
    unit: str
    explain: str
    values: Callable[[LensResult, Aim], Array]
    shade: Callable[[Array, int], Array]
    write: Callable[[float], str]
    write_tick: Callable[[float], str]
    ticks: Callable[[int], tuple[float, ...]]
    diverging: bool = False

    def of(self, lens: LensResult, aim: Aim = FINAL_ANSWER) -> Array:
        """The values of a result, [R, T]."""
        return self.values(lens, aim)


def _percent(value: float) -> str:
    return "<1%" if 0 < value < 0.01 else f"{value:.0%}"


def _count(value: float) -> str:
    return f"{int(value):,}".replace(",", "\N{THIN SPACE}")


def _two_places(value: float) -> str:
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _signed(value: float) -> str:
    return _two_places(value) if value <= 0 else f"+{_two_places(value)}"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _short_signed(value: float) -> str:
    return f"{value:+.3g}" if value else "0"


def _rank_ticks(d_vocab: int) -> tuple[float, ...]:
    # A power of ten that nearly is the whole vocabulary would be written over its end.
    return (*(float(n) for n in (1, 10, 100, 1000, 10_000) if 4 * n < d_vocab), float(d_vocab))


def _falling(half: float) -> Callable[[Array, int], Array]:
    """Full colour at zero, half of it at ``half``, none at infinity."""
    return lambda values, d_vocab: half / (half + np.maximum(values, 0))


def _odds_shade(values: Array, d_vocab: int) -> Array:
    odds = np.asarray(values, float)
    finite = np.clip(odds, -1e9, 1e9)
    return 0.5 + 0.5 * finite / (_HALF_ODDS_NATS + np.abs(finite))


_KL_TICKS = (0.0, 0.5, 1.0, 2.0, 5.0)


def _divergence(
    key: str, label: str, explain: str, values: Callable[[LensResult, Aim], Array]
) -> Quantity:
    return Quantity(
        key, label, "nats", explain, values, _falling(_HALF_KL_NATS), _two_places, _short,
        lambda d_vocab: _KL_TICKS,
    )  # fmt: skip


QUANTITIES = {
    quantity.key: quantity
    for quantity in (
        Quantity(
            "probability",
            "Probability",
            "",
            "How much probability the best guess of this cell has, from 0 to 100%.",
            lambda lens, aim: lens.top_probs[:, :, 0],
            lambda values, d_vocab: np.clip(values, 0, 1),
            _percent,
            _percent,
            lambda d_vocab: (0.0, 0.25, 0.5, 0.75, 1.0),
        ),
        Quantity(
            "target probability",
            "Log-probability of the target",
            "nats",
            "How likely the target token is here, as the natural logarithm of its probability: "
            "0 is certain, -2.3 is 10%, -6.9 is 0.1%.",
            lambda lens, aim: aim.logprobs(lens),
            lambda values, d_vocab: np.clip(1 + np.maximum(values, -1e9) / np.log(d_vocab), 0, 1),
            _two_places,
            _short,
            lambda d_vocab: (-8.0, -4.0, -2.0, 0.0),
        ),
        Quantity(
            "rank",
            "Rank of the target",
            "",
            "Where the target token stands among all tokens here; 1 is first. Logarithmic.",
            lambda lens, aim: aim.ranks(lens),
            lambda values, d_vocab: np.clip(1 - np.log(values) / np.log(d_vocab), 0, 1),
            _count,
            _count,
            _rank_ticks,
        ),
        Quantity(
            "entropy",
            "Entropy",
            "bits",
            "How undecided this cell is: 0 bits is one certain token, each bit doubles the number "
            "of equally likely ones.",
            lambda lens, aim: lens.entropy_nats / NATS_PER_BIT,
            lambda values, d_vocab: np.clip(1 - values / np.log2(d_vocab), 0, 1),
            _two_places,
            _short,
            lambda d_vocab: (0.0, 2.0, 4.0, 8.0, float(np.log2(d_vocab))),
        ),
        _divergence(
            "KL",
            "KL to the final output",
            "How far the model's output is from this cell's distribution, KL(output || cell): 0 is "
            "the same. What a tuned lens is trained to make small.",
            lambda lens, aim: np.maximum(lens.kl_nats, 0),
        ),
        _divergence(
            "reverse KL",
            "Reverse KL to the final output",
            "KL(cell || output): large where the cell believes in something that the output rules "
            "out.",
            lambda lens, aim: np.maximum(lens.kl_reverse_nats, 0),
        ),
        Quantity(
            "JS",
            "Jensen-Shannon divergence",
            "nats",
            "How far this cell and the output both are from their mean; symmetric, at most "
            "ln 2 = 0.69.",
            lambda lens, aim: lens.js_nats,
            lambda values, d_vocab: np.clip(1 - values / NATS_PER_BIT, 0, 1),
            _two_places,
            _short,
            lambda d_vocab: (0.0, 0.2, 0.4, NATS_PER_BIT),
        ),
        Quantity(
            "total variation",
            "Total variation",
            "",
            "The share of probability that would have to move for this cell to become the output; "
            "at most 1.",
            lambda lens, aim: lens.total_variation,
            lambda values, d_vocab: np.clip(1 - values, 0, 1),
            _two_places,
            _short,
            lambda d_vocab: (0.0, 0.25, 0.5, 0.75, 1.0),
        ),
        Quantity(
            "cross-entropy",
            "Cross-entropy to the next token",
            "nats",
            "How surprised this cell is by the token that really follows in the prompt; nothing "
            "follows the last one.",
            lambda lens, aim: -lens.next_logprobs,
            _falling(_HALF_LOSS_NATS),
            _two_places,
            _short,
            lambda d_vocab: (0.0, 1.0, 2.0, 4.0, 8.0),
        ),
        Quantity(
            "target minus foil",
            "Target minus foil",
            "nats",
            "Log-probability of the target minus that of the foil, which is their logit "
            "difference: above zero the target is ahead.",
            lambda lens, aim: aim.log_odds(lens),
            _odds_shade,
            _signed,
            _short_signed,
            lambda d_vocab: (-10.0, -2.0, 0.0, 2.0, 10.0),
            diverging=True,
        ),
    )
}


def difference_shade(quantity: Quantity, first: Array, second: Array, d_vocab: int) -> Array:
    """How much closer to a settled answer the second is: 0.5 is no difference, in [0, 1]."""
    return 0.5 + 0.5 * (quantity.shade(second, d_vocab) - quantity.shade(first, d_vocab))
