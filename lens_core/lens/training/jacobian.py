"""Fit a Jacobian lens: the mean effect of an early state on the last ones (Gurnee et al. 2026)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.lens.corpus import Rows
from lens_core.lens.errors import LensDataError
from lens_core.lens.identity import weights_sha256
from lens_core.lens.training.checkpoint import Checkpoint
from lens_core.lens.training.distributed import Group
from lens_core.lens.training.provenance import provenance_of
from lens_core.lens.training.recipe import DtypeName, RecipeError, resolve_dtype
from lens_core.lens.training.states import head_device
from lens_core.lens.transports import JacobianLens

if TYPE_CHECKING:
    from lens_core import HookedModel

OnStep = Callable[[int, int], None]
Jacobians = Float[Tensor, "depth d_model d_model"]


@dataclass(frozen=True)
class JacobianRecipe:
    """How to fit a Jacobian lens; nothing in it is random.

    Attributes:
        prompts: rows to average over, from the first on; all if there are fewer.
        dim_batch: output directions that go backward at once, each through a copy of the prompt.
        skip_first: positions at the start of a prompt that are neither source nor target, because
            their states are of another kind; the last position is left out as well.
        dtype: of the model's products; "auto" is bf16 where the machine has it. Sums are fp32.
        checkpoint_every: prompts between checkpoints.
    """

    prompts: int = 100
    dim_batch: int = 8
    skip_first: int = 16
    dtype: DtypeName = "float32"
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        """Raise RecipeError for values that mean nothing."""
        for name in ("prompts", "dim_batch", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is at least 1, not {getattr(self, name)}.")
        if self.skip_first < 0:
            raise RecipeError(f"skip_first is 0 or more, not {self.skip_first}.")


def fit_jacobian(
    model: HookedModel,
    rows: Rows,
    recipe: JacobianRecipe | None = None,
    *,
    out: str | Path | None = None,
    on_step: OnStep | None = None,
) -> JacobianLens:
    """The mean Jacobian of the last state in the state at every depth before it.

    For each prompt and source position the Jacobians of the last states at that and all later
    positions are summed; their mean over source positions and prompts is the lens:
    ``J[depth][i, j] = mean over prompts and t of sum over t' >= t of d last[t', i] / d h[t, j]``.
    Its provenance holds ``refit_cosine``: at each depth, the cosine between the fits on every
    second prompt, which says how far the number of prompts determines it.

    Args:
        out: folder of checkpoints; a killed run goes on from the last one with the same result.
        on_step: ``on_step(done, total)`` after each prompt; what it raises ends the work.

    Raises:
        RecipeError: a recipe that cannot be followed, or a folder that holds another run.
        LensDataError: no rows, or rows that are too short.

    Example:
        >>> lens = fit_jacobian(model, rows, JacobianRecipe(prompts=20))  # doctest: +SKIP
    """
    recipe = recipe or JacobianRecipe()
    n_ctx = rows.tokens.shape[1]
    if not len(rows) or recipe.skip_first + 1 >= n_ctx:
        raise LensDataError(
            f"A Jacobian lens needs rows of at least {recipe.skip_first + 2} tokens; {rows.name} "
            f"has {len(rows)} rows of {n_ctx}."
        )
    fit = _Fit(model, rows, recipe, out)
    fit.run(on_step)
    return fit.lens()


class _Fit:
    """The state of one fit."""

    def __init__(
        self, model: HookedModel, rows: Rows, recipe: JacobianRecipe, out: str | Path | None
    ) -> None:
        self.model, self.rows, self.recipe = model, rows, recipe
        self.device = head_device(model)
        self.dtype = resolve_dtype(recipe.dtype, self.device)
        self.group = Group.current(self.device)
        self.total = min(recipe.prompts, len(rows))
        self.done = 0
        n_layers, d_model = model.cfg.n_layers, model.cfg.d_model
        # Of the prompts with even and with odd numbers, so that two halves can be compared.
        self.sums = torch.zeros(2, n_layers, d_model, d_model, device=self.device)
        identity = {
            "recipe": asdict(recipe),
            "model": weights_sha256(model),
            "corpus": rows.sha256,
        }
        self.checkpoint = None if out is None else Checkpoint(out, identity)
        self._resume()

    def run(self, on_step: OnStep | None) -> None:
        """All prompts that are still to do; several processes take one each."""
        while self.done < self.total:
            step = torch.zeros_like(self.sums)
            number = self.done + self.group.rank
            # A process without a prompt of its own calls a sharded model all the same.
            jacobians = self._of_prompt(self.rows.tokens[min(number, self.total - 1)])
            if number < self.total:
                step[number % 2] = jacobians
            self.group.sum_([step])
            self.sums += step
            before, self.done = self.done, min(self.done + self.group.size, self.total)
            every = self.recipe.checkpoint_every
            if self.done == self.total or self.done // every > before // every:
                self._save()
            if on_step is not None:
                try:
                    on_step(self.done, self.total)
                except BaseException:
                    self._save()
                    raise

    def _of_prompt(self, tokens: Int[Tensor, " pos"]) -> Jacobians:
        """The mean over source positions of one prompt."""
        d_model, n_layers = self.model.cfg.d_model, self.model.cfg.n_layers
        width = min(self.recipe.dim_batch, d_model)
        batch = tokens.expand(width, -1)
        used = slice(self.recipe.skip_first, len(tokens) - 1)
        names: list[tuple[str, int]] = [("resid_pre", 0)]
        names += [("resid_post", layer) for layer in range(n_layers - 1)]
        reduced = self.dtype == torch.bfloat16 and self.model.cfg.dtype == torch.float32
        with torch.autocast(self.model.cfg.device.type, torch.bfloat16, enabled=reduced):
            final, cache = self.model.run_with_cache(
                batch,
                names,
                stop_at_layer=n_layers,
                attention_mask=torch.ones_like(batch),
                grad=True,
            )
        states = [cache[name] for name in names]
        jacobians = torch.empty(n_layers, d_model, d_model, device=self.device)
        for first in range(0, d_model, width):
            outputs = range(first, min(first + width, d_model))
            direction = torch.zeros_like(final)
            for copy, output in enumerate(outputs):
                direction[copy, used, output] = 1.0
            is_last = outputs.stop == d_model
            slopes = torch.autograd.grad(final, states, direction, retain_graph=not is_last)
            for depth, slope in enumerate(slopes):
                mean = slope[: len(outputs), used].float().mean(dim=1)
                jacobians[depth, outputs.start : outputs.stop] = mean.to(self.device)
        return jacobians

    def _save(self) -> None:
        if self.checkpoint is not None and self.group.is_first:
            self.checkpoint.write({"done": self.done, "sums": self.sums})

    def _resume(self) -> None:
        self.group.wait()
        saved = self.checkpoint.read() if self.checkpoint is not None else None
        if saved is not None:
            self.done = saved["done"]
            self.sums.copy_(saved["sums"])

    def lens(self) -> JacobianLens:
        """The finished lens, with where it comes from."""
        n_layers = self.model.cfg.n_layers
        jacobians = self.sums.sum(0) / self.total
        figures: dict[str, Any] = {"kind": "jacobian", "prompts": self.total}
        if self.total > 1:
            even, odd = self.sums.flatten(2)
            figures["refit_cosine"] = torch.cosine_similarity(even, odd, dim=-1).tolist()
        tokens_seen = self.total * self.rows.tokens.shape[1]
        provenance = provenance_of(
            self.model,
            self.rows,
            asdict(self.recipe),
            tokens_seen=tokens_seen,
            products_dtype=str(self.dtype).removeprefix("torch."),
            prepended_bos=self.model.default_prepend_bos,
            **figures,
        )
        return JacobianLens(dict(enumerate(jacobians)), n_layers, self.model.cfg.name, provenance)
