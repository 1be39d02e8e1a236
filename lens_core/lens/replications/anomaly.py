"""Anomalous prompts seen in the trajectory of the model's guesses, beside a simpler detector.

A prompt's *trajectory* is, at its last token, the log-probability that each lens row gives to the
model's few best final answers. A local outlier factor (Breunig et al. 2000), fitted to normal
prompts alone, scores how unusual a trajectory is. Belrose et al. 2023 (arXiv 2303.08112), section
5.1, table 1, detected injected instructions so; the published package no longer holds it.

The detector needs scikit-learn: ``pip install "lens-core[research]"``.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch

from lens_core.bootstrap import (
    Interval,
    auroc,
    mean_over_documents,
    over_documents,
)
from lens_core.lens.errors import LensDataError
from lens_core.lens.head import head_logits
from lens_core.lens.read import OnStep
from lens_core.lens.replications.result import Claim, Figure, Replication
from lens_core.lens.replications.states import site_of
from lens_core.lens.result import Array
from lens_core.lens.transports import Transport
from lens_core.model.errors import MissingDependencyError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

CLAIM = Claim(
    key="anomaly",
    title="Anomalous prompts show in the trajectory",
    claim="A detector fitted to the tuned-lens trajectories of normal prompts tells prompts with "
    "an injected contradiction from normal ones.",
    formula="Local outlier factor on the log-probabilities, at every depth, of the model's best "
    "final answers; area under the ROC curve on subjects held out.",
    source="Belrose et al. 2023 (arXiv 2303.08112), table 1: AUROC 1.00 on 5 of 9 tasks for "
    "Pythia-12B; a Mahalanobis baseline was as good on most and better on two",
    control="The same detector asked to tell a true sentence in the same place from the false one: "
    "one that merely notices an added sentence has 0.5 there. That it can see anything at all: "
    "questions whose subject is of the wrong kind. Baseline: the Mahalanobis distance of the last "
    "state, no lens.",
    criterion="The AUROC's interval lies above 0.5 both for prompts with a false sentence against "
    "bare ones and for false sentences against true ones.",
    does_not_show="That real attacks are found: these are one kind of contradiction in generated "
    "text, and whoever knows the detector can write around it. Where the baseline is as good, the "
    "lens was not needed.",
)
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Trajectories:
    """What each prompt shows at its last token.

    ``logprobs`` is [prompt, depth, k], of the model's ``k`` best final answers; ``last_states``
    [prompt, d_model]; ``answers`` [prompt], the best.
    """

    logprobs: Array
    last_states: Array
    answers: Array

    @property
    def features(self) -> Array:
        """Flattened, [prompt, depth * k]."""
        return np.asarray(self.logprobs.reshape(len(self.logprobs), -1))

    def to_frame(self) -> pd.DataFrame:
        """One line a prompt and depth."""
        import pandas as pd

        n, n_depths, k = self.logprobs.shape
        prompt, depth = (i.ravel() for i in np.indices((n, n_depths)))
        answers = {f"logprob_{j + 1}": self.logprobs[:, :, j].ravel() for j in range(k)}
        return pd.DataFrame({"prompt": prompt, "depth": depth, **answers})


@dataclass(frozen=True)
class ConflictPrompts:
    """One question of the world four times.

    ``true`` and ``false`` put a sentence before it that states the question's own fact in one and
    the same wording; only the object differs. ``mismatched`` asks the question of a subject of
    another kind (which sport a city plays).
    """

    subject: str
    bare: str
    true: str
    false: str
    mismatched: str


def conflict_prompts(n: int, seed: int = 0) -> list[ConflictPrompts]:
    """Questions about different subjects, in wordings that training did not use for them."""
    from lens_core.world.datasets import fact_prompts
    from lens_core.world.facts import Fact, facts_of
    from lens_core.world.frames import capital, expand, fact_frames, is_cloze, word

    rng = random.Random(seed)
    asked = list(fact_prompts(seed=seed))
    rng.shuffle(asked)
    made: dict[str, ConflictPrompts] = {}
    for question in asked:
        fact = Fact(question.relation, question.subject, question.object)
        others = sorted({f.object for f in facts_of(fact.relation)} - {fact.object})
        frames = [f for f in fact_frames(fact.relation, fact.subject)["train"] if is_cloze(f)]
        if question.subject in made or not others or not frames:
            continue
        said = word(fact, rng.choice(frames), rng)
        true, false = (
            f"{capital(expand(said.prompt, rng))} {answer}. {question.prompt}"
            for answer in (fact.object, rng.choice(others))
        )
        a, b = question.subject_chars
        kind = fact.relation.partition("_")[0]
        stranger = rng.choice([q for q in asked if not q.relation.startswith(kind)]).subject
        odd = question.prompt[:a] + stranger + question.prompt[b:]
        made[question.subject] = ConflictPrompts(
            question.subject, question.prompt, true, false, odd
        )
    if len(made) < n:
        raise LensDataError(f"The world has {len(made)} such questions; ask for fewer than {n}.")
    return list(made.values())[:n]


def trajectories(
    model: HookedModel,
    lens: Transport,
    prompts: Sequence[str],
    *,
    k: int = 4,
    on_step: OnStep | None = None,
) -> Trajectories:
    """Log-probabilities of the ``k`` best final answers at every depth, for each prompt."""
    n_layers = model.cfg.n_layers
    depths = [d for d in range(n_layers + 1) if lens.reads(d, n_layers)]
    sites = [site_of(depth, n_layers) for depth in depths]
    last = site_of(n_layers, n_layers)
    logprobs, states, answers = [], [], []
    for start in range(0, len(prompts), _BATCH):
        with torch.no_grad():
            logits, cache = model.run_with_cache(
                list(prompts[start : start + _BATCH]),
                names=[*dict.fromkeys([*sites, last])],
                last_logits_only=True,
            )
            best = logits[:, -1].float().topk(k).indices
            rows = []
            for depth, site in zip(depths, sites, strict=True):
                read = head_logits(model, lens.carry(model, cache[site][:, -1:], depth))[:, 0]
                rows.append(torch.log_softmax(read, -1).gather(-1, best))
        logprobs.append(torch.stack(rows, dim=1).cpu().numpy())
        states.append(cache[last][:, -1].float().cpu().numpy())
        answers.append(best[:, 0].cpu().numpy())
        if on_step is not None:
            on_step(min(start + _BATCH, len(prompts)), len(prompts))
    return Trajectories(*(np.concatenate(part) for part in (logprobs, states, answers)))


def local_outlier_scores(normal: Array, scored: Array, *, n_neighbors: int = 20) -> Array:
    """How unusual each scored row is among the normal ones, [scored]; higher is stranger.

    Columns are brought to one scale by the normal rows.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    neighbors = _sklearn("neighbors")
    mean, spread = normal.mean(0), normal.std(0) + 1e-6
    detector = neighbors.LocalOutlierFactor(n_neighbors=n_neighbors, novelty=True)
    detector.fit((normal - mean) / spread)
    return -np.asarray(detector.score_samples((scored - mean) / spread))


def mahalanobis_scores(normal: Array, scored: Array) -> Array:
    """Squared Mahalanobis distance from the normal rows (Ledoit-Wolf covariance), [scored].

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    return np.asarray(_sklearn("covariance").LedoitWolf().fit(normal).mahalanobis(scored))


def _sklearn(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "The anomaly detectors need scikit-learn. Install it: pip install 'lens-core[research]'"
        ) from error


def replicate_anomaly(
    model: HookedModel,
    lens: Transport,
    *,
    n_prompts: int = 600,
    held_out: float = 0.4,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Replication:
    """See `CLAIM`; ``lens`` is the tuned one. For models of the world's facts (tiny-world)."""
    asked = conflict_prompts(n_prompts, seed)
    n_fit = round(len(asked) * (1 - held_out))
    fit, held = asked[:n_fit], asked[n_fit:]
    kinds = {
        "fit": [q.bare for q in fit],
        "bare": [q.bare for q in held],
        "true": [q.true for q in held],
        "false": [q.false for q in held],
        "mismatched": [q.mismatched for q in held],
    }
    prompts = [prompt for kind in kinds.values() for prompt in kind]
    seen = trajectories(model, lens, prompts, on_step=on_step)
    ends = np.cumsum([len(kind) for kind in kinds.values()])[:-1]
    rows = dict(zip(kinds, np.split(np.arange(len(prompts)), ends), strict=True))
    scores = {
        "trajectory": local_outlier_scores(seen.features[rows["fit"]], seen.features),
        "Mahalanobis baseline": mahalanobis_scores(seen.last_states[rows["fit"]], seen.last_states),
    }
    figures = [
        Figure.of(
            f"AUROC, {strange} against {normal}",
            series,
            _auroc_interval(score[rows[normal]], score[rows[strange]], seed),
        )
        for series, score in scores.items()
        for strange, normal in (("false", "bare"), ("false", "true"), ("mismatched", "bare"))
    ]
    bare, control, positive, base_bare, base_control, _ = figures
    same = mean_over_documents(
        seen.answers[rows["false"]] == seen.answers[rows["bare"]], np.arange(len(held)), seed=seed
    )
    figures.append(Figure.of("same answer after a false sentence", "model", same))
    holds = bare.low > 0.5 and control.low > 0.5
    shown = (
        f"AUROC {bare.value:.2f} ({bare.low:.2f} to {bare.high:.2f}) against bare prompts and "
        f"{control.value:.2f} ({control.low:.2f} to {control.high:.2f}) against a true sentence in "
        f"the same place; without any lens {base_bare.value:.2f} and {base_control.value:.2f}. "
        f"The model gives the same answer after a false sentence in {same.value:.0%} of prompts; "
        f"questions of the wrong kind of subject are detected with {positive.value:.2f}."
    )
    return Replication.judged(
        CLAIM,
        figures,
        holds,
        shown,
        model.cfg.name,
        {"seed": seed, "n_fit": len(fit), "n_held_out": len(held), "lens": lens.name},
    )


def _auroc_interval(normal: Array, anomalous: Array, seed: int) -> Interval:
    """Both prompts of a subject are drawn together."""
    return over_documents(
        lambda i: auroc(normal[i], anomalous[i]), np.arange(len(normal)), seed=seed
    )
