"""The held-out KL of a lens, by the path that every other figure of this library takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lens_core.lens.head import head_logits, position_chunks
from lens_core.lens.statistics import kl_nats
from lens_core.lens.training.states import counted_positions, read_states

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens.corpus import Rows
    from lens_core.lens.transports import Transport


@torch.no_grad()
def held_out_kl(
    model: HookedModel, lens: Transport, rows: Rows, max_tokens: int
) -> tuple[float, ...]:
    """Mean KL(model || lens) in nats at every depth before the last, in fp32.

    Through the model's own head and not the closed form of training, on states in the model's own
    precision. Depths that the lens does not read are NaN.
    """
    n_layers = model.cfg.n_layers
    sums = torch.zeros(n_layers, dtype=torch.float64)
    count = 0
    n_rows = max(1, max_tokens // rows.tokens.shape[1])
    for tokens in rows.tokens[:n_rows].split(8):
        states = read_states(model, tokens, torch.float32)
        counted = counted_positions(model, tokens.to(states.device))
        final = states[-1][counted]
        count += len(final)
        for chunk in position_chunks(model, len(final)):
            p_log = head_logits(model, final[chunk]).log_softmax(-1)
            for depth in range(n_layers):
                if lens.reads(depth, n_layers):
                    here = lens.carry(model, states[depth][counted][None, chunk], depth)[0]
                    q_log = head_logits(model, here).log_softmax(-1)
                    sums[depth] += kl_nats(p_log, q_log).double().sum().cpu()
                else:
                    sums[depth] = torch.nan
    return tuple((sums / max(count, 1)).tolist())
