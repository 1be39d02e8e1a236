"""The state of one forward pass: what is edited, what is recorded, where it starts and stops.

Taps are installed in a model once and ask `current_run()` whether there is anything to do. The run
lives in a `ContextVar`, so every thread (and every asyncio task) has its own, and a model is shared
without a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from lens_core.model.sites import SiteKey

Place = tuple[str, int | None]

# Attention scores below this are masked: half of the mask that half precision adds, which some
# families add to scores in float32.
MASKED_BELOW = torch.finfo(torch.float16).min / 2

_RUN: ContextVar[Run | None] = ContextVar("lens_core_run", default=None)
current_run = _RUN.get


class StopRun(Exception):
    """Raised inside the model to end a run, with the residual stream there."""

    def __init__(self, resid: Tensor) -> None:
        super().__init__()
        self.resid = resid


class SiteEdit(Protocol):
    """An edit of one site: what it is called in reports, and whether it was reached."""

    edit: Any
    applied: bool

    def apply(self, x: Tensor, offset: int) -> Tensor:
        """Edit `x` (which the run owns), whose first position is the absolute one `offset`."""


class ProjectionEdit(Protocol):
    """An edit of one projection: what it is called in reports, and whether it was reached."""

    edit: Any
    applied: bool

    def apply(self, x: Tensor, y: Tensor, offset: int) -> Tensor:
        """`y` plus the edit's term; `x` and `y` are [batch, pos, ...], input and output."""


@dataclass
class Visit:
    """What to do when a site is reached."""

    edits: list[SiteEdit] = field(default_factory=list)
    record: bool = False


class Run:
    """One forward pass (or one generation, forward pass after forward pass).

    Attributes:
        plan: what to do at which site.
        low_rank: edits of projections, by the site that the projection feeds; first those that
            stand in the model, as if its weights were other ones.
        cache: what was recorded.
        batch: rows; some families flatten rows and positions, and taps must undo that.
        offset: absolute position of the first token of the current forward pass.
        start, resid: skip the layers before `start` and put `resid` in front of it.
        stop: end before this layer (n_layers: before the final norm).
        grad: recorded tensors stay in the autograd graph, on the path to the logits.
        copied: sites whose tensors the model changes in place afterwards.
        head_input: not None: skip the whole decoder, and hand this to the unembedding.
        enter: given each block's layer and input, returns the input to use; rows may join there.
        narrow: of the last block's MLP only the last position is wanted.
        fused: an activation that the model's code writes out in many steps may be computed by the
            one call of torch for it, which gives the same but for rounding.
    """

    __slots__ = (
        "batch",
        "cache",
        "copied",
        "enter",
        "fused",
        "grad",
        "head_input",
        "low_rank",
        "narrow",
        "offset",
        "plan",
        "resid",
        "softmax_layers",
        "start",
        "stop",
    )

    def __init__(
        self,
        *,
        batch: int = 1,
        start: int = 0,
        resid: Tensor | None = None,
        stop: int | None = None,
        grad: bool = False,
        copied: frozenset[str] = frozenset(),
        head_input: Tensor | None = None,
        standing: Mapping[Place, ProjectionEdit] | None = None,
    ) -> None:
        self.batch, self.offset = batch, 0
        self.start, self.resid, self.stop = start, resid, stop
        self.grad, self.copied, self.head_input = grad, copied, head_input
        self.plan: dict[Place, Visit] = {}
        self.low_rank: dict[Place, list[ProjectionEdit]] = {
            place: [term] for place, term in (standing or {}).items()
        }
        self.softmax_layers: set[int | None] = set()
        self.enter: Callable[[int, Tensor], Tensor] | None = None
        self.narrow = self.fused = False
        self.cache: dict[SiteKey, Tensor] = {}

    @property
    def idle(self) -> bool:
        """Whether the taps have nothing at all to do."""
        untouched = not (self.plan or self.low_rank or self.start or self.grad)
        return untouched and self.stop is None and self.resid is None

    def at(self, site: str, layer: int | None) -> Visit:
        """The visit of a site, planned now if it was not."""
        if site in ("scores", "pattern"):
            self.softmax_layers.add(layer)
        return self.plan.setdefault((site, layer), Visit())

    def visit(self, site: str, layer: int | None, x: Tensor) -> Tensor:
        """Edit and record `x`, which has the site's documented axes, and return what to go on with.

        The same object comes back when nothing was edited: observation changes no bit.
        """
        todo = self.plan.get((site, layer))
        if todo is None:
            return x
        if self.grad and not x.requires_grad:
            x = x.detach().requires_grad_()  # embeddings, whose weights want no gradient
        if todo.edits:
            x = x.clone()
            for edit in todo.edits:
                x = edit.apply(x, 0 if site in ("k", "v") else self.offset)
        if todo.record:
            copied = site in self.copied
            self.cache[SiteKey(site, layer)] = self._kept(x, copied)
            if copied and self.grad:
                return self.cache[SiteKey(site, layer)].clone()
        return x

    def _kept(self, x: Tensor, copied: bool) -> Tensor:
        """What the cache holds: never a slice that keeps a larger tensor alive."""
        if copied or (
            not self.grad and x.untyped_storage().nbytes() > x.numel() * x.element_size()
        ):
            return x.clone()
        return x

    def visit_scaled(self, site: str, layer: int | None, x: Tensor, factor: float) -> Tensor:
        """Visit `factor * x`, where the model multiplies later; unedited cells stay exact."""
        if (site, layer) not in self.plan:
            return x
        if factor == 1.0:
            return self.visit(site, layer, x)
        scaled = x * factor
        seen = self.visit(site, layer, scaled)
        if seen is scaled and not self.grad:
            return x
        return x.detach() + (seen - scaled.detach()) / factor

    def visit_flat(self, site: str, layer: int | None, x: Tensor, factor: float = 1.0) -> Tensor:
        """Visit a tensor whose rows and positions the family may have merged into one axis."""
        if (site, layer) not in self.plan:
            return x
        if x.ndim != 2:
            return self.visit_scaled(site, layer, x, factor)
        apart = x.view(self.batch, -1, x.shape[-1])
        return self.visit_scaled(site, layer, apart, factor).reshape(x.shape)

    def visit_heads(self, site: str, layer: int | None, x: Tensor) -> Tensor:
        """Visit a tensor that the model keeps as batch head pos d_head."""
        if (site, layer) not in self.plan:
            return x
        return self.visit(site, layer, x.transpose(1, 2)).transpose(1, 2)

    def bound_edits(self) -> Iterator[SiteEdit | ProjectionEdit]:
        """Every intervention of this run."""
        for todo in self.plan.values():
            yield from todo.edits
        for edits in self.low_rank.values():
            yield from edits


@contextmanager
def active(run: Run | None) -> Iterator[None]:
    """Make `run` this thread's run; None silences the taps."""
    token = _RUN.set(run)
    try:
        yield
    finally:
        _RUN.reset(token)
