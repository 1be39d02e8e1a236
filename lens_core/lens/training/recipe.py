"""What a training run was told to do, and the precision that the machine does well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from lens_core.model.errors import LensError

OptimizerName = Literal["muon", "adamw", "sgd"]
LossName = Literal["kl", "ce"]
DtypeName = Literal["auto", "float32", "bfloat16"]


class RecipeError(LensError):
    """A recipe that cannot be followed."""


@dataclass(frozen=True)
class TunedRecipe:
    """How to train a tuned lens.

    Attributes:
        steps, tokens_per_step: the token budget is their product; rows are gone through again, in
            another order, as often as it takes.
        loss: "kl" to the model's own final distribution, or "ce" to the tokens themselves.
        token_shift: a state is compared with what is so many positions later; None is 0 for "kl"
            and 1 (the next token) for "ce".
        bias_only: translators that only add a vector.
        optimizer: "muon" for the matrices with AdamW at its rate for the biases; "adamw"; or
            "sgd", with Nesterov momentum, as the published lenses had.
        lr_scale: multiplies the optimiser's own rate: 1 - momentum for "sgd" (so that a steady
            gradient moves a weight at rate 1), 1e-3 for "adamw", `optimizers.MUON_RATE` for "muon".
            The rate falls linearly to 0.
        warmup_steps: steps of rising rate; None is none for "sgd" and a fifth of the run, at most
            1000 steps, for the others.
        clip: largest norm of the gradient; of each depth by itself ("depth"), or of all together
            ("all", as published, where one depth's large gradient slows every other).
        dtype: of the head's products and of the model's forward pass; "auto" is bf16 where the
            machine has it. Translators, their gradients and all statistics are fp32 always.
        tokens_per_pass: tokens that go through the model at once, a limit on memory.
        harvest_gb: the states of all rows are kept in memory if they fit and are used twice or
            more; 0 runs the model every time.
        held_out: share of the documents held out where no held-out rows are given.
        held_out_tokens: tokens on which the held-out KL is measured.
        held_out_every: steps between measurements; 0 measures before and after only.
        checkpoint_every: steps between checkpoints.
        seed: of the order of rows.
    """

    steps: int = 250
    tokens_per_step: int = 2**13
    loss: LossName = "kl"
    token_shift: int | None = None
    bias_only: bool = False
    optimizer: OptimizerName = "muon"
    lr_scale: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 1e-3
    warmup_steps: int | None = None
    clip: float = 1.0
    clip_over: Literal["depth", "all"] = "depth"
    dtype: DtypeName = "auto"
    tokens_per_pass: int = 2**12
    harvest_gb: float = 2.0
    held_out: float = 0.1
    held_out_tokens: int = 2**12
    held_out_every: int = 0
    checkpoint_every: int = 25
    seed: int = 42

    def __post_init__(self) -> None:
        """Raise RecipeError for values that mean nothing."""
        for name in ("steps", "tokens_per_step", "tokens_per_pass", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is at least 1, not {getattr(self, name)}.")
        if self.optimizer not in get_args(OptimizerName):
            raise RecipeError(f"The optimisers are muon, adamw and sgd, not {self.optimizer!r}.")
        if self.loss not in get_args(LossName):
            raise RecipeError(f"The losses are kl and ce, not {self.loss!r}.")
        if self.dtype not in get_args(DtypeName):
            raise RecipeError(f"dtype is auto, float32 or bfloat16, not {self.dtype!r}.")

    @property
    def shift(self) -> int:
        """Positions between a state and what it is compared with."""
        if self.token_shift is not None:
            return self.token_shift
        return 0 if self.loss == "kl" else 1

    @property
    def warmup(self) -> int:
        """Steps of rising rate."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return 0 if self.optimizer == "sgd" else min(self.steps // 5, 1000)


def resolve_dtype(name: DtypeName, device: torch.device | str) -> torch.dtype:
    """The precision of products on a device: bf16 only where it is made in hardware."""
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    kind = torch.device(device).type
    if kind == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported()
    elif kind == "cpu":
        # torch has no public question for these two.
        has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        has_bf16 = False
    return torch.bfloat16 if has_bf16 else torch.float32
