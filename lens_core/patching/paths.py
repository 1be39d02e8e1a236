"""Path patching: what one part tells another, with everything between them held still.

    found = path_patching(model, pairs, ["0.1", "1.0", "mlp 0"], ["logits", "2.3.q"])

After Wang et al. 2023 (arXiv 2211.00593, appendix B), three runs a path. The first two are the run
that is patched and the other one. In the second pass the sender writes what it wrote in the other
run while every other head keeps its own output; what the receivers then read is noted. In the
third, a free run, only the receivers read that. MLPs between them pass the change on, as there, or
are held still like the heads, which leaves the direct edge alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lens_core.interventions import Intervention, patch
from lens_core.model.cache import ActivationCache
from lens_core.patching.alignment import PromptPair
from lens_core.patching.base import Base, record_base
from lens_core.patching.cells import Cell, Place
from lens_core.patching.engine import OnStep, run_cells
from lens_core.patching.errors import PatchingError
from lens_core.patching.groups import answers_of, as_pairs
from lens_core.patching.metrics import Answers, Metric, as_metric, logit_difference
from lens_core.patching.parts import Receiver, Sender, read_receivers, read_senders
from lens_core.patching.path_result import PathResult
from lens_core.patching.result import Array, Direction

if TYPE_CHECKING:
    from lens_core import HookedModel

_TOKENS_AT_ONCE = 1024
# Parts by name, one or several that act together.
Names = str | tuple[str, ...]


def path_patching(
    model: HookedModel,
    pairs: PromptPair | Sequence[PromptPair],
    senders: Sequence[Names],
    receivers: Sequence[Names] = ("logits",),
    *,
    positions: Sequence[int] | None = None,
    through_mlps: bool = True,
    direction: Direction = "noise",
    metric: Metric | str = logit_difference,
    memory_gb: float | None = None,
    on_step: OnStep | None = None,
) -> PathResult:
    """Patch the paths from each sender to each receiver.

    Args:
        pairs: of equal length, without padding.
        senders: "2.0" is head 0 of layer 2, "mlp 2", "embed"; a tuple acts together.
        receivers: "2.0.q", "2.0.k", "2.0.v" (of grouped queries the key-value head), "mlp 2" or
            "logits"; a tuple reads together.
        positions: where the senders are patched; None: everywhere.
        through_mlps: MLPs between sender and receiver pass the change on; else none does.
        direction: "noise" patches the clean run with the corrupted one, as in the paper.
        on_step: called with the number of paths done and of all; raise in it to cancel.

    Raises:
        PatchingError: a name that the model does not have, prompts of unequal length.

    Example:
        >>> from lens_core import HookedModel
        >>> from lens_core.patching import prompt_pair
        >>> model = HookedModel.from_pretrained("glass-induction")
        >>> pair = prompt_pair(model, "fox owl bee fox", "cat owl bee fox", " owl", " bee")
        >>> path_patching(model, pair, ["0.0", "1.1"], ["logits"]).values.shape
        (2, 1, 1)
    """
    measure = as_metric(metric)
    all_pairs = _checked(model, as_pairs(pairs, measure), direction, through_mlps)
    sending, reading = read_senders(model, senders), read_receivers(model, receivers)
    values = np.full((len(sending), len(reading), len(all_pairs)), np.nan)
    unpatched = np.full((2, len(all_pairs)), np.nan)
    for number, pair in enumerate(all_pairs):
        runs = _Runs.of(model, pair, measure, direction, positions, through_mlps, reading)
        unpatched[:, number] = runs.unpatched
        for some in _batches(len(sending), len(pair.clean)):
            values[some, :, number] = runs.paths(sending[some], reading, memory_gb)
            if on_step is not None:
                on_step((number * len(sending) + some.stop) * len(reading), values.size)
    return PathResult(
        senders=tuple(_joined(name) for name in senders),
        receivers=tuple(_joined(name) for name in receivers),
        direction=direction,
        through_mlps=through_mlps,
        metric=measure.name,
        unit=measure.unit,
        values=values,
        clean=unpatched[0],
        corrupted=unpatched[1],
    )


def _checked(
    model: HookedModel, pairs: Sequence[PromptPair], direction: str, through_mlps: bool
) -> Sequence[PromptPair]:
    if direction not in ("denoise", "noise"):
        raise PatchingError(f'The direction is "denoise" or "noise", not {direction!r}.')
    if any(not pair.same_length or any(pair.padding) for pair in pairs):
        raise PatchingError("Path patching needs pairs of equal length, without padding.")
    for layer in range(model.cfg.n_layers):
        for site in ("z",) if through_mlps else ("z", "mlp_out"):
            if not model.has_site(site, layer):
                raise PatchingError(
                    f"Layer {layer} of {model.cfg.name} cannot be held still: it has no {site} "
                    f"({model.why_missing(site, layer)})."
                )
    return pairs


def _batches(n_senders: int, n_pos: int) -> list[slice]:
    size = max(1, _TOKENS_AT_ONCE // n_pos)
    return [slice(i, min(i + size, n_senders)) for i in range(0, n_senders, size)]


def _joined(names: Names) -> str:
    return names if isinstance(names, str) else " + ".join(names)


@dataclass(frozen=True, eq=False)
class _Runs:
    """The two unpatched runs of one pair, and what is needed to patch paths between them.

    Attributes:
        base: of one row; own: its activations; written: those of the other run where senders are
            patched, the base's elsewhere.
        unpatched: the metric of the clean and the corrupted run.
    """

    base: Base
    own: ActivationCache
    written: dict[Place, Tensor]
    measure: Metric
    answers: Answers
    columns: Tensor | None
    unpatched: tuple[float, float]
    through_mlps: bool

    @classmethod
    def of(
        cls,
        model: HookedModel,
        pair: PromptPair,
        measure: Metric,
        direction: Direction,
        positions: Sequence[int] | None,
        through_mlps: bool,
        receivers: Sequence[Sequence[Receiver]],
    ) -> _Runs:
        names: list[Place] = [("resid_pre", 0)]
        for site in ("z", "mlp_out"):
            names += [(site, n) for n in range(model.cfg.n_layers) if model.has_site(site, n)]
        rows = [tokens[None].to(model.cfg.device) for tokens in (pair.clean, pair.corrupted)]
        tokens, other_tokens = rows if direction == "noise" else rows[::-1]
        base = record_base(model, tokens)
        # Every place that is read in the end, so that a name without a site is found out now.
        read = [receiver.place for group in receivers for receiver in group]
        _, own = model.run_with_cache(tokens, [*names, *read], last_logits_only=True)
        last, other = model.run_with_cache(other_tokens, names, last_logits_only=True)
        logits = (base.logits, last[:, -1])
        clean, corrupted = logits if direction == "noise" else logits[::-1]
        answers, columns = answers_of([pair], measure, clean)
        seen = [x if columns is None else x[:, columns] for x in (clean, corrupted)]
        n_pos = tokens.shape[1]
        where = torch.zeros(n_pos, dtype=torch.bool, device=tokens.device)
        if any(not -n_pos <= p < n_pos for p in positions or ()):
            raise PatchingError(f"There are {n_pos} positions; {list(positions or ())} do not fit.")
        where[list(range(n_pos) if positions is None else positions)] = True
        written = {
            name: torch.where(where.reshape(1, -1, *[1] * (own[name].ndim - 2)), other[name], x)
            for name in names
            for x in (own[name],)
        }
        return cls(
            base=base,
            own=own,
            written=written,
            measure=measure,
            answers=answers,
            columns=columns,
            unpatched=(float(measure(seen[0], answers)), float(measure(seen[1], answers))),
            through_mlps=through_mlps,
        )

    def paths(
        self,
        senders: Sequence[Sequence[Sender]],
        receivers: Sequence[Sequence[Receiver]],
        memory_gb: float | None,
    ) -> Array:
        """The metric of each path, [sender, receiver]."""
        model, n = self.base.model, len(senders)
        found = np.full((n, len(receivers)), np.nan)
        exists = [
            [any(a.before(b, model) for a in sent for b in group) for group in receivers]
            for sent in senders
        ]
        heard = self._heard(senders, receivers)
        cells, where = [], []
        for row, column in product(range(n), range(len(receivers))):
            if not exists[row][column] or receivers[column][0].place[0] == "resid_post":
                continue
            cells.append(Cell(tuple(r.write for r in receivers[column]), row))
            where.append((row, column))
        if cells:
            values = run_cells(
                _repeated(self.base, n),
                cells,
                heard,
                lambda logits, index: self.measure(logits, self._answers(len(index))),
                columns=self.columns,
                memory_gb=memory_gb,
            )
            found[tuple(np.array(where).T)] = values
        for column, group in enumerate(receivers):
            if group[0].place[0] == "resid_post":
                resid = heard[group[0].place][:, -1]
                logits = model.unembed(model.ln_final(resid))
                logits = logits if self.columns is None else logits[:, self.columns]
                read = self.measure(logits.detach(), self._answers(n)).cpu().numpy()
                found[:, column] = np.where([row[column] for row in exists], read, np.nan)
        return found

    def _answers(self, n: int) -> Answers:
        return self.answers.rows(torch.zeros(n, dtype=torch.long, device=self.base.tokens.device))

    def _heard(
        self, senders: Sequence[Sequence[Sender]], receivers: Sequence[Sequence[Receiver]]
    ) -> dict[Place, Tensor]:
        """What the receivers read if only a row's senders change, [sender, pos, ...]."""
        model, n = self.base.model, len(senders)
        places = sorted({receiver.place for group in receivers for receiver in group})
        if not self.through_mlps:
            return self._heard_directly(senders, places)
        last = max(layer for _, layer in places if layer is not None)
        start = min(0 if s.place[0] == "resid_pre" else s.layer for sent in senders for s in sent)
        if start > last:  # no sender comes before any receiver
            return {p: self.own[p].expand(n, *self.own[p].shape[1:]) for p in places}
        stop = last + 1 if last + 1 < model.cfg.n_layers or model.spec.final else None
        _, cache = model.run_with_cache(
            self.base.tokens.expand(n, -1),
            places,
            self._held(senders, start, last),
            stop,
            start_at_layer=start,
            resid=self.base.resid[start].expand(n, -1, -1),
        )
        return {place: cache[place] for place in places}

    def _heard_directly(
        self, senders: Sequence[Sequence[Sender]], places: Sequence[Place]
    ) -> dict[Place, Tensor]:
        """The same with all parts held: what a sender changes in the stream stays as it is."""
        changes = [
            (layer, self._change(senders, layer))
            for layer in sorted({sender.layer for sent in senders for sender in sent})
        ]
        heard, n_layers = {}, self.base.model.cfg.n_layers
        for place in places:
            at = n_layers if place[0] == "resid_post" else place[1]
            assert at is not None
            resid = self.base.resid[at].expand(len(senders), -1, -1)
            for layer, change in changes:
                resid = resid + change if layer < at else resid
            if at == n_layers:
                heard[place] = resid
                continue
            edits = self._held(senders, at, at)
            heard[place] = self._one_block(at, resid, edits, place)
        return heard

    def _change(self, senders: Sequence[Sequence[Sender]], layer: int) -> Tensor:
        """What the senders of one layer change in the stream, [sender, pos, d_model]."""
        own = [tuple(s for s in sent if s.layer == layer) for sent in senders]
        rows = [row for row, sent in enumerate(own) if sent]
        change = torch.zeros_like(self.base.resid[0]).repeat(len(senders), 1, 1)
        if layer < 0:
            change[rows] = self.written["resid_pre", 0] - self.base.resid[0]
            return change
        resid = self.base.resid[layer].expand(len(rows), -1, -1)
        edits = self._held([own[row] for row in rows], layer, layer)
        after = self._one_block(layer, resid, edits, ("resid_post", layer))
        change[rows] = after - self.base.resid[layer + 1]
        return change

    def _one_block(
        self, layer: int, resid: Tensor, edits: Sequence[Intervention], place: Place
    ) -> Tensor:
        model = self.base.model
        inner = layer + 1 < model.cfg.n_layers or bool(model.spec.final)
        _, cache = model.run_with_cache(
            self.base.tokens.expand(len(resid), -1),
            [place],
            edits,
            layer + 1 if inner else None,
            start_at_layer=layer,
            resid=resid,
        )
        return cache[place]

    def _held(
        self, senders: Sequence[Sequence[Sender]], start: int, last: int
    ) -> list[Intervention]:
        """Every head keeps its output (and every MLP, if so asked) but for the senders."""
        model = self.base.model
        sites = ("z",) if self.through_mlps else ("z", "mlp_out")
        edits = [
            patch(site, layer, self.own[site, layer])
            for layer in range(start, last + 1)
            for site in sites
            if model.has_site(site, layer)
        ]
        by_place: dict[Place, list[tuple[int, int | None]]] = {}
        for row, sent in enumerate(senders):
            for sender in sent:
                by_place.setdefault(sender.place, []).append((row, sender.head))
        for (site, at), chosen in by_place.items():
            if at is None or not start <= at <= last or (site == "resid_pre" and start > 0):
                continue
            rows, heads = [row for row, _ in chosen], [head for _, head in chosen]
            source = self.written[site, at]
            if heads[0] is None:
                edits.append(patch(site, at, source, rows=rows))
            else:
                where = [head for head in heads if head is not None]
                edits.append(patch(site, at, source, rows=rows, heads=where, paired=True))
        return edits


def _repeated(base: Base, n: int) -> Base:
    """A base of one row as one of n, without a copy."""
    return replace(
        base,
        tokens=base.tokens.expand(n, -1),
        resid=tuple(x.expand(n, -1, -1) for x in base.resid),
        keys_values=tuple(
            (k.expand(n, -1, -1, -1), v.expand(n, -1, -1, -1)) for k, v in base.keys_values
        ),
        logits=base.logits.expand(n, -1),
    )
