"""States and final distributions of some tokens of some rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.lens.errors import LensDataError
from lens_core.lens.head import head_logits, position_chunks
from lens_core.lens.result import Array
from lens_core.lens.transports import Transport

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens.corpus import Rows

BATCH_ROWS = 16


def site_of(depth: int, n_layers: int) -> tuple[str, int]:
    """Where the state of a depth is recorded."""
    return ("resid_post", n_layers - 1) if depth == n_layers else ("resid_pre", depth)


@dataclass(frozen=True, eq=False)
class Sample:
    """Some positions of some rows.

    Attributes:
        rows: Int [token], the row of each.
        positions: Int [token].
        documents: Int [token], for intervals.
    """

    tokens: Int[Tensor, "row n_ctx"]
    rows: Int[Tensor, " token"]
    positions: Int[Tensor, " token"]
    documents: Array

    @classmethod
    def of(cls, model: HookedModel, rows: Rows, n_rows: int, n_positions: int, seed: int) -> Sample:
        """``n_positions`` of each of ``n_rows`` rows, or as many as every row has.

        Not the first position nor BOS, whose states are unlike all others; not the last, which has
        no next token.

        Raises:
            LensDataError: there are fewer than two rows, or one has no such position.
        """
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(rows), generator=generator)[:n_rows].sort().values
        tokens = rows.tokens[chosen]
        allowed = torch.ones_like(tokens, dtype=torch.bool)
        allowed[:, [0, -1]] = False
        if model.bos_id is not None:
            allowed &= tokens != model.bos_id
        n_positions = min(n_positions, int(allowed.sum(1).min()))
        if len(chosen) < 2 or n_positions < 1:
            raise LensDataError(f"{rows.name} is too little text for this; give more rows.")
        order = torch.rand(tokens.shape, generator=generator).masked_fill(~allowed, -1.0)
        return cls(
            tokens=tokens,
            rows=torch.arange(len(chosen)).repeat_interleave(n_positions),
            positions=order.topk(n_positions).indices.sort().values.ravel(),
            documents=rows.documents[chosen].repeat_interleave(n_positions).numpy(),
        )

    def __len__(self) -> int:
        """How many tokens."""
        return len(self.rows)

    def batches(self) -> Iterator[slice]:
        """Slices of the rows."""
        for start in range(0, len(self.tokens), BATCH_ROWS):
            yield slice(start, start + BATCH_ROWS)

    def at(self, states: Float[Tensor, "row pos d"]) -> Float[Tensor, "token d"]:
        """The sampled tokens of something that all rows have."""
        return states[self.rows, self.positions]

    def next_ids(self) -> Int[Tensor, " token"]:
        """The tokens that follow."""
        return self.tokens[self.rows, self.positions + 1]


def states_of(
    model: HookedModel, sample: Sample, depths: Sequence[int]
) -> dict[int, Float[Tensor, "row pos d_model"]]:
    """The states of whole rows at each depth, in fp32."""
    sites = {depth: site_of(depth, model.cfg.n_layers) for depth in depths}
    parts: dict[int, list[Tensor]] = {depth: [] for depth in depths}
    for batch in sample.batches():
        _, cache = model.run_with_cache(
            sample.tokens[batch].to(model.cfg.device),
            names=[*sites.values()],
            last_logits_only=True,
        )
        for depth, site in sites.items():
            parts[depth].append(cache[site].float())
    return {depth: torch.cat(tensors) for depth, tensors in parts.items()}


def final_logprobs(
    model: HookedModel,
    sample: Sample,
    states: Float[Tensor, "row pos d_model"] | None = None,
    depth: int = 0,
) -> Float[Tensor, "token d_vocab"]:
    """What the model says after each sampled token; with ``states``, run on from that depth."""
    n_layers = model.cfg.n_layers
    parts = []
    for batch in sample.batches():
        tokens = sample.tokens[batch].to(model.cfg.device)
        if states is not None and depth == n_layers:
            last = states[batch]
        else:
            site = site_of(n_layers, n_layers)
            _, cache = model.run_with_cache(
                tokens,
                names=[site],
                last_logits_only=True,
                start_at_layer=0 if states is None else depth,
                resid=None if states is None else states[batch],
            )
            last = cache[site]
        inside = (sample.rows >= batch.start) & (sample.rows < batch.start + BATCH_ROWS)
        picked = last[sample.rows[inside] - batch.start, sample.positions[inside]]
        parts.append(_logprobs(model, picked))
    return torch.cat(parts)


def lens_logprobs(
    model: HookedModel, lens: Transport, states: Float[Tensor, "token d_model"], depth: int
) -> Float[Tensor, "token d_vocab"]:
    """What the lens says of states of one depth."""
    return _logprobs(model, lens.carry(model, states[None], depth)[0])


def _logprobs(model: HookedModel, states: Float[Tensor, "token d_model"]) -> Tensor:
    chunks = position_chunks(model, len(states))
    return torch.cat([torch.log_softmax(head_logits(model, states[c]), -1) for c in chunks])
