"""What a lens found in one prompt: a small table of figures, never the full vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Parity:
    """How far the head, applied by the lens to the last block's output, is from the model's logits.

    ``max_abs`` is the largest difference over positions and vocabulary, ``scale`` the largest
    logit, ``n_same_top1`` of ``n_positions`` positions have the same most likely token.
    """

    max_abs: float
    scale: float
    n_same_top1: int
    n_positions: int

    @property
    def ok(self) -> bool:
        """The lens reads the last state as the model itself does, up to rounding."""
        return self.max_abs <= 1e-4 * max(1.0, self.scale) and self.n_same_top1 == self.n_positions


@dataclass(frozen=True, eq=False)
class LensResult:
    """One prompt through a lens: rows are states (the earliest first), columns its tokens.

    Shapes: R rows, T positions, k guesses, m tracked tokens a position, n targets.
    Log-probabilities, entropy and divergences are in nats. The *final answer* of a position is the
    model's own most likely next token there, *final* its distribution; *next* is the prompt's own
    next token, so the last column of those is NaN (0 for ranks). Ranks count from 1 and give ties
    the better place. ``tracked_ids[t]`` are the tokens that are the best guess of some row at that
    position, the final answer first, then by highest probability; unused places hold -1.
    """

    model_name: str
    lens_name: str
    site: str
    row_layers: tuple[int, ...]  # block of each row; -1 is the embedding, before block 0
    token_ids: Array  # [T]
    final_ids: Array  # [T]
    top_ids: Array  # [R, T, k]
    top_logprobs: Array  # [R, T, k]
    entropy_nats: Array  # [R, T]
    kl_nats: Array  # [R, T] KL(final || row)
    kl_reverse_nats: Array  # [R, T] KL(row || final)
    js_nats: Array  # [R, T] Jensen-Shannon divergence, at most ln 2
    total_variation: Array  # [R, T] half the L1 distance, at most 1
    final_ranks: Array  # [R, T]
    final_logprobs: Array  # [R, T]
    next_ranks: Array  # [R, T]
    next_logprobs: Array  # [R, T]; its negative is the cross-entropy
    state_norms: Array  # [R, T] Euclidean length of the state itself, before any transport
    final_cosines: Array  # [R, T] cosine of the state and the last one
    tracked_ids: Array  # [T, m]
    tracked_logprobs: Array  # [R, T, m]
    target_ids: tuple[int, ...]
    target_logprobs: Array  # [R, T, n]
    target_ranks: Array  # [R, T, n]
    parity: Parity
    d_vocab: int
    texts: Mapping[int, str]  # of every token id that occurs above
    provenance: Mapping[str, Any] = field(default_factory=dict)  # of the lens

    @property
    def row_labels(self) -> tuple[str, ...]:
        """``embed`` for the state before block 0, else the block's index, counted from 0."""
        return tuple("embed" if layer < 0 else str(layer) for layer in self.row_layers)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The prompt's tokens as text."""
        return tuple(self.texts[int(i)] for i in self.token_ids)

    @property
    def top_probs(self) -> Array:
        """Probabilities of the k best guesses, [R, T, k]."""
        return np.exp(self.top_logprobs)

    @property
    def echoes(self) -> Array:
        """Where the best guess is the token that was just read, bool [R, T]."""
        return np.asarray(self.top_ids[:, :, 0] == self.token_ids[None, :])

    def first_hit(self, position: int = -1) -> int | None:
        """Block after which the final answer is first the best guess; None if in no row."""
        hits = np.flatnonzero(self.top_ids[:, position, 0] == self.final_ids[position])
        return self.row_layers[int(hits[0])] if hits.size else None

    def prediction_depth(self, position: int = -1) -> int | None:
        """Block from whose output on the final answer stays best guess; None if it never does.

        Baldock et al. 2021 (arXiv 2106.09647), as Belrose et al. 2023 use it.
        """
        other = np.flatnonzero(self.top_ids[:, position, 0] != self.final_ids[position])
        start = int(other[-1]) + 1 if other.size else 0
        return self.row_layers[start] if start < len(self.row_layers) else None

    def soft_depth(self, position: int = -1, *, kl_below_nats: float = 1.0) -> int | None:
        """Block after which the reading is first this close to the final one; None if never."""
        close = np.flatnonzero(self.kl_nats[:, position] < kl_below_nats)
        return self.row_layers[int(close[0])] if close.size else None

    def flips(self, position: int = -1) -> int:
        """How often the best guess changes from row to row."""
        best = self.top_ids[:, position, 0]
        return int((best[1:] != best[:-1]).sum())

    def log_odds(self, target_id: int, foil_id: int) -> Array:
        """Log-probability of one target minus that of another, [R, T] (the logit difference)."""
        place = self.target_ids.index
        return np.asarray(
            self.target_logprobs[:, :, place(target_id)]
            - self.target_logprobs[:, :, place(foil_id)]
        )

    def trajectories(self, position: int = -1) -> dict[int, Array]:
        """Probability of each tracked and target token at one position, from row to row."""
        tracked = {
            int(i): np.exp(self.tracked_logprobs[:, position, j])
            for j, i in enumerate(self.tracked_ids[position])
            if i >= 0
        }
        for j, i in enumerate(self.target_ids):
            tracked.setdefault(i, np.exp(self.target_logprobs[:, position, j]))
        return tracked

    def summary(self, *, kl_below_nats: float = 1.0) -> pd.DataFrame:
        """One line a position: first hit, prediction depth, soft depth, flips, echoes."""
        import pandas as pd

        positions = range(len(self.token_ids))
        return pd.DataFrame(
            {
                "position": list(positions),
                "token": self.tokens,
                "final_answer": [self.texts[int(i)] for i in self.final_ids],
                "first_hit": _layers(self.first_hit(t) for t in positions),
                "prediction_depth": _layers(self.prediction_depth(t) for t in positions),
                "soft_depth": _layers(
                    self.soft_depth(t, kl_below_nats=kl_below_nats) for t in positions
                ),
                "flips": [self.flips(t) for t in positions],
                "echoes": self.echoes.sum(0),
            }
        )

    def to_frame(self) -> pd.DataFrame:
        """One line a cell: every figure of the grid, and the k best guesses."""
        import pandas as pd

        n_rows, n_positions, k = self.top_ids.shape
        row, position = (i.ravel() for i in np.indices((n_rows, n_positions)))
        columns: dict[str, Any] = {
            "lens": self.lens_name,
            "site": self.site,
            "layer": np.array(self.row_layers)[row],
            "row": np.array(self.row_labels)[row],
            "position": position,
            "token": [self.tokens[t] for t in position],
            "final_answer": [self.texts[int(self.final_ids[t])] for t in position],
            "final_answer_rank": self.final_ranks.ravel(),
            "final_answer_prob": np.exp(self.final_logprobs).ravel(),
            "entropy_nats": self.entropy_nats.ravel(),
            "kl_nats": self.kl_nats.ravel(),
            "kl_reverse_nats": self.kl_reverse_nats.ravel(),
            "js_nats": self.js_nats.ravel(),
            "total_variation": self.total_variation.ravel(),
            "cross_entropy_nats": -self.next_logprobs.ravel(),
            "next_token_rank": self.next_ranks.ravel(),
            "state_norm": self.state_norms.ravel(),
            "cosine_to_last": self.final_cosines.ravel(),
        }
        for place in range(k):
            ids = self.top_ids[:, :, place].ravel()
            columns[f"top{place + 1}"] = [self.texts[int(i)] for i in ids]
            columns[f"top{place + 1}_prob"] = self.top_probs[:, :, place].ravel()
        for j, i in enumerate(self.target_ids):
            columns[f"prob of {self.texts[i]!r}"] = np.exp(self.target_logprobs[:, :, j]).ravel()
        return pd.DataFrame(columns)


def _layers(depths: Any) -> pd.Series:
    import pandas as pd

    return pd.Series(list(depths), dtype="Int64")
