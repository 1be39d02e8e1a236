"""What takes longer than a tick: completeness, minimality and random circuits of the same size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from app.attention_cache import Answer
from app.circuit_lab.chosen import random_nodes
from app.circuit_lab.prepared import Prepared
from app.jobs import Job
from lens_core.circuits import Circuit, completeness, minimality
from lens_core.circuits.scores import Completeness, Faithfulness, Minimality

N_RANDOM = 4
_KEPT, _MOST = "circuit_checks", 24


@dataclass(frozen=True, eq=False)
class Checks:
    """What was found of one circuit.

    Attributes:
        asked: of which circuit, and on what.
        random: of as many heads drawn at random, several times.
        thorough: with sets drawn at random and by greed, not only the roles.
    """

    asked: tuple[Any, ...]
    complete: Completeness
    minimal: Minimality
    random: tuple[Faithfulness, ...]
    thorough: bool


@dataclass
class _Kept:
    """This visitor's checks by what was asked, and the one that is under way."""

    jobs: dict[Any, Job[Answer[Checks]]] = field(default_factory=dict)


def checks_job(ready: Prepared, circuit: Circuit) -> Job[Answer[Checks]]:
    """The job for this circuit; that of the circuit before ends at its next step."""
    kept: _Kept = st.session_state.setdefault(_KEPT, _Kept())
    asked = _asked(ready, circuit)
    for other, job in list(kept.jobs.items()):
        if other != asked and not job.finished.is_set():
            job.cancel()
            del kept.jobs[other]
    if asked not in kept.jobs or kept.jobs[asked].error is not None:
        while len(kept.jobs) >= _MOST:
            del kept.jobs[next(iter(kept.jobs))]
        work = Job(lambda job: Answer(run_checks(ready, circuit, job, thorough=False), 0.0))
        kept.jobs[asked] = work.start()
    return kept.jobs[asked]


def keep(job: Job[Answer[Checks]]) -> None:
    """A thorough check takes the place of the quick one of its circuit, whichever is shown now."""
    kept: _Kept = st.session_state.setdefault(_KEPT, _Kept())
    assert job.result is not None
    kept.jobs[job.result.result.asked] = job


def _asked(ready: Prepared, circuit: Circuit) -> tuple[Any, ...]:
    return ready.model.cfg.name, ready.key, circuit.kept


def random_circuits(ready: Prepared, circuit: Circuit) -> list[Circuit]:
    """The control: as many heads, drawn at random several times."""
    n, seed = len(circuit.heads), ready.key.seed
    drawn = [random_nodes(ready.model, n, seed + i) for i in range(N_RANDOM)]
    return [ready.circuit(nodes, "random heads", all_mlps=circuit.all_mlps) for nodes in drawn]


def run_checks(ready: Prepared, circuit: Circuit, job: Job[Any], *, thorough: bool) -> Checks:
    """Compare the circuit with the model, and with itself less one node at a time."""
    stages = 3

    def at(stage: int) -> Any:
        return lambda done, total: job.step(
            stage * 100 + 100 * done // max(total, 1), 100 * stages, float(stage)
        )

    knockouts, seed = ready.knockouts, ready.key.seed
    job.step(0, 100 * stages, 0.0)
    minimal = minimality(
        knockouts,
        circuit,
        n_random=4 if thorough else 0,
        by_role=thorough,
        on_step=at(0),
        seed=seed,
    )
    complete = completeness(
        knockouts,
        circuit,
        n_random=10 if thorough else 0,
        greedy_steps=3 if thorough else 0,
        on_step=at(1),
        seed=seed,
    )
    job.step(200, 100 * stages, 0.0)
    scores = tuple(ready.scores(random_circuits(ready, circuit)))
    return Checks(_asked(ready, circuit), complete, minimal, scores, thorough)
