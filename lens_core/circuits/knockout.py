"""What a model still does when all but a circuit is knocked out.

    knockouts = Knockouts(model, dataset)
    knockouts.logit_differences([circuit, circuit.without([(9, 9)])])    # [circuit, prompt]

A head that is knocked out hands on the mean of its outputs over the reference prompts of the same
template, at the same position, instead of its own (mean ablation, Wang et al. 2022, section 2.3);
an MLP likewise. The result depends on this choice (Miller et al. 2024, arXiv 2407.08734), so zero
and resample ablation are here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lens_core.circuits.circuit import Circuit, every_node
from lens_core.circuits.dataset import TemplateDataset, TemplateGroup
from lens_core.circuits.errors import CircuitError
from lens_core.circuits.shared import shared_runs
from lens_core.interventions import Intervention, custom

if TYPE_CHECKING:
    from lens_core import HookedModel

Ablation = Literal["mean", "overall mean", "zero", "resample"]
Measure = Literal["logit difference", "log odds"]
Place = tuple[str, int]
Reading = Literal["logit difference", "log odds", "first"]
MEASURES: tuple[Measure, ...] = ("logit difference", "log odds")
_READINGS: tuple[Reading, ...] = (*MEASURES, "first")
ABLATIONS: tuple[Ablation, ...] = ("mean", "overall mean", "zero", "resample")
_BATCH_ROWS, _MOST_KNOWN = 512, 4000


class Knockouts:
    """A model and a dataset, and what stands in for each part: made once, asked often.

    Args:
        ablation: "mean" over the reference prompts of the template, position by position; "overall
            mean" over all templates and positions; "zero"; or "resample", one reference prompt for
            each prompt. "mean" and "resample" leave a circuit what all prompts of a template have
            in common: where in it something stands.
        measure: "logit difference" of the right answer over the wrong one; or "log odds" of the
            right answer among all candidates of the dataset, in nats: its logit less the
            log-sum-exp of theirs. A circuit that only holds the wrong answer down has the first
            and not the second.
        batch_rows: how many prompts times circuits go through the model at once.
        seed: decides the draws of "resample".

    Attributes:
        model_differences: Float [prompt], the measure of the whole model.

    Raises:
        CircuitError: an unknown kind of ablation or measure.

    Example:
        >>> from lens_core import HookedModel
        >>> from lens_core.circuits import Circuit, ioi_dataset
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> knockouts = Knockouts(model, ioi_dataset(model, 8))
        >>> knockouts.logit_differences([Circuit.of("one head", [(0, 0)])]).shape
        (1, 8)
    """

    def __init__(
        self,
        model: HookedModel,
        dataset: TemplateDataset,
        *,
        ablation: Ablation = "mean",
        measure: Measure = "logit difference",
        batch_rows: int = _BATCH_ROWS,
        seed: int = 0,
    ) -> None:
        if ablation not in ABLATIONS:
            raise CircuitError(f"Ablations are {', '.join(ABLATIONS)}, not {ablation!r:.30}.")
        if measure not in MEASURES:
            raise CircuitError(f"Measures are {', '.join(MEASURES)}, not {measure!r:.30}.")
        if batch_rows < 1:
            raise CircuitError(f"batch_rows must be at least 1, not {batch_rows}.")
        self.model, self.dataset = model, dataset
        self.ablation, self.measure = ablation, measure
        self._batch_rows = batch_rows
        self._known: dict[Any, Float[np.ndarray, "reading prompt"]] = {}
        generator = torch.Generator().manual_seed(seed)
        self._values = [_stand_ins(model, group, ablation, generator) for group in dataset.groups]
        self.whole = Circuit.of("the whole model", every_node(model))
        if ablation == "overall mean":
            shared = _over_groups(self._values)
            self._values = [shared] * len(self._values)
        self._whole_listed = Circuit.of(
            "the whole model", every_node(model, mlps=True), all_mlps=False
        )
        self.model_differences = self.logit_differences([self.whole])[0]

    def logit_differences(
        self,
        circuits: Sequence[Circuit],
        *,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Float[np.ndarray, "circuit prompt"]:
        """The measure of each prompt under each circuit, in logits.

        Args:
            on_step: called with how many of the runs are done, and how many there are; what it
                raises ends the work.

        Raises:
            CircuitError: a circuit with a node that the model lacks, or a position that the dataset
                lacks.
        """
        return self.readings(circuits, on_step=on_step)[self.measure]

    def readings(
        self,
        circuits: Sequence[Circuit],
        *,
        on_step: Callable[[int, int], None] | None = None,
    ) -> dict[Reading, Float[np.ndarray, "circuit prompt"]]:
        """Both measures from the same runs, and "first": 1 where the right answer leads them all.

        Circuits that keep the same in the first layers share the work of these, and what was asked
        before is not run again. The arguments and the errors are those of `logit_differences`.
        """
        for circuit in circuits:
            self._check(circuit)
        names = [circuit.kept for circuit in circuits]
        known = {name: self._known[name] for name in names if name in self._known}
        new = {c.kept: c for c in circuits if c.kept not in known}
        known.update(zip(new, self._computed(list(new.values()), on_step), strict=True))
        if len(self._known) + len(new) > _MOST_KNOWN:
            self._known = {}
        self._known.update({name: known[name] for name in new})
        shape = (len(circuits), len(_READINGS), len(self.dataset))
        found = np.array([known[name] for name in names]).reshape(shape)
        return {reading: found[:, i] for i, reading in enumerate(_READINGS)}

    def _computed(
        self, circuits: Sequence[Circuit], on_step: Callable[[int, int], None] | None
    ) -> Float[np.ndarray, "circuit reading prompt"]:
        out = np.zeros((len(circuits), len(_READINGS), len(self.dataset)))
        jobs = [
            (number, start, step)
            for number, group in enumerate(self.dataset.groups)
            for step in (max(1, self._batch_rows // len(group.rows)),)
            for start in range(0, len(circuits), step)
        ]
        for done, (number, start, step) in enumerate(jobs):
            if on_step is not None:
                on_step(done, len(jobs))
            rows = self.dataset.groups[number].rows.numpy()
            found = self._run(number, circuits[start : start + step])
            out[start : start + step, :, rows] = found.transpose(0, 1).cpu().numpy()
        return out

    def whole_with(self, circuit: Circuit) -> Circuit:
        """The whole model as a circuit whose nodes can be taken out: MLPs too if that one lists."""
        return self.whole if circuit.all_mlps else self._whole_listed

    def interventions(self, group: int, circuits: Sequence[Circuit]) -> list[Intervention]:
        """What knocks out all but the circuits, in a run of one group's prompts once a circuit.

        For runs that look at more than the answer:
        `model.run_with_cache(dataset.groups[0].tokens, names, knockouts.interventions(0, [c]))`.
        """
        heads, mlps = self._kept(self.dataset.groups[group], circuits)
        return self._edits(group, heads, mlps, range(self.model.cfg.n_layers))

    def _check(self, circuit: Circuit) -> None:
        circuit.check(self.model)
        named = {name for names in circuit.positions.values() for name in names}
        missing = named - self.dataset.position_names
        if missing:
            raise CircuitError(
                f"{circuit.name!r} is kept at {', '.join(sorted(missing))}, which the prompts of "
                f"{self.dataset.name!r} do not have."
            )

    def _edits(
        self, number: int, heads: Tensor, mlps: Tensor, layers: Iterable[int]
    ) -> list[Intervention]:
        edits: list[Intervention] = []
        for layer in layers:
            for site, kept in (
                ("z", heads[:, :, layer, ..., None]),
                ("mlp_out", mlps[:, :, layer]),
            ):
                if not bool(kept.all()):
                    value = self._values[number][site, layer]
                    edits.append(_replace(site, layer, kept.flatten(0, 1), value))
        return edits

    @torch.no_grad()
    def _run(
        self, number: int, circuits: Sequence[Circuit]
    ) -> Float[Tensor, "reading circuit prompt"]:
        group = self.dataset.groups[number]
        heads, mlps = self._kept(group, circuits)
        n_layers, resid = self.model.cfg.n_layers, None
        runs, branch = shared_runs(torch.cat([heads, mlps], dim=-1).transpose(1, 2))
        for run in runs:
            own = torch.tensor(run.circuits)
            out = self.model.run(
                group.tokens.repeat(len(own), 1),
                self._edits(number, heads[own], mlps[own], range(run.start, run.stop)),
                start_at_layer=run.start,
                resid=None if resid is None else resid[list(run.parents)].flatten(0, 1),
                stop_at_layer=None if run.stop == n_layers else run.stop,
                last_logits_only=run.stop == n_layers,
            )
            resid = out.unflatten(0, (len(own), len(group.rows)))
        assert resid is not None
        logits = resid[list(branch), :, -1].float()
        return self._measured(logits, self.dataset.answer[group.rows], group)

    def _measured(
        self, logits: Tensor, answer: Tensor, group: TemplateGroup
    ) -> Float[Tensor, "reading circuit prompt"]:
        row = torch.arange(len(group.rows))
        right = logits[:, row, answer]
        wrong = logits[:, row, self.dataset.foil[group.rows]]
        candidates = self.dataset.candidates
        hidden = (candidates == answer[:, None]).to(logits.device)
        others = logits[:, :, candidates].masked_fill(hidden, -torch.inf)
        first = (right > others.amax(dim=-1)).to(right.dtype)
        return torch.stack([right - wrong, right - others.logsumexp(dim=-1), first])

    def _kept(
        self, group: TemplateGroup, circuits: Sequence[Circuit]
    ) -> tuple[Bool[Tensor, "circuit row layer pos head"], Bool[Tensor, "circuit row layer pos 1"]]:
        """Which heads and MLPs are the circuits' own, for every row and position."""
        cfg, (n_rows, n_pos) = self.model.cfg, group.tokens.shape
        shape = (len(circuits), n_rows, cfg.n_layers, n_pos)
        heads = torch.zeros(*shape, cfg.n_heads, dtype=torch.bool)
        mlps = torch.zeros(*shape, 1, dtype=torch.bool)
        for i, circuit in enumerate(circuits):
            mlps[i] = circuit.all_mlps
            for role, nodes in circuit.roles.items():
                where = torch.ones(n_rows, n_pos, dtype=torch.bool)
                if role in circuit.positions:
                    where = torch.zeros(n_rows, n_pos, dtype=torch.bool)
                    for name in circuit.positions[role]:
                        where[torch.arange(n_rows), group.positions[name]] = True
                for layer, head in nodes:
                    if head is None:
                        mlps[i, :, layer, :, 0] |= where
                    else:
                        heads[i, :, layer, :, head] |= where
        return heads, mlps


def _replace(site: str, layer: int, kept: Tensor, value: Tensor) -> Intervention:
    def put(x: Tensor) -> Tensor:
        at = value.to(x.device, x.dtype)
        if at.shape[0] != 1:
            at = at.repeat(x.shape[0] // at.shape[0], *(1,) * (at.ndim - 1))
        return torch.where(kept.to(x.device), x, at)

    return custom(site, layer, put, name=f"knock out {site}[{layer}]")


@torch.no_grad()
def _stand_ins(
    model: HookedModel, group: TemplateGroup, ablation: Ablation, generator: torch.Generator
) -> dict[Place, Float[Tensor, "row_or_1 pos ..."]]:
    """What each place gets where it is knocked out."""
    places = [(site, layer) for site in ("z", "mlp_out") for layer in range(model.cfg.n_layers)]
    _, cache = model.run_with_cache(group.reference, places, last_logits_only=True)
    if ablation == "zero":
        return {place: torch.zeros_like(cache[place][:1]) for place in places}
    if ablation == "mean":
        return {place: cache[place].mean(dim=0, keepdim=True) for place in places}
    if ablation == "overall mean":
        # The start token is like no other: what heads hand on there says nothing of a word.
        return {place: cache[place][:, 1:].mean(dim=(0, 1), keepdim=True) for place in places}
    drawn = torch.randint(len(group.reference), (len(group.rows),), generator=generator)
    return {place: cache[place][drawn] for place in places}


def _over_groups(values: Sequence[dict[Place, Tensor]]) -> dict[Place, Tensor]:
    """The mean over templates, each counted once."""
    return {place: torch.stack([own[place] for own in values]).mean(dim=0) for place in values[0]}
