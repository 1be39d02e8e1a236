"""Train the affine translators of a tuned lens (Belrose et al. 2023, arXiv 2303.08112)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_core.lens.corpus import Rows, split_rows
from lens_core.lens.errors import LensDataError, LensMismatchError
from lens_core.lens.identity import weights_sha256
from lens_core.lens.training.checkpoint import Checkpoint
from lens_core.lens.training.distributed import Group
from lens_core.lens.training.held_out import held_out_kl
from lens_core.lens.training.objective import Targets, head_losses, training_head
from lens_core.lens.training.optimizers import LensOptimizer, clip_gradients
from lens_core.lens.training.provenance import provenance_of, translator_figures
from lens_core.lens.training.recipe import RecipeError, TunedRecipe, resolve_dtype
from lens_core.lens.training.states import RowOrder, StateSource, counted_positions, head_device
from lens_core.lens.transports import TunedLens

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

OnTrainStep = Callable[[int, int, tuple[float, ...]], None]
Losses = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class TunedTraining:
    """A trained lens and how it came about. Losses and KL are in nats, one for each depth.

    Attributes:
        losses: of every step, before that step moved the lens.
        held_out_kl: by the number of steps done; 0 is the lens as it began (the logit lens unless
            training went on from another).
        tokens_per_step: tokens of a step, those that enter no loss included.
        tokens_per_second: of the steps that this process ran, measurements left out.
    """

    lens: TunedLens
    losses: tuple[Losses, ...]
    held_out_kl: dict[int, Losses]
    tokens_per_step: int
    tokens_per_second: float

    def to_frame(self) -> pd.DataFrame:
        """One row a step and depth; ``held_out_kl_nats`` where it was measured after that step."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "step": step,
                    "tokens": step * self.tokens_per_step,
                    "depth": depth,
                    "loss_nats": self.losses[step - 1][depth] if step else float("nan"),
                    "held_out_kl_nats": self.held_out_kl.get(step, {depth: float("nan")})[depth],
                }
                for step in range(len(self.losses) + 1)
                for depth in range(len(self.lens.bias))
            ]
        )


def train_tuned(
    model: HookedModel,
    rows: Rows,
    recipe: TunedRecipe | None = None,
    *,
    held_out: Rows | None = None,
    out: str | Path | None = None,
    on_step: OnTrainStep | None = None,
    init: TunedLens | None = None,
) -> TunedTraining:
    """Train one translator for each depth before the last, from the logit lens on.

    The model is frozen and its final norm and head are used as they are. Every depth has its own
    loss; none sees another's.

    Args:
        rows: text to train on; without ``held_out`` a share of its documents is held out first.
        out: folder of checkpoints. A run that was killed goes on from the last one, and ends with
            the same bits as if it had not been.
        on_step: ``on_step(done, total, losses)`` after each step, with the loss at every depth in
            nats; what it raises ends the work, with a checkpoint written if there is a folder.
        init: begin with this lens instead of zeros.

    Raises:
        RecipeError: a recipe that cannot be followed, or a folder that holds another run.
        LensDataError: too little text.
        LensMismatchError: ``init`` was made for another model.

    Example:
        >>> training = train_tuned(model, rows, TunedRecipe(steps=100))  # doctest: +SKIP
        >>> training.held_out_kl[0], training.held_out_kl[100]  # doctest: +SKIP
    """
    recipe = recipe or TunedRecipe()
    if held_out is None:
        rows, held_out = split_rows(rows, recipe.held_out)
    trainer = _Trainer(model, rows, held_out, recipe, out, init)
    trainer.run(on_step)
    return trainer.result()


class _Trainer:
    """The state of one run."""

    def __init__(
        self,
        model: HookedModel,
        rows: Rows,
        held_out: Rows,
        recipe: TunedRecipe,
        out: str | Path | None,
        init: TunedLens | None,
    ) -> None:
        self.model, self.rows, self.held_out, self.recipe = model, rows, held_out, recipe
        self.device = head_device(model)
        self.group = Group.current(self.device)
        self.dtype = resolve_dtype(recipe.dtype, self.device)
        self.rows_per_step = _rows_per_step(recipe, rows, self.group.size)
        self.weights, self.biases = _translators(model, recipe, init, self.device)
        self.optimizer = LensOptimizer(recipe, self.weights, self.biases)
        self.step = 0
        self.losses: list[Losses] = []
        self.measured: dict[int, Losses] = {}
        self.seconds, self.n_timed = 0.0, 0
        identity = {
            "recipe": asdict(recipe),
            "model": weights_sha256(model),
            "corpus": rows.sha256,
            "start": _fingerprint(init),
        }
        self.checkpoint = None if out is None else Checkpoint(out, identity)
        self._resume()

    @property
    def lens(self) -> TunedLens:
        """The lens as it stands, sharing no memory with the run."""
        weight = torch.stack([w.detach() for w in self.weights]) if self.weights else None
        bias = torch.stack([b.detach() for b in self.biases])
        return TunedLens(weight, bias, self.model.cfg.name)

    def run(self, on_step: OnTrainStep | None) -> None:
        """All steps that are still to do."""
        recipe = self.recipe
        if 0 not in self.measured:
            self._measure()
        if self.step == recipe.steps:
            return
        order = RowOrder(len(self.rows), self.rows_per_step, recipe.seed)
        self.source = StateSource(self.model, self.rows.tokens, recipe, self.dtype)
        self.head = training_head(self.model, self.dtype)
        while self.step < recipe.steps:
            began = time.perf_counter()
            self._train_step(order.at(self.step))
            self.seconds += time.perf_counter() - began
            self.n_timed += 1
            at_end = self.step == recipe.steps
            if at_end or (recipe.held_out_every and self.step % recipe.held_out_every == 0):
                self._measure()
            if at_end or self.step % recipe.checkpoint_every == 0:
                self._save()
            if on_step is not None:
                try:
                    on_step(self.step, recipe.steps, self.losses[-1])
                except BaseException:
                    # Between two steps everything is whole, so nothing of the work is lost.
                    self._save()
                    raise

    def _train_step(self, numbers: Int[Tensor, " row"]) -> None:
        parameters = [*self.weights, *self.biases]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        sums = torch.zeros(len(self.biases), device=self.device)
        count = torch.zeros((), device=self.device)
        with torch.autocast(self.device.type, enabled=False):
            for tokens, states in self.source.passes(numbers[self.group.rank :: self.group.size]):
                part, n = self._accumulate(tokens, states)
                sums += part
                count += n
        gradients = [p.grad for p in parameters if p.grad is not None]
        self.group.sum_([*gradients, sums, count])
        for gradient in gradients:
            gradient /= count
        clip_gradients(self._clip_groups(), self.recipe.clip)
        self.optimizer.step(self.step)
        self.step += 1
        self.losses.append(tuple((sums / count).tolist()))

    def _accumulate(
        self, tokens: Int[Tensor, "row pos"], states: Float[Tensor, "depth row pos d_model"]
    ) -> tuple[Float[Tensor, " depth"], int]:
        """Add the gradients of one pass to those there; the sums of the losses, and of how many."""
        counted = counted_positions(self.model, tokens, self.recipe.shift)
        targets = self._targets(tokens, states[-1], counted)
        sums = []
        for depth, bias in enumerate(self.biases):
            h = states[depth][counted]
            own = [bias, *self.weights[depth : depth + 1]]
            moved = h + bias
            if self.weights:
                moved = moved + h @ self.weights[depth].mT
            total = head_losses(self.head, self._normed(moved), targets).sum()
            # Not backward(): that would also fill in gradients of the model, which others share.
            for parameter, gradient in zip(own, torch.autograd.grad(total, own), strict=True):
                assert parameter.grad is not None
                parameter.grad += gradient
            sums.append(total.detach())
        return torch.stack(sums), int(counted.sum())

    def _targets(
        self,
        tokens: Int[Tensor, "row pos"],
        final: Float[Tensor, "row pos d_model"],
        counted: Bool[Tensor, "row pos"],
    ) -> Targets:
        """What each counted position is compared with, ``shift`` positions later."""
        there = counted.roll(self.recipe.shift, dims=1)
        if self.recipe.loss == "ce":
            return self.head.of_tokens(tokens[there])
        with torch.no_grad():
            return self.head.of_model(self._normed(final[there]))

    def _normed(self, states: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos d_model"]:
        return self.model.ln_final(states[None].to(self.model.cfg.dtype))[0]

    def _clip_groups(self) -> list[list[Tensor]]:
        if self.recipe.clip_over == "all":
            return [[*self.weights, *self.biases]]
        return [[b, *self.weights[i : i + 1]] for i, b in enumerate(self.biases)]

    def _measure(self) -> None:
        self.measured[self.step] = held_out_kl(
            self.model, self.lens, self.held_out, self.recipe.held_out_tokens
        )

    def _save(self) -> None:
        if self.checkpoint is not None and self.group.is_first:
            self.checkpoint.write(
                {
                    "step": self.step,
                    "weights": [w.detach() for w in self.weights],
                    "biases": [b.detach() for b in self.biases],
                    "optimizer": self.optimizer.state(),
                    "losses": self.losses,
                    "held_out_kl": self.measured,
                }
            )

    def _resume(self) -> None:
        self.group.wait()
        saved = self.checkpoint.read() if self.checkpoint is not None else None
        if saved is None:
            return
        with torch.no_grad():
            for here, there in zip(self.weights, saved["weights"], strict=True):
                here.copy_(there)
            for here, there in zip(self.biases, saved["biases"], strict=True):
                here.copy_(there)
        self.optimizer.load(saved["optimizer"])
        self.step = saved["step"]
        self.losses, self.measured = saved["losses"], saved["held_out_kl"]

    def result(self) -> TunedTraining:
        """The finished lens, with where it comes from."""
        lens = self.lens
        tokens_per_step = self.rows_per_step * self.rows.tokens.shape[1]
        provenance = provenance_of(
            self.model,
            self.rows,
            asdict(self.recipe),
            kind=lens.name,
            tokens_seen=self.step * tokens_per_step,
            seed=self.recipe.seed,
            products_dtype=str(self.dtype).removeprefix("torch."),
            prepended_bos=self.model.default_prepend_bos,
            held_out_corpus_sha256=self.held_out.sha256,
            held_out_kl_nats=list(self.measured[self.step]),
            held_out_kl_before_nats=list(self.measured[0]),
            **translator_figures(lens.weight, lens.bias),
        )
        lens = TunedLens(lens.weight, lens.bias, lens.model_name, provenance)
        rate = self.n_timed * tokens_per_step / self.seconds if self.seconds else 0.0
        return TunedTraining(lens, tuple(self.losses), self.measured, tokens_per_step, rate)


def _rows_per_step(recipe: TunedRecipe, rows: Rows, n_processes: int) -> int:
    if not len(rows):
        raise LensDataError(f"{rows.name} has no rows to train on; give more text.")
    if abs(recipe.shift) + 1 >= rows.tokens.shape[1]:
        raise LensDataError(
            f"Rows of {rows.tokens.shape[1]} tokens are too short for a shift of {recipe.shift}."
        )
    wanted = max(1, recipe.tokens_per_step // rows.tokens.shape[1])
    if wanted % n_processes:
        raise RecipeError(
            f"A step has {wanted} rows, which {n_processes} processes cannot share evenly; choose "
            f"tokens_per_step as a multiple of {n_processes * rows.tokens.shape[1]}."
        )
    return wanted


def _translators(
    model: HookedModel, recipe: TunedRecipe, init: TunedLens | None, device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of every depth: zeros, which are the logit lens, or those of ``init``."""
    n_layers, d_model = model.cfg.n_layers, model.cfg.d_model
    weight = torch.zeros(n_layers, d_model, d_model, device=device)
    bias = torch.zeros(n_layers, d_model, device=device)
    if init is not None:
        init.check(model)
        bias = init.bias.to(bias)
        if init.weight is not None:
            weight = init.weight.to(weight)
            if recipe.bias_only:
                raise LensMismatchError(
                    "A bias-only lens cannot begin with a lens that has matrices; begin with a "
                    "bias-only lens, or without one."
                )
    matrices = [] if recipe.bias_only else list(weight)
    return (
        [w.clone().requires_grad_() for w in matrices],
        [b.clone().requires_grad_() for b in bias],
    )


def _fingerprint(init: TunedLens | None) -> list[float]:
    """Enough of the first lens to tell a resumed run that began with another."""
    if init is None:
        return []
    tensors = [init.bias] if init.weight is None else [init.bias, init.weight]
    return [float(t.double().sum()) for t in tensors] + [float(t.double().norm()) for t in tensors]
