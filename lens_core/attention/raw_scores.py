"""Head scores as they are measured: one value a sequence, before means and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lens_core.attention.copying import copying_eigenvalues, copying_in_sample
from lens_core.attention.kinds import KINDS, LINEAR, Cells, cells
from lens_core.attention.paths import Embedding
from lens_core.model.errors import LensError

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.interventions import Intervention

Array = np.ndarray[Any, Any]
# Pattern numbers that are held at a time.
_HELD_NUMBERS = 2**26


@dataclass(frozen=True, eq=False)
class RawScore:
    """A score before it is summarised: one value a sequence, or one for all."""

    values: Array  # [S, L, H]; [1, L, H] from weights alone
    limits: Array  # [S, 3] floor, ceiling, uniform
    n_counted: int
    reason: str | None = None
    of_sequences: bool = True


def pattern_scores(
    model: HookedModel,
    rows: Sequence[Int[Tensor, " pos"]],
    names: Sequence[str],
    edits: Sequence[Intervention],
) -> dict[str, RawScore]:
    """Scores of patterns, the sequences of one length in one pass (as far as memory allows)."""
    if not names:
        return {}
    cfg = model.cfg
    shape = (len(rows), cfg.n_layers, cfg.n_heads)
    values = {name: np.full(shape, np.nan) for name in names}
    limits = {name: np.full((len(rows), 3), np.nan) for name in names}
    counts = dict.fromkeys(names, 0)
    for length in sorted({len(row) for row in rows}):
        where = [number for number, row in enumerate(rows) if len(row) == length]
        size = max(1, _HELD_NUMBERS // (cfg.n_layers * cfg.n_heads * length**2))
        for start in range(0, len(where), size):
            some = where[start : start + size]
            tokens = torch.stack([rows[number] for number in some])
            weighed = {name: cells(name, tokens.cpu()) for name in names if name in LINEAR}
            for name, got in _one_pass(model, tokens, weighed, edits).items():
                if name in names:
                    values[name][some] = got
            for name in names:
                counts[name] += _limit(name, weighed, length, some, limits[name])
    for name in names:
        # Where a sequence has nothing to count there is no value, not a value of 0.
        values[name][np.isnan(limits[name][:, 0])] = np.nan
    return {
        name: RawScore(values[name], limits[name], n, _why(name, n)) for name, n in counts.items()
    }


def _one_pass(
    model: HookedModel,
    tokens: Int[Tensor, "seq pos"],
    weighed: Mapping[str, Cells],
    edits: Sequence[Intervention],
) -> dict[str, Array]:
    """All scores of all heads on sequences of one length: [seq, layer, head] by name."""
    n_layers = model.cfg.n_layers
    with torch.no_grad():
        _, cache = model.run_with_cache(
            tokens,
            "pattern",
            edits,
            attention_mask=torch.ones_like(tokens),
            last_logits_only=True,
        )
        by_cell = None
        if weighed:
            stacked = torch.stack([part.weights for part in weighed.values()], dim=-1)
            by_cell = stacked.flatten(1, 2).to(model.cfg.device)
        linear, entropy = [], []
        for layer in range(n_layers):
            pattern = cache["pattern", layer].float()
            if by_cell is not None:
                linear.append(torch.bmm(pattern.flatten(2), by_cell))
            entropy.append(torch.special.entr(pattern[:, :, 1:]).sum(-1).mean(-1))
    found = {"entropy_nats": torch.stack(entropy, dim=1).double().cpu().numpy()}
    if linear:
        columns = torch.stack(linear, dim=1).double().cpu().numpy()
        found |= {name: columns[..., column] for column, name in enumerate(weighed)}
    return found


def _limit(
    name: str, weighed: Mapping[str, Cells], length: int, rows: list[int], limits: Array
) -> int:
    """Fill in what these sequences allow at least, at most, and evenly; say how many count."""
    if name in LINEAR:
        part = weighed[name]
        has_value = part.counted > 0
        columns = torch.stack(part.limits(), dim=-1).double()
        limits[rows] = columns.masked_fill(~has_value[:, None], torch.nan).numpy()
        return int(part.counted.sum())
    if length > 1:
        even = float(np.log(np.arange(2, length + 1)).mean())
        limits[rows] = (0.0, even, even)
    return len(rows) * (length - 1)


def _why(name: str, counted: int) -> str | None:
    if counted:
        return None
    if KINDS[name].needs_repeats:
        return "No token comes twice in this text."
    return "One token alone has nothing to look back at."


def weight_score(
    model: HookedModel, rows: Sequence[Int[Tensor, " pos"]], name: str, embedding: Embedding
) -> RawScore:
    """Copying, read from the weights; without a value where they cannot be read."""
    shape = (1, model.cfg.n_layers, model.cfg.n_heads)
    try:
        if name == "copying_eigen":
            score = copying_eigenvalues(model, embedding=embedding).score
            limits = np.array([[-1.0, 1.0, np.nan]])
            return RawScore(score[None], limits, model.cfg.d_vocab, of_sequences=False)
        samples = [row[row != (-1 if model.bos_id is None else model.bos_id)] for row in rows]
        samples = [ids for row in samples if len(ids := row.unique())]
        if not samples:
            return RawScore(
                np.full(shape, np.nan), np.full((1, 3), np.nan), 0, "There is no token."
            )
        shares = copying_in_sample(model, samples, embedding=embedding).double().numpy()
        sizes = np.array([len(ids) for ids in samples])
        limits = np.stack([0.0 * sizes, sizes / sizes, 1.0 / sizes], axis=-1)
        return RawScore(shares, limits, int(sizes.sum()))
    except LensError as error:
        return RawScore(np.full(shape, np.nan), np.full((1, 3), np.nan), 0, str(error))
