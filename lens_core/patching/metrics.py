"""What a patched run is measured by: one number a run, from the logits at its answer position.

The logit difference is the default: it is linear in the logits, so parts add up, and blind to what
raises both answers alike. Probabilities are exponential in the logits and hide parts that act
against the answer; KL sees every change of the prediction, wanted or not (Heimersheim and Nanda
2024; Zhang and Nanda, ICLR 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.patching.errors import PatchingError


@dataclass(frozen=True, eq=False)
class Answers:
    """What a metric may look at beside the logits, one entry a row.

    Attributes:
        answer: Int [row], index into the last axis of the logits of the right answer.
        foil: Int [row], of the wrong one; -1 where a pair has none.
        clean_logits: Float [row, d_vocab], of the unpatched clean run; None if the metric said that
            it reads the answers only.
    """

    answer: Int[Tensor, " row"]
    foil: Int[Tensor, " row"]
    clean_logits: Float[Tensor, "row d_vocab"] | None = None

    def rows(self, index: Int[Tensor, " n"]) -> Answers:
        """The same for chosen rows."""
        clean = None if self.clean_logits is None else self.clean_logits[index]
        return Answers(self.answer[index], self.foil[index], clean)


@dataclass(frozen=True, eq=False)
class Metric:
    """A measure of a prediction.

    Attributes:
        name, unit: for axes and tables.
        function: from Float [row, d_vocab] and `Answers` to Float [row], differentiable.
        answers_only: it reads the logits of the answer and the foil and no others, so only these
            are computed; the logits then have fewer columns, and `Answers` points into them.
        needs_foil: every pair must have a wrong answer.
    """

    name: str
    unit: str
    function: Callable[[Float[Tensor, "row d_vocab"], Answers], Float[Tensor, " row"]]
    answers_only: bool = False
    needs_foil: bool = False

    def __call__(
        self, logits: Float[Tensor, "row d_vocab"], answers: Answers
    ) -> Float[Tensor, " row"]:
        """The metric of each row, in float32.

        Raises:
            PatchingError: the function did not return one number a row.
        """
        values = self.function(logits.float(), answers)
        if not isinstance(values, Tensor) or values.shape != logits.shape[:1]:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise PatchingError(
                f"The metric {self.name!r} must return one number for each of "
                f"{logits.shape[0]} rows, not {shape}."
            )
        return values


def _at(logits: Tensor, index: Tensor) -> Tensor:
    return logits.gather(1, index[:, None])[:, 0]


def _kl(logits: Tensor, answers: Answers) -> Tensor:
    assert answers.clean_logits is not None
    clean = answers.clean_logits.double().log_softmax(-1)
    patched = logits.double().log_softmax(-1)
    return (clean.exp() * (clean - patched)).sum(-1).float()


def _rank(logits: Tensor, answers: Answers) -> Tensor:
    return 1 + (logits > _at(logits, answers.answer)[:, None]).sum(-1).float()


logit_difference = Metric(
    "logit difference",
    "logits",
    lambda logits, a: _at(logits, a.answer) - _at(logits, a.foil),
    answers_only=True,
    needs_foil=True,
)
logit = Metric("logit", "logits", lambda logits, a: _at(logits, a.answer), answers_only=True)
probability = Metric("probability", "", lambda logits, a: _at(logits.softmax(-1), a.answer))
log_probability = Metric(
    "log probability", "nats", lambda logits, a: _at(logits.log_softmax(-1), a.answer)
)
kl = Metric("KL(clean || patched)", "nats", _kl)
rank = Metric("rank", "", _rank)

METRICS = {
    "logit_difference": logit_difference,
    "logit": logit,
    "probability": probability,
    "log_probability": log_probability,
    "kl": kl,
    "rank": rank,
}


def as_metric(
    metric: Metric | str | Callable[[Float[Tensor, "row d_vocab"]], Float[Tensor, " row"]],
) -> Metric:
    """A metric from one of ours, the name of one, or any function of the logits.

    Raises:
        PatchingError: there is no metric of that name.

    >>> as_metric("rank").name
    'rank'
    >>> as_metric(lambda logits: logits[:, 3]).unit
    ''
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric not in METRICS:
            raise PatchingError(f"There is no metric {metric!r}; there are {', '.join(METRICS)}.")
        return METRICS[metric]
    if not callable(metric):
        raise PatchingError(f"A metric is a function of the logits or a name, not {metric!r:.60}.")
    function = metric
    name = getattr(function, "__name__", "custom")
    return Metric(name, "", lambda logits, _: torch.as_tensor(function(logits)))
