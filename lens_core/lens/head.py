"""The one head of every lens: the model's own final norm and unembedding, nothing of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from lens_core import HookedModel

# Logits are made for this many numbers at a time, so that a long prompt on a model with a large
# vocabulary needs 64 MB for them and not gigabytes.
CHUNK_NUMBERS = 2**24


def head_logits(
    model: HookedModel, states: Float[Tensor, "*batch pos d_model"]
) -> Float[Tensor, "*batch pos d_vocab"]:
    """Logits of states as if they were the last ones, in fp32.

    The norm's statistics are computed for each state anew; soft-cap, scale and bias are the
    model's. Softmax and all figures are made in fp32: half precision underflows below 6e-8.
    """
    if states.dim() == 2:
        # The head gets the batch axis that the model itself gives it.
        return head_logits(model, states[None])[0]
    return model.unembed(model.ln_final(states.to(model.cfg.dtype))).float()


def position_chunks(model: HookedModel, n_positions: int) -> Iterator[slice]:
    """Slices of the positions, each with at most `CHUNK_NUMBERS` logits."""
    size = max(1, CHUNK_NUMBERS // model.cfg.d_vocab)
    for start in range(0, n_positions, size):
        yield slice(start, start + size)
