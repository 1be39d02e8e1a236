"""What each head score is, in words, and as a weight for every cell of a pattern."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ELHAGE = "Elhage et al. 2021, A Mathematical Framework for Transformer Circuits"
OLSSON = "Olsson et al. 2022, In-context Learning and Induction Heads (arXiv 2209.11895)"
XIAO = "Xiao et al. 2023, Efficient Streaming Language Models with Attention Sinks (2309.17453)"
CLARK = "Clark et al. 2019, What Does BERT Look At? (arXiv 1906.04341)"
VIG = "Vig and Belinkov 2019, Analyzing the Structure of Attention (arXiv 1906.04284)"
WANG = "Wang et al. 2022, Interpretability in the Wild (arXiv 2211.00593)"


@dataclass(frozen=True)
class ScoreKind:
    """What a score is: for a heading, a sentence, a formula, and where it comes from.

    In formulas A[q, k] is the attention from position q to k, t the tokens, T their number.
    """

    name: str
    label: str
    definition: str  # one sentence
    formula: str  # in plain text
    source: str  # the paper
    unit: str  # "", "nats" or "positions"
    needs_repeats: bool  # it has no value on text in which no token comes twice


KINDS: dict[str, ScoreKind] = {
    kind.name: kind
    for kind in (
        ScoreKind(
            "previous_token",
            "Previous token",
            "How much attention goes to the token just before.",
            "mean over q >= 1 of A[q, q-1]",
            OLSSON,
            "",
            False,
        ),
        ScoreKind(
            "current_token",
            "Current token",
            "How much attention stays where it is.",
            "mean over q >= 1 of A[q, q]",
            CLARK,
            "",
            False,
        ),
        ScoreKind(
            "first_token",
            "First token",
            "How much attention rests on the first position, where heads with nothing to do look.",
            "mean over q >= 1 of A[q, 0]",
            XIAO,
            "",
            False,
        ),
        ScoreKind(
            "duplicate_token",
            "Duplicate token",
            "How much attention a token that came before gives to its earlier copies.",
            "mean over q with an earlier copy of sum over k < q, t[k] = t[q] of A[q, k]",
            WANG,
            "",
            True,
        ),
        ScoreKind(
            "induction",
            "Induction",
            "How much attention a token that came before gives to what followed its earlier copies"
            " (to what may come next again).",
            "mean over q with an earlier copy of sum over 0 < k <= q, t[k-1] = t[q] of A[q, k]",
            OLSSON,
            "",
            True,
        ),
        ScoreKind(
            "prefix_matching",
            "Prefix matching",
            "The mean weight of the edges from a token to what followed each of its earlier copies;"
            " several copies share the attention, and the ceiling falls.",
            "mean over pairs q, 0 < k <= q, t[k-1] = t[q] of A[q, k]",
            OLSSON,
            "",
            True,
        ),
        ScoreKind(
            "entropy_nats",
            "Entropy",
            "How widely attention is spread: 0 on one token, most when all weigh the same.",
            "mean over q >= 1 of -sum over k of A[q, k] ln A[q, k]",
            CLARK,
            "nats",
            False,
        ),
        ScoreKind(
            "locality",
            "Distance",
            "How far back a head looks on average.",
            "mean over q >= 1 of sum over k of A[q, k] (q - k)",
            VIG,
            "positions",
            False,
        ),
        ScoreKind(
            "copying_eigen",
            "Copying (eigenvalues)",
            "Whether reading a token makes this token likelier: from the weights, over the whole"
            " vocabulary.",
            "sum of the eigenvalues of W_E W_V W_O W_U / sum of their sizes",
            ELHAGE,
            "",
            False,
        ),
        ScoreKind(
            "copying_direct",
            "Copying (direct)",
            "The share of a sequence's tokens that the head, reading them, raises more than every"
            " other token of that sequence.",
            "share of tokens t with (E W_V W_O W_U)[t, t] > (E W_V W_O W_U)[t, s] for all others s",
            OLSSON,
            "",
            False,
        ),
    )
}
WEIGHT_SCORES = ("copying_eigen", "copying_direct")
# Scores that are a weighted sum of a pattern's cells.
LINEAR = (
    "previous_token",
    "current_token",
    "first_token",
    "duplicate_token",
    "induction",
    "prefix_matching",
    "locality",
)


class Cells(NamedTuple):
    """One linear score on some sequences: score of a sequence = sum of pattern * weights.

    ``counted`` is how many queries (for prefix matching: edges) the mean is over; where it is 0 the
    sequence has no value. The limits are those of any pattern that looks only back.
    """

    weights: Float[Tensor, "seq query key"]
    counted: Int[Tensor, " seq"]

    def limits(self) -> tuple[Tensor, Tensor, Tensor]:
        """Least, most, and what even attention gives: [seq] each."""
        visible = torch.ones_like(self.weights[0], dtype=torch.bool).tril()
        least = self.weights.masked_fill(~visible, torch.inf).amin(-1).sum(-1)
        most = self.weights.masked_fill(~visible, -torch.inf).amax(-1).sum(-1)
        even = (self.weights * visible).sum(-1) / visible.sum(-1)
        return least, most, even.sum(-1)


def cells(name: str, tokens: Int[Tensor, "seq pos"]) -> Cells:
    """The weights of one of `LINEAR` on these sequences."""
    n_sequences, length = tokens.shape
    query, key = torch.arange(length)[:, None], torch.arange(length)[None]
    if name in ("previous_token", "current_token", "first_token", "locality"):
        everywhere = {
            "previous_token": (key == query - 1).float(),
            "current_token": (key == query).float(),
            "first_token": (key == 0).expand(length, length).float(),
            "locality": (query - key).clamp(min=0).float(),
        }[name].clone()
        everywhere[0] = 0.0
        counted = torch.full((n_sequences,), length - 1)
        shared = everywhere / max(1, length - 1)
        return Cells(shared.expand(n_sequences, -1, -1), counted)
    earlier = (tokens[:, :, None] == tokens[:, None, :]) & (key < query)
    hits = earlier if name == "duplicate_token" else _followed(earlier)
    counted = hits.sum((1, 2)) if name == "prefix_matching" else hits.any(-1).sum(-1)
    return Cells(hits.float() / counted.clamp(min=1)[:, None, None], counted)


def _followed(earlier: Bool[Tensor, "seq query key"]) -> Bool[Tensor, "seq query key"]:
    """The successors of each query's earlier copies."""
    shifted = torch.zeros_like(earlier)
    shifted[:, :, 1:] = earlier[:, :, :-1]
    return shifted
