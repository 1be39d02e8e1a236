"""Many patched runs at once: the one engine behind every sweep, trace and path.

Each row of a batch is one cell with its own patch. A row joins the batch in front of the first
layer that its patch touches, from the base's residual stream; positions before the first that any
row of the batch touches are not computed again, their keys and values are the base's; after the
last block (in its MLP already) only the answer position is read, and of its logits only those that
the metric wants.
The blocks are the model's own code throughout.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.model.execute import forward
from lens_core.model.probe import probe_tokens, rounding
from lens_core.model.run import Run, StopRun, active
from lens_core.patching.base import Base, PrefixCache, record_base
from lens_core.patching.cells import (
    AFTER_BLOCKS,
    Cell,
    Place,
    Sources,
    Write,
    Writer,
    check_writes,
    reaches_answer,
    start_layer,
    start_position,
)
from lens_core.patching.errors import PatchingError
from lens_core.patching.schedule import Chunk, plan_chunks

if TYPE_CHECKING:
    from lens_core import HookedModel

OnStep = Callable[[int, int], None]
# From logits [n, column] and the cells they belong to, Int [n], to one number each.
Read = Callable[[Float[Tensor, "n column"], Int[Tensor, " n"]], Float[Tensor, " n"]]


@dataclass(frozen=True)
class Abilities:
    """What a model's code can do, found out by trying.

    Attributes:
        grows: masks and position encodings made for one row serve any number of rows.
        resumes: positions can continue from the base's keys and values.
    """

    grows: bool
    resumes: bool


_MLP_SITES = ("mlp_in", "mlp_pre", "mlp_gate", "mlp_post", "mlp_out")
_ABILITIES: WeakKeyDictionary[HookedModel, Abilities] = WeakKeyDictionary()


def run_cells(
    base: Base,
    cells: Sequence[Cell],
    sources: Sources,
    read: Read,
    *,
    columns: Int[Tensor, " column"] | None = None,
    idle: Container[int] = (),
    memory_gb: float | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, " cell"]:
    """Run every cell and read one number off each.

    Args:
        base: the run that is patched.
        cells: what is patched, each a run of its own.
        sources: what is written, for each site and layer that a cell names.
        read: from the logits of the answer position to numbers.
        columns: the tokens whose logits `read` gets; None: all of them.
        idle: numbers of cells that write what is there already; they are not run.
        memory_gb: about how much memory a batch may take; None: 0.5 on a CPU, 4 on a GPU.
        on_step: called with the number of cells done and of all; what it raises ends the sweep.

    Returns:
        One number a cell, on the CPU.

    Raises:
        PatchingError: a cell names what the model, the sources or the base do not have.

    Example:
        >>> from lens_core import HookedModel
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> tokens = model.to_tokens("one two three")
        >>> base = record_base(model, tokens)
        >>> source = {("z", 1): torch.zeros_like(model.run_with_cache(tokens)[1]["z", 1])}
        >>> cells = [Cell((Write("z", 1, heads=(h,)),)) for h in range(2)]
        >>> run_cells(base, cells, source, lambda logits, _: logits[:, 7]).shape
        torch.Size([2])
    """
    n_layers, n_pos = base.model.cfg.n_layers, base.tokens.shape[1]
    check_writes(base.model, cells, sources, base.tokens.shape)
    able = abilities(base)
    values = torch.full((len(cells),), torch.nan)
    live = [
        i for i, cell in enumerate(cells) if i not in idle and reaches_answer(cell, n_layers, n_pos)
    ]
    head = _Head(base.model, base, columns)
    _read_unchanged(cells, sorted(set(range(len(cells))) - set(live)), base, head, read, values)
    done = len(cells) - len(live)
    if on_step is not None and done:
        on_step(done, len(cells))
    with torch.no_grad():
        for chunk in _batches(base, cells, live, able, memory_gb):
            logits = _run_chunk(base, chunk, cells, sources, head, able.grows)
            index = torch.tensor(chunk.cells)
            values[index] = read(logits, index).float().cpu()
            done += len(chunk.cells)
            if on_step is not None:
                on_step(done, len(cells))
    return values


def _batches(
    base: Base, cells: Sequence[Cell], live: list[int], able: Abilities, memory_gb: float | None
) -> list[Chunk]:
    """The cells that are live, in batches."""
    n_layers, n_pos = base.model.cfg.n_layers, base.tokens.shape[1]
    return plan_chunks(
        base.model.cfg,
        {i: (start_layer(cells[i], n_layers), start_position(cells[i], n_pos)) for i in live},
        n_pos,
        grows=able.grows,
        resumes=able.resumes,
        memory_gb=memory_gb,
    )


def abilities(base: Base) -> Abilities:
    """Which of the engine's short cuts a model's code allows; tried once a model.

    Rows of padded prompts have masks of their own, so one row's does not serve another.

    Raises:
        PatchingError: its layers cannot even be resumed one batch at a time.
    """
    model = base.model
    if model not in _ABILITIES:
        tokens = probe_tokens(model.cfg.d_vocab, model.cfg.device)
        _ABILITIES[model] = _try(record_base(model, tokens))
    found = _ABILITIES[model]
    return found if base.mask is None else replace(found, grows=False)


def _try(base: Base) -> Abilities:
    """The most that gives the base's own logits when the base is patched with itself."""
    model, n_pos = base.model, base.tokens.shape[1]
    late = model.cfg.n_layers - 1
    cells = [Cell((Write("resid_pre", layer, (n_pos - 1,)),), row=1) for layer in (0, late, late)]
    sources: dict[Place, Tensor] = {("resid_pre", n): base.resid[n] for n in (0, late)}
    head = _Head(model, base, None)
    options = [Abilities(True, True), Abilities(False, True), Abilities(False, False)]
    for able in options[0 if base.keys_values else 2 :]:
        first = n_pos // 2 if able.resumes else 0
        chunks = [Chunk((0, 1, 2), (0, late, late), first)]
        if not able.grows:
            chunks = [Chunk((0,), (0,), first), Chunk((1, 2), (late, late), first)]
        try:
            with torch.no_grad():
                found = [_run_chunk(base, c, cells, sources, head, able.grows) for c in chunks]
        except (RuntimeError, ValueError, TypeError, IndexError):
            continue  # the model's code wants more of its inputs than this short cut gives
        error = (torch.cat(found).float() - base.logits[1].float()).abs().max()
        if float(error) <= 16 * rounding(base.logits):
            return able
    raise PatchingError(f"The layers of {model.cfg.name} cannot be resumed in the middle.")


class _Head:
    """From the residual stream after the last block to the logits that are wanted."""

    def __init__(self, model: HookedModel, base: Base, columns: Tensor | None) -> None:
        self.model, self.columns = model, columns
        self.weight: Tensor | None = None
        if columns is None or not model.spec.final or model.offloaded:
            return
        weight, bias = model.W_U[:, columns.to(model.W_U.device)], model.b_U
        self.bias = bias[columns.to(bias.device)]
        self.weight = weight
        error = (self(base.resid[-1][:, -1]) - self.chosen(base.logits)).abs().max()
        if float(error) > 16 * rounding(base.logits):
            self.weight = None  # the model does more than a product: a soft-cap, a scale

    def __call__(self, resid: Float[Tensor, "n d_model"]) -> Float[Tensor, "n column"]:
        normed = self.model.ln_final(resid)
        if self.weight is not None:
            return normed @ self.weight + self.bias
        return self.chosen(self.model.unembed(normed))

    def chosen(self, logits: Tensor) -> Tensor:
        """The wanted columns of all logits."""
        return logits if self.columns is None else logits[:, self.columns.to(logits.device)]


def _read_unchanged(
    cells: Sequence[Cell],
    dead: list[int],
    base: Base,
    head: _Head,
    read: Read,
    values: Tensor,
) -> None:
    """Cells whose patch changes nothing, or cannot reach the answer, keep the base's value."""
    if dead:
        rows = torch.tensor([cells[i].row for i in dead])
        logits = head.chosen(base.logits)[rows.to(base.logits.device)]
        values[dead] = read(logits, torch.tensor(dead)).float().cpu()


def _run_chunk(
    base: Base,
    chunk: Chunk,
    cells: Sequence[Cell],
    sources: Sources,
    head: _Head,
    grows: bool,
) -> Float[Tensor, "n column"]:
    """The wanted logits of one batch of cells."""
    model = base.model
    device = base.tokens.device
    rows = torch.tensor([cells[i].row for i in chunk.cells], device=device)
    run = Run(
        start=max(chunk.layers[0], 0), copied=model.spec.copied, standing=model._standing_terms
    )
    run.offset, run.fused = chunk.first, True
    after = _plan_writes(run, [cells[i] for i in chunk.cells], sources)
    past = PrefixCache(base, chunk.first) if chunk.first else None
    run.enter = _Joining(run, base, rows, chunk, past)
    at_once = not grows or chunk.layers[0] < 0
    tokens = base.tokens[rows if at_once else rows[:1]]
    mask = None if base.mask is None else base.mask[rows]
    run.batch = tokens.shape[0]
    if model.spec.final and not after:
        run.stop = model.cfg.n_layers
    last = model.cfg.n_layers - 1
    run.narrow = not any((site, last) in run.plan for site in _MLP_SITES)
    with active(run):
        try:
            logits = forward(
                model,
                tokens[:, chunk.first :],
                mask,
                last_only=True,
                past=past,
                offset=chunk.first,
            )
        except StopRun as stopped:
            return head(stopped.resid[:, -1])
        run.offset = base.tokens.shape[1] - 1
        return head.chosen(run.visit("logits", None, logits)[:, -1])


def _plan_writes(run: Run, cells: Sequence[Cell], sources: Sources) -> bool:
    """Put the writes of each row into the run; whether any comes after the blocks."""
    writers: dict[Place, Writer] = {}
    for row, cell in enumerate(cells):
        for write in cell.writes:
            writer = writers.get(write.place)
            if writer is None:
                writer = writers[write.place] = Writer(write.place, sources[write.place])
            writer.add(row, cell.row, write)
    for (site, layer), writer in writers.items():
        writer.freeze()
        run.at(site, layer).edits.append(writer)
    return any(site in AFTER_BLOCKS for site, _ in writers)


class _Joining:
    """Lets rows join a batch in front of the layer that they start at, from the base."""

    def __init__(
        self, run: Run, base: Base, rows: Tensor, chunk: Chunk, past: PrefixCache | None
    ) -> None:
        self.run, self.base, self.rows, self.past = run, base, rows, past
        self.layers, self.first = chunk.layers, chunk.first
        if past is not None:
            past.rows = rows

    def __call__(self, layer: int, hidden: Tensor) -> Tensor:
        if layer < self.run.start:
            return hidden
        before = bisect_left(self.layers, layer)
        now = bisect_right(self.layers, layer)
        if now > before:
            resid = self.base.resid[layer]
            new = resid[self.rows[before:now].to(resid.device), self.first :]
            hidden = torch.cat([hidden[:before], new]) if before else new
        self.run.batch = now
        if self.past is not None:
            self.past.rows = self.rows[:now]
        return hidden
