"""How good lenses are over a corpus: every depth, every lens, one pass over the model.

    rows = read_corpus("held-out.jsonl", model)
    found = evaluate_lenses(model, {"logit": LogitLens(), "tuned": lens}, rows)
    found.to_frame()                                 # nats, bits per byte, 95% intervals
    found.difference("logit", "tuned", "kl_nats")    # paired over the same documents

Rows go through the model a few at a time and are reduced at once: memory does not grow with the
corpus but for some numbers a row, and logits of a whole batch never exist.

The figures are those of Belrose et al. (2023, arXiv 2303.08112): cross-entropy, KL from the model,
entropy, and the bias of the marginals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.lens.errors import LensDataError
from lens_core.lens.evaluation import (
    FIGURES,
    MODEL,
    OF_LABELS,
    Estimate,
    LayerTransfer,
    LensEvaluation,
)
from lens_core.lens.head import head_logits
from lens_core.lens.statistics import kl_nats, ranks_of
from lens_core.lens.training.states import counted_positions, read_states
from lens_core.lens.transports import Transport

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens.corpus import Rows

__all__ = [
    "MODEL",
    "Estimate",
    "LayerTransfer",
    "LensEvaluation",
    "evaluate_lens",
    "evaluate_lenses",
    "layer_transfer",
]

OnStep = Callable[[int, int], None]
Positions = Literal["text", "all"]

_TOKENS_AT_ONCE = 1024  # through the model
_LOGITS_AT_ONCE = 2**22  # of one lens at one depth: 16 MB


def evaluate_lens(
    model: HookedModel,
    lens: Transport,
    rows: Rows,
    *,
    token_shift: int = 1,
    positions: Positions = "text",
    rows_at_once: int | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> LensEvaluation:
    """`evaluate_lenses` for one lens, under its own name."""
    return evaluate_lenses(
        model,
        {lens.name: lens},
        rows,
        token_shift=token_shift,
        positions=positions,
        rows_at_once=rows_at_once,
        n_bootstrap=n_bootstrap,
        seed=seed,
        on_step=on_step,
    )


@torch.no_grad()
def evaluate_lenses(
    model: HookedModel,
    lenses: Mapping[str, Transport],
    rows: Rows,
    *,
    token_shift: int = 1,
    positions: Positions = "text",
    rows_at_once: int | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> LensEvaluation:
    """Figures of several lenses at every depth, beside the model's own.

    Args:
        lenses: by the name that the result is to call them.
        token_shift: cross-entropy and rank are of the token so many positions on; 1 is the next.
        positions: "text" leaves out the first position of a row and BOS tokens, as training does,
            since states there are of another size; "all" counts every position, as the
            `tuned-lens` command does.
        rows_at_once: through the model; None is about a thousand tokens.
        n_bootstrap: resamples of the documents; 0 is no intervals.
        on_step: ``on_step(done, total)`` after each batch of rows; what it raises ends the work.

    Raises:
        LensMismatchError: a lens was made for another model.
        LensDataError: no lens, a name that means the model, or rows too short for the shift.

    Example:
        >>> evaluate_lenses(model, {"logit": LogitLens()}, rows).to_frame()  # doctest: +SKIP
    """
    _check(model, lenses, rows, token_shift)
    sums = _Sums(model, lenses, rows)
    done = 0
    for batch in _batches(model, rows, token_shift, positions, rows_at_once):
        sums.add(batch)
        done += len(batch.numbers)
        if on_step is not None:
            on_step(done, len(rows))
    n_layers = model.cfg.n_layers
    return LensEvaluation(
        model_name=model.cfg.name,
        corpus=rows.name,
        corpus_sha256=rows.sha256,
        nats_to_bits_per_byte=rows.nats_to_bits_per_byte,
        token_shift=token_shift,
        depths=tuple(range(n_layers)),
        row_sums={
            name: {f: table[i].numpy() for i, f in enumerate(FIGURES)}
            for name, table in sums.tables.items()
        },
        row_counts={f: sums.counts[int(f in OF_LABELS)].numpy() for f in FIGURES},
        documents=rows.documents.numpy(),
        marginals={name: _normalised(m) for name, m in sums.marginals.items()},
        model_halves=_normalised(sums.halves),
        unigram=_normalised(sums.unigram),
        n_bootstrap=n_bootstrap,
        seed=seed,
    )


@torch.no_grad()
def layer_transfer(
    model: HookedModel,
    lens: Transport,
    rows: Rows,
    *,
    token_shift: int = 1,
    positions: Positions = "text",
    rows_at_once: int | None = None,
    on_step: OnStep | None = None,
) -> LayerTransfer:
    """Each depth's translator on each other depth's states (section 4 of the paper).

    The work grows with the square of the number of blocks: a few thousand tokens are enough.

    Raises:
        LensMismatchError: the lens was made for another model.
        LensDataError: the lens does not read every depth, or rows too short for the shift.
    """
    _check(model, {lens.name: lens}, rows, token_shift)
    n = model.cfg.n_layers
    if not all(lens.reads(depth, n) for depth in range(n)):
        raise LensDataError(
            f"The {lens.name} lens has nothing for some depths, so that depths cannot be exchanged."
        )
    ce, kl = torch.zeros(2, n, n, dtype=torch.float64)
    n_labels = n_states = done = 0
    for batch in _batches(model, rows, token_shift, positions, rows_at_once):
        done += len(batch.numbers)
        labelled = batch.labels >= 0
        n_labels, n_states = n_labels + int(labelled.sum()), n_states + len(batch.labels)
        for state in range(n):
            here = batch.states[state]
            carried = [lens.carry(model, here, i)[batch.counted] for i in range(n)]
            for chunk in _chunks(model, len(batch.labels)):
                own = _logprobs(model, carried[state][chunk])
                for translator in range(n):
                    said = _logprobs(model, carried[translator][chunk])
                    of_label = _of_labels(said, batch.labels[chunk])
                    ce[translator, state] -= of_label.double().sum().cpu()
                    kl[translator, state] += kl_nats(own, said).double().sum().cpu()
        if on_step is not None:
            on_step(done, len(rows))
    return LayerTransfer(
        lens.name,
        (ce / max(n_labels, 1)).numpy(),
        (kl / max(n_states, 1)).numpy(),
        rows.nats_to_bits_per_byte,
    )


class _Batch(NamedTuple):
    """Some rows with the states of every depth; what is counted is flat, row after row."""

    numbers: Int[Tensor, " row"]
    states: Float[Tensor, "depth row pos d_model"]
    counted: Tensor  # bool [row, pos]
    row_of: Int[Tensor, " n"]
    labels: Int[Tensor, " n"]  # -1 where there is none


def _batches(
    model: HookedModel, rows: Rows, shift: int, positions: Positions, rows_at_once: int | None
) -> Iterator[_Batch]:
    size = rows_at_once or max(1, _TOKENS_AT_ONCE // rows.tokens.shape[1])
    for numbers in torch.arange(len(rows)).split(size):
        tokens = rows.tokens[numbers]
        states = read_states(model, tokens, torch.float32)
        tokens = tokens.to(states.device)
        counted = (
            counted_positions(model, tokens)
            if positions == "text"
            else torch.ones_like(tokens, dtype=torch.bool)
        )
        labels = tokens.roll(-shift, dims=1)
        if shift > 0:
            labels[:, -shift:] = -1
        elif shift < 0:
            labels[:, :-shift] = -1
        row_of = counted.nonzero()[:, 0] + int(numbers[0])
        yield _Batch(numbers, states, counted, row_of.cpu(), labels[counted])


class _Sums:
    """Running sums of everything that `LensEvaluation` holds."""

    def __init__(self, model: HookedModel, lenses: Mapping[str, Transport], rows: Rows) -> None:
        self.model, self.lenses = model, lenses
        n_layers, d_vocab, n_rows = model.cfg.n_layers, model.cfg.d_vocab, len(rows)
        widths = dict.fromkeys(lenses, n_layers) | {MODEL: 1}
        self.tables = {
            n: torch.zeros(len(FIGURES), n_rows, w, dtype=torch.float64) for n, w in widths.items()
        }
        self.marginals = {
            name: torch.zeros(w, d_vocab, dtype=torch.float64) for name, w in widths.items()
        }
        self.halves = torch.zeros(2, d_vocab, dtype=torch.float64)
        self.unigram = torch.zeros(d_vocab, dtype=torch.float64)
        self.counts = torch.zeros(2, n_rows, dtype=torch.float64)  # states, and those with a label
        _, self.group = rows.documents.unique(return_inverse=True)

    def add(self, batch: _Batch) -> None:
        """Add a batch of rows."""
        n_layers = self.model.cfg.n_layers
        has_label = batch.labels >= 0
        self.counts[0].index_add_(0, batch.row_of, torch.ones(len(batch.row_of)).double())
        self.counts[1].index_add_(0, batch.row_of, has_label.cpu().double())
        labels = batch.labels[has_label].cpu()
        self.unigram += labels.bincount(minlength=len(self.unigram))
        final = batch.states[n_layers][batch.counted]
        carried = {
            (name, depth): lens.carry(self.model, batch.states[depth], depth)[batch.counted]
            for name, lens in self.lenses.items()
            for depth in range(n_layers)
            if lens.reads(depth, n_layers)
        }
        for name, lens in self.lenses.items():
            silent = [d for d in range(n_layers) if not lens.reads(d, n_layers)]
            self.tables[name][:, :, silent] = torch.nan
            self.marginals[name][silent] = torch.nan
        for chunk in _chunks(self.model, len(final)):
            p_log = _logprobs(self.model, final[chunk])
            at = (batch.row_of[chunk], batch.labels[chunk])
            probs = self._reduce(MODEL, 0, p_log, p_log, *at)
            half = self.group[batch.row_of[chunk]] % 2
            self.halves.index_add_(0, half, probs.cpu().double())
            for (name, depth), states in carried.items():
                self._reduce(name, depth, p_log, _logprobs(self.model, states[chunk]), *at)

    def _reduce(
        self, name: str, column: int, p_log: Tensor, q_log: Tensor, row_of: Tensor, labels: Tensor
    ) -> Tensor:
        """Add one lens at one depth; gives back its probabilities."""
        probs = q_log.exp()
        self.marginals[name][column] += probs.sum(0).double().cpu()
        of_label = _of_labels(q_log, labels)
        values = {
            "ce_nats": -of_label,
            "kl_nats": kl_nats(p_log, q_log),
            "entropy_nats": kl_nats(q_log, q_log.new_zeros(())).neg(),
            "next_rank": ranks_of(q_log, of_label).masked_fill(labels < 0, 0),
            "agreement": q_log.argmax(-1) == p_log.argmax(-1),
        }
        for i, figure in enumerate(FIGURES):
            by_row = self.tables[name][i, :, column]
            by_row.index_add_(0, row_of, values[figure].double().cpu())
        return probs


def _check(
    model: HookedModel, lenses: Mapping[str, Transport], rows: Rows, token_shift: int
) -> None:
    if not lenses or MODEL in lenses:
        raise LensDataError(f"Give at least one lens, under another name than {MODEL!r}.")
    for lens in lenses.values():
        lens.check(model)
    if abs(token_shift) >= rows.tokens.shape[1]:
        raise LensDataError(
            f"Rows of {rows.tokens.shape[1]} tokens have none {token_shift} positions on; choose a "
            "smaller shift, or longer rows."
        )


def _chunks(model: HookedModel, n: int) -> Iterator[slice]:
    size = max(1, _LOGITS_AT_ONCE // model.cfg.d_vocab)
    for start in range(0, n, size):
        yield slice(start, start + size)


def _logprobs(model: HookedModel, states: Float[Tensor, "n d_model"]) -> Tensor:
    return head_logits(model, states).log_softmax(-1)


def _of_labels(logprobs: Tensor, labels: Int[Tensor, " n"]) -> Tensor:
    """The log-probability of each label, 0 where there is none."""
    found = logprobs.gather(-1, labels.clamp(min=0)[:, None])[:, 0]
    return found.masked_fill(labels < 0, 0.0)


def _normalised(counts: Tensor) -> np.ndarray:
    return (counts / counts.sum(-1, keepdim=True)).float().numpy()
