"""The states that a lens is trained on: read from the model, batch by batch, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_core.model.errors import UnsupportedModelError

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens.training.recipe import TunedRecipe

Tokens = Int[Tensor, "row pos"]
States = Float[Tensor, "depth row pos d_model"]


def head_device(model: HookedModel) -> torch.device:
    """Where the head is, and so the lens; of a model laid over devices, the last one."""
    try:
        return model.W_U.device
    except UnsupportedModelError:  # offloaded: comes to where the inputs are
        return model.cfg.device


@torch.no_grad()
def read_states(model: HookedModel, tokens: Tokens, dtype: torch.dtype) -> States:
    """The states of every depth, the last one included, in fp32.

    In bf16 the products inside the blocks are bf16; what the blocks write is still summed in the
    residual stream's own precision.
    """
    n_layers = model.cfg.n_layers
    names: list[tuple[str, int]] = [("resid_pre", 0)]
    names += [("resid_post", layer) for layer in range(n_layers)]
    kind, device = model.cfg.device.type, head_device(model)
    reduced = dtype == torch.bfloat16 and model.cfg.dtype == torch.float32
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=reduced):
        _, cache = model.run_with_cache(
            tokens, names, stop_at_layer=n_layers, attention_mask=torch.ones_like(tokens)
        )
    return torch.stack([cache[name].to(device, torch.float32) for name in names])


def counted_positions(
    model: HookedModel, tokens: Tokens, shift: int = 0
) -> Bool[Tensor, "row pos"]:
    """The positions whose states enter a loss.

    Not the first of a row, nor BOS anywhere: their states are of another size and their predictions
    mean nothing. Not those whose target, ``shift`` positions on, is outside the row.
    """
    counted = torch.ones_like(tokens, dtype=torch.bool)
    counted[:, 0] = False
    if model.bos_id is not None:
        counted &= tokens != model.bos_id
    if shift > 0:
        counted[:, -shift:] = False
    elif shift < 0:
        counted[:, :-shift] = False
    return counted


class RowOrder:
    """Which rows each step sees: every row once an epoch, each epoch in an order of its own.

    It depends on nothing but the seed and the step, so that a run can be entered anywhere.
    """

    def __init__(self, n_rows: int, rows_per_step: int, seed: int) -> None:
        self.n_rows, self.rows_per_step, self.seed = n_rows, rows_per_step, seed
        self._epochs: dict[int, Tensor] = {}

    def at(self, step: int) -> Int[Tensor, " row"]:
        """The numbers of the rows of a step."""
        places = range(step * self.rows_per_step, (step + 1) * self.rows_per_step)
        return torch.stack([self._epoch(i // self.n_rows)[i % self.n_rows] for i in places])

    def _epoch(self, epoch: int) -> Int[Tensor, " row"]:
        if epoch not in self._epochs:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epochs = {k: v for k, v in self._epochs.items() if k == epoch - 1} | {
                epoch: torch.randperm(self.n_rows, generator=generator)
            }
        return self._epochs[epoch]


class StateSource:
    """States of rows, from the model or from memory.

    Rows are kept where they fit and are used twice or more; they are then all read at the start, in
    the same batches every time, so that a resumed run sees the same bits.
    """

    def __init__(
        self, model: HookedModel, tokens: Tokens, recipe: TunedRecipe, dtype: torch.dtype
    ) -> None:
        self.model, self.dtype = model, dtype
        self.tokens = tokens
        self.rows_per_pass = max(1, recipe.tokens_per_pass // tokens.shape[1])
        self.kept: States | None = None
        if self._is_worth_keeping(recipe):
            parts = [
                read_states(model, rows, dtype).cpu() for rows in tokens.split(self.rows_per_pass)
            ]
            self.kept = torch.cat(parts, dim=1)

    def _is_worth_keeping(self, recipe: TunedRecipe) -> bool:
        cfg = self.model.cfg
        n_bytes = self.tokens.numel() * (cfg.n_layers + 1) * cfg.d_model * 4
        times_used = recipe.steps * recipe.tokens_per_step / self.tokens.numel()
        return times_used >= 2 and n_bytes <= recipe.harvest_gb * 1e9

    def passes(self, numbers: Int[Tensor, " row"]) -> Iterator[tuple[Tokens, States]]:
        """The rows with these numbers and their states, a pass at a time."""
        device = head_device(self.model)
        for part in numbers.split(self.rows_per_pass):
            tokens = self.tokens[part]
            if self.kept is not None:
                states = self.kept[:, part].to(device)
            else:
                states = read_states(self.model, tokens, self.dtype)
            yield tokens.to(device), states
