"""Run prompts once, then again and again from one layer and position on.

What an edit changes is the residual stream after one layer, at the subject's last token. Nothing
before that token and nothing below that layer can feel it, so that every step of the optimiser
computes only what is above and to the right: the rest comes from the first run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from lens_core.editing.errors import EditingError
from lens_core.editing.rows import Batch, Row
from lens_core.model.execute import forward
from lens_core.model.run import Run, StopRun, active
from lens_core.model.sites import SiteKey
from lens_core.patching.base import Base, PrefixCache

if TYPE_CHECKING:
    from lens_core import HookedModel

# How far a resumed run may be from the first one, as a share of the residual stream's size.
_TOLERANCE = 1e-3
_HALF_TOLERANCE = 5e-2


class Resumed:
    """A batch of prompts, run once, and what is needed to run it on with changes.

    Attributes:
        batch: the prompts.
        keys: Float [row, d_mlp], the input of the layer's W_out at the subject's last token.
        values: Float [row, d_model], what the MLP adds there, and resid: what the block puts out.
        final: Float [wanted, d_model], the last residual stream where logits are wanted.
    """

    def __init__(self, model: HookedModel, rows: Sequence[Row], layer: int) -> None:
        if not model.spec.final:
            raise EditingError(
                f"The end of {model.cfg.name} could not be told from its head; it cannot be edited."
            )
        self.model, self.layer = model, layer
        self.batch = Batch.of(rows, model.cfg.device, model.pad_id)
        past = DynamicCache()
        cache, final = self._record(past)
        each = torch.arange(len(rows), device=self.batch.subject.device)
        at = self.batch.subject
        self.keys = cache[SiteKey("mlp_post", layer)][each, at]
        self.values = cache[SiteKey("mlp_out", layer)][each, at]
        resid = cache[SiteKey("resid_post", layer)]
        self.resid = resid[each, at]
        self.final = final[self.batch.wanted_row, self.batch.wanted_column]
        self.first = int(at.min())
        self._tail = resid[:, self.first :].clone()
        self._past = self._base(past)
        if self._past is None or not self._same():
            self.first, self._tail, self._past = 0, resid.clone(), None
            if not self._same():
                raise EditingError(
                    f"The layers of {model.cfg.name} cannot be run from the middle; it cannot be "
                    "edited here."
                )

    def logits(
        self, change: Float[Tensor, "row d_model"], rows: Int[Tensor, " some"] | None = None
    ) -> Float[Tensor, "wanted d_vocab"]:
        """Logits where they are wanted, with something added to the residual stream.

        Args:
            change: what is added after the layer, at each row's last subject token.
            rows: only these rows, in their order; `change` then has as many.
        """
        return self._head(self._run(change, rows))

    def unchanged_logits(self, chosen: Bool[Tensor, " wanted"]) -> Float[Tensor, "some d_vocab"]:
        """The first run's, at some of the wanted positions."""
        with torch.no_grad():
            return self._head(self.final[chosen])

    def _head(self, resid: Float[Tensor, "wanted d_model"]) -> Float[Tensor, "wanted d_vocab"]:
        return self.model.unembed(self.model.ln_final(resid)).float()

    def _record(self, past: DynamicCache) -> tuple[dict[SiteKey, Tensor], Tensor]:
        model, layer = self.model, self.layer
        run = self._new_run(stop=model.cfg.n_layers, batch=len(self.batch.tokens))
        for site in ("mlp_post", "mlp_out", "resid_post"):
            if not model.has_site(site, layer):
                raise EditingError(
                    f"Layer {layer} of {model.cfg.name} cannot be edited: "
                    f"{model.why_missing(site, layer)}."
                )
            run.at(site, layer).record = True
        with torch.no_grad(), active(run):
            try:
                forward(model, self.batch.tokens, self.batch.mask, last_only=True, past=past)
            except StopRun as stopped:
                return run.cache, stopped.resid
        raise EditingError(f"A run of {model.cfg.name} did not stop before its head.")

    def _new_run(self, *, batch: int, **options: int | Tensor) -> Run:
        model = self.model
        return Run(
            batch=batch,
            copied=model.spec.copied,
            standing=model._standing_terms,
            **options,  # type: ignore[arg-type]
        )

    def _base(self, past: DynamicCache) -> Base | None:
        """The first run's keys and values, if the model's cache holds all of them."""
        kept = tuple((layer.keys, layer.values) for layer in past.layers)
        shape = tuple(self.batch.tokens.shape)
        fits = len(kept) == self.model.cfg.n_layers and all(
            isinstance(x, Tensor) and x.ndim == 4 and (x.shape[0], x.shape[2]) == shape
            for pair in kept
            for x in pair
        )
        if not fits or self.first == 0:
            return None
        return Base(self.model, self.batch.tokens, self.batch.mask, (), (), kept, self.final)

    def _run(self, change: Tensor, rows: Tensor | None) -> Float[Tensor, "wanted d_model"]:
        batch, n_layers = self.batch, self.model.cfg.n_layers
        if rows is None:
            rows = torch.arange(len(batch.tokens), device=batch.subject.device)
        column = batch.subject[rows] - self.first
        resid = self._tail[rows]
        each = torch.arange(len(rows), device=rows.device)
        place = torch.zeros(resid.shape[:2], dtype=resid.dtype, device=resid.device)
        place[each, column] = 1
        resid = resid + place[..., None] * change.to(resid.dtype)[:, None]
        if self.layer + 1 < n_layers:
            resid = self._above(resid, rows)
        local = torch.full((len(batch.tokens),), -1, device=rows.device)
        local[rows] = each
        chosen = local[batch.wanted_row] >= 0
        return resid[local[batch.wanted_row][chosen], batch.wanted_column[chosen] - self.first]

    def _above(self, resid: Tensor, rows: Tensor) -> Tensor:
        """The residual stream after the last block, from that after the edited one."""
        run = self._new_run(
            batch=len(rows), start=self.layer + 1, resid=resid, stop=self.model.cfg.n_layers
        )
        run.offset = self.first
        past = None
        if self._past is not None:
            past = PrefixCache(self._past, self.first)
            past.rows = rows
        mask = None if self.batch.mask is None else self.batch.mask[rows]
        with active(run):
            try:
                forward(
                    self.model,
                    self.batch.tokens[rows, self.first :],
                    mask,
                    last_only=True,
                    past=past,
                    offset=self.first,
                )
            except StopRun as stopped:
                return stopped.resid
        raise EditingError(f"A run of {self.model.cfg.name} did not stop before its head.")

    def _same(self) -> bool:
        """Whether running on without a change gives what the first run gave."""
        nothing = torch.zeros_like(self.resid)
        try:
            with torch.no_grad():
                again = self._run(nothing, None)
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False  # the model's code wants more of its inputs than this short cut gives
        error = (again.float() - self.final.float()).norm() / self.final.float().norm()
        return bool(error <= (_TOLERANCE if again.dtype == torch.float32 else _HALF_TOLERANCE))
