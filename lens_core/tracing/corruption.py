"""How the subject is corrupted: Gaussian noise on its embeddings, or other tokens in its place.

Noise takes the model off the texts it knows and can make other parts matter than an exchange of
words does; with both, a result that holds under one of them only shows (Zhang and Nanda, ICLR
2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from lens_core.interventions import Intervention, add
from lens_core.lens.token_text import token_text
from lens_core.tracing.errors import TracingError

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.tracing.subject import Span


@dataclass(frozen=True)
class GaussianNoise:
    """Gaussian noise added to the subject's token embeddings.

    Attributes:
        sigmas: its standard deviation, in multiples of that of the embeddings' entries.
        std: its standard deviation itself, in place of `sigmas`; None: see there.
        samples: how many draws; every cell of a map gets the same ones, so that cells compare.
        seed: decides the draws.
    """

    sigmas: float = 3.0
    std: float | None = None
    samples: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        std = self.sigmas if self.std is None else self.std
        if self.samples < 1 or not 0 < std < float("inf"):
            raise TracingError("Noise needs one sample or more, and a size above zero.")


@dataclass(frozen=True)
class TokenReplacement:
    """Other subjects in the subject's place: symmetric token replacement.

    Attributes:
        subjects: texts (with the space in front that the subject has) or token ids, each of as many
            tokens as the subject; each is one sample.
    """

    subjects: tuple[str | tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not isinstance(self.subjects, tuple) or not self.subjects:
            raise TracingError('Give the other subjects as a tuple: (" Louvre Museum",).')


Corruption = GaussianNoise | TokenReplacement


@dataclass(frozen=True, eq=False)
class Corrupted:
    """The corrupted prompts, one row a sample: what to run, and under which interventions."""

    tokens: Int[Tensor, "sample pos"]
    interventions: tuple[Intervention, ...]
    noise_std: float | None


def embedding_std(model: HookedModel, rows: Iterable[Int[Tensor, " pos"]]) -> float:
    """Standard deviation of all entries of the token embeddings of some tokens, repeats counted.

    The code of Meng et al. 2022 takes the subjects of its 1,000 facts, and noise of three times it.
    """
    tokens = torch.cat([row.reshape(-1) for row in rows])
    _, cache = model.run_with_cache(tokens.reshape(-1, 1), ["embed"], stop_at_layer=0)
    return float(cache["embed"].float().std())


def corrupt(
    model: HookedModel,
    tokens: Int[Tensor, "1 pos"],
    span: Span,
    corruption: Corruption,
    *,
    sigma: float | None = None,
) -> Corrupted:
    """The corruption of one span of a prompt.

    Args:
        sigma: the embeddings' standard deviation; None: of this span's own tokens.

    Raises:
        TracingError: a replacement has another number of tokens, or the model's embeddings cannot
            be edited.
    """
    first, last = span
    if isinstance(corruption, TokenReplacement):
        return Corrupted(_replaced(model, tokens, span, corruption.subjects), (), None)
    if not model.has_site("embed", None):
        raise TracingError(
            f"The embeddings of {model.cfg.name} cannot be reached "
            f"({model.why_missing('embed', None)}); use TokenReplacement."
        )
    std = corruption.std
    if std is None:
        sigma = embedding_std(model, [tokens[0, first : last + 1]]) if sigma is None else sigma
        std = corruption.sigmas * sigma
    shape = (corruption.samples, last + 1 - first, model.cfg.d_model)
    # Drawn on the CPU in float32, so that a seed means the same noise on every device.
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(corruption.seed)) * std
    edit = add("embed", None, noise, positions=range(first, last + 1), name="noise")
    return Corrupted(tokens.expand(corruption.samples, -1), (edit,), std)


def _replaced(
    model: HookedModel,
    tokens: Int[Tensor, "1 pos"],
    span: Span,
    subjects: Sequence[str | tuple[int, ...]],
) -> Int[Tensor, "sample pos"]:
    first, last = span
    rows = tokens.repeat(len(subjects), 1)
    for row, subject in zip(rows, subjects, strict=True):
        ids = (
            model.to_tokens(subject, prepend_bos=False)[0]
            if isinstance(subject, str)
            else torch.tensor(subject)
        )
        if len(ids) != last + 1 - first:
            pieces = ", ".join(repr(token_text(model, int(i))) for i in ids[:8])
            raise TracingError(
                f"The other subject has {len(ids)} tokens ({pieces}) and the subject "
                f"{last + 1 - first}; choose one with as many."
            )
        row[first : last + 1] = ids
    return rows
