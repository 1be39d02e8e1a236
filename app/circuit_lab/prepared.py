"""The prompts, the stand-ins and the evidence, made once for all visitors who ask the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from app.attention_cache import Answer
from app.circuit_lab.settings import BOTH, NO_DISTRACTOR, Settings
from app.jobs import Job
from app.lens_cache import fingerprint
from lens_core.circuits import (
    Circuit,
    CircuitError,
    HeadEvidence,
    Knockouts,
    Node,
    circuit_names,
    faithfulness,
    ioi_evidence,
    ioi_knockouts,
    load_circuit,
)
from lens_core.circuits.knockout import ABLATIONS, MEASURES
from lens_core.circuits.scores import Faithfulness

if TYPE_CHECKING:
    from lens_core import HookedModel

# As few as are enough for a mean, so that the first figure comes soon.
N_REFERENCE = 32
MIN_PROMPTS, MAX_PROMPTS, MAX_SEED = 8, 128, 9999
_KEPT_SCORES = 2000


@dataclass(frozen=True)
class Key:
    """What is asked of a model, circuits aside."""

    order: str
    distractor: str
    n_prompts: int
    seed: int
    ablation: str
    metric: str

    @classmethod
    def of(cls, settings: Settings) -> Key:
        """The part of the settings that decides the prompts and what is measured on them."""
        return cls(
            settings.order,
            settings.distractor,
            min(max(settings.n_prompts, MIN_PROMPTS), MAX_PROMPTS),
            min(max(settings.seed, 0), MAX_SEED),
            settings.ablation,
            settings.metric,
        )

    @property
    def orders(self) -> tuple[Literal["ABBA", "BABA"], ...]:
        """As `ioi_dataset` takes them."""
        kinds: tuple[Literal["ABBA", "BABA"], ...] = ("ABBA", "BABA")
        return kinds if self.order == BOTH else tuple(k for k in kinds if k == self.order)

    @property
    def distracting(self) -> Any:
        """As `ioi_dataset` takes it."""
        return None if self.distractor == NO_DISTRACTOR else self.distractor


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model with its prompts and what stands in for its parts.

    Attributes:
        evidence: of every head. whole, empty: the scores of the whole model and of no heads.
        roles: what every head is said to do, by the circuit that comes with the library and else by
            the evidence.
        kept_scores: of circuits that were scored before, by what they keep.
    """

    model: HookedModel
    key: Key
    knockouts: Knockouts
    evidence: HeadEvidence
    whole: Faithfulness
    empty: Faithfulness
    roles: dict[Node, str]
    kept_scores: dict[Any, Faithfulness] = field(default_factory=dict)

    def circuit(self, nodes: Sequence[Node], name: str, *, all_mlps: bool = True) -> Circuit:
        """These nodes as a circuit, by role."""
        roles: dict[str, list[Node]] = {}
        for node in nodes:
            roles.setdefault(self.roles.get(node, "MLP"), []).append(node)
        return Circuit.of(name, roles, all_mlps=all_mlps)

    def scores(self, circuits: Sequence[Circuit]) -> list[Faithfulness]:
        """How faithful each is; what was not asked before is computed in one go."""
        kept = self.kept_scores
        if len(kept) > _KEPT_SCORES:
            kept.clear()
        known = {c.kept: kept.get(c.kept) for c in circuits}
        new = {c.kept: c for c in circuits if known[c.kept] is None}
        found = faithfulness(self.knockouts, list(new.values()), seed=self.key.seed) if new else ()
        known.update(zip(new, found, strict=True))
        kept.update(zip(new, found, strict=True))
        return [score for c in circuits if (score := known[c.kept]) is not None]


@lru_cache(maxsize=1)
def _library() -> tuple[Circuit, ...]:
    return tuple(load_circuit(name) for name in circuit_names())


def shipped_circuit(model: HookedModel) -> Circuit | None:
    """The circuit of this very model that comes with the library, if there is one."""
    name = model.cfg.name.rpartition("/")[2]
    return next((circuit for circuit in _library() if circuit.model == name), None)


def knockouts_of(model: HookedModel, key: Key) -> Knockouts:
    """The prompts and the stand-ins. Raises CircuitError for a model that splits names."""
    return ioi_knockouts(
        model,
        key.n_prompts,
        orders=key.orders,
        distractor=key.distracting,
        ablation=next(a for a in ABLATIONS if a == key.ablation),
        measure=next(m for m in MEASURES if m == key.metric),
        n_reference=N_REFERENCE,
        seed=key.seed,
    )


def prepare(model: HookedModel, key: Key, job: Job[Any] | None = None) -> Prepared:
    """Make the prompts and run the model on them.

    Raises:
        CircuitError: the model does not know the names, or does not do the task.
    """

    def step(done: int) -> None:
        if job is not None:
            job.step(done, 3, float(done))

    knockouts = knockouts_of(model, key)
    step(1)
    nothing = Circuit.of("no heads", ())
    whole, empty = faithfulness(knockouts, [knockouts.whole, nothing], seed=key.seed)
    difference = knockouts.readings([knockouts.whole])["logit difference"].mean()
    if difference <= 0:
        raise CircuitError(
            f"{model.cfg.name} prefers the wrong name on these prompts (by {-difference:.2f} "
            "logits on average), so there is no circuit to look for; choose tiny-world at the left."
        )
    step(2)
    evidence = ioi_evidence(knockouts)
    roles = dict(zip(evidence.heads, evidence.suggested_roles(), strict=True))
    shipped = shipped_circuit(model)
    if shipped is not None:
        roles |= {node: shipped.role_of(node) for node in shipped.nodes}
    step(3)
    found = Prepared(model, key, knockouts, evidence, whole, empty, roles)
    found.kept_scores.update({knockouts.whole.kept: whole, nothing.kept: empty})
    return found


def prepared_job(model: HookedModel, key: Key) -> Job[Answer[Prepared]]:
    """The job that prepares, begun by whoever asked first; one that failed is begun anew."""
    names = (fingerprint(model), model.cfg.name, key)
    job: Job[Answer[Prepared]] = _job(*names, model)
    if job.error is not None:
        _job.clear(*names, model)
    return job


# The stand-ins of resampling take 100 MB for a model of GPT-2's size, so few are kept.
@st.cache_resource(max_entries=6, show_spinner=False)
def _job(weights: str, name: str, key: Key, _model: Any) -> Job[Answer[Prepared]]:
    return Job(lambda job: Answer(prepare(_model, key, job), 0.0)).start()
