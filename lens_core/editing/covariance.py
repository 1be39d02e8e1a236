"""C, the second moment of a layer's keys: which directions other text uses, and how much.

An edit moves along C^-1 k, so that keys which texts often have are disturbed least (Meng et al.
2022, eq. 2). The published statistics are of 100,000 articles and take days; a few tens of keys for
each dimension of a key do as well, and those of a small model's own corpus take seconds. What was
once computed is kept on disk, by the weights and the text that it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from lens_core.editing import statistics_file
from lens_core.editing.corpus import Corpus, own_corpus, rows_of_texts
from lens_core.editing.errors import EditingError
from lens_core.editing.weights import fingerprint

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel
    from lens_core.editing.value import OnStep

# Keys for each dimension below which C says more of the sample than of the text.
ENOUGH_PER_DIMENSION = 10
_ROWS_AT_ONCE = 16
_KEPT: WeakKeyDictionary[HookedModel, dict[tuple[int, ...], KeyCovariance]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class KeyCovariance:
    """E[k k^T], not centred, of the keys of some layers.

    Attributes:
        moments: by layer, float64 [d_mlp, d_mlp].
        n_tokens: how many keys; source: of which text.
        model_name, fingerprint: of whose keys; "" where a file does not say.
        corpus_sha256: of the tokens; "" where a file does not say.
        approximate: the text is not what the model was trained on, or there is too little of it.
    """

    moments: dict[int, Float[Tensor, "d_mlp d_mlp"]]
    n_tokens: int
    source: str
    model_name: str = ""
    fingerprint: str = ""
    corpus_sha256: str = ""
    approximate: bool = False
    _factors: dict[tuple[int, float], Tensor] = field(default_factory=dict, repr=False)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that it knows, in order."""
        return tuple(sorted(self.moments))

    def check(self, model: HookedModel, layer: int) -> None:
        """Refuse a layer that is not here, or statistics of other keys.

        Raises:
            EditingError: the sentence says what does not fit.
        """
        if layer not in self.moments:
            raise EditingError(
                f"These key statistics are of the layers {list(self.layers)}, not of layer {layer};"
                " compute them for it."
            )
        width, d_mlp = self.moments[layer].shape[0], model.W_out[layer].shape[0]
        if width != d_mlp:
            raise EditingError(
                f"These key statistics are of keys with {width} entries, and those of "
                f"{model.cfg.name} have {d_mlp} in layer {layer}: they are of another model."
            )
        if self.fingerprint and self.fingerprint != fingerprint(model.base):
            raise EditingError(
                f"These key statistics are of {self.model_name} with other weights than those of "
                f"{model.base.cfg.name} here; compute them anew."
            )

    def solve(
        self, layer: int, keys: Float[Tensor, "n d_mlp"], *, ridge: float = 1e-4
    ) -> Float[Tensor, "n d_mlp"]:
        """(C + r I)^-1 k for some keys, in float64 on the CPU.

        Args:
            ridge: r in mean diagonal entries of C. Text from templates leaves C without weight in
                many directions, where its inverse would be huge.

        Raises:
            EditingError: C cannot be inverted with so small a ridge.
        """
        return torch.cholesky_solve(keys.double().cpu().T, self._factor(layer, ridge)).T

    def leverage(
        self, layer: int, keys: Float[Tensor, "n d_mlp"], *, ridge: float = 1e-4
    ) -> Float[Tensor, " n"]:
        """k^T (C + r I)^-1 k of some keys: how rare they are; see `solve`."""
        return (keys.double().cpu() * self.solve(layer, keys, ridge=ridge)).sum(dim=-1)

    def _factor(self, layer: int, ridge: float) -> Float[Tensor, "d_mlp d_mlp"]:
        # Two threads may both make it, and get the same numbers.
        if (layer, ridge) not in self._factors:
            moment = self.moments[layer]
            floor = ridge * moment.diagonal().mean()
            factor, failed = torch.linalg.cholesky_ex(
                moment + floor * torch.eye(len(moment), dtype=moment.dtype)
            )
            if bool(failed):
                raise EditingError(
                    f"The key statistics of layer {layer} cannot be inverted with a ridge of "
                    f"{ridge:g}; give more text or a larger ridge."
                )
            self._factors[layer, ridge] = factor
        return self._factors[layer, ridge]

    def eigenvalues(self, layer: int) -> Float[Tensor, " d_mlp"]:
        """Of C, the largest first."""
        return torch.linalg.eigvalsh(self.moments[layer]).flip(0)

    def condition_number(self, layer: int, *, ridge: float = 0.0) -> float:
        """Largest over smallest eigenvalue of C + r I; infinite where the smallest is none."""
        values = self.eigenvalues(layer) + ridge * self.moments[layer].diagonal().mean()
        return float(values[0] / values[-1]) if values[-1] > 0 else math.inf

    def effective_rank(self, layer: int) -> float:
        """exp of the entropy of C's normalised eigenvalues: how many directions keys really use."""
        shares = self.eigenvalues(layer).clamp(min=0)
        shares = shares / shares.sum()
        return float(torch.special.entr(shares).sum().exp())

    def to_frame(self) -> pd.DataFrame:
        """One line a layer: width, number of keys, effective rank, condition number."""
        import pandas as pd

        return pd.DataFrame(
            {
                "layer": layer,
                "d_mlp": len(self.moments[layer]),
                "n_tokens": self.n_tokens,
                "effective_rank": self.effective_rank(layer),
                "condition_number": self.condition_number(layer),
                "approximate": self.approximate,
                "source": self.source,
            }
            for layer in self.layers
        )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, in float32."""
        statistics_file.write(Path(path), self.moments, self._about())

    @classmethod
    def load(cls, path: str | Path) -> KeyCovariance:
        """Read what `save` wrote.

        Raises:
            EditingError: there is no such file, or it holds something else.
        """
        moments, about = statistics_file.read(Path(path))
        return cls(
            moments,
            int(about["n_tokens"]),
            about["source"],
            about["model_name"],
            about["fingerprint"],
            about["corpus_sha256"],
            about["approximate"] == "True",
        )

    @classmethod
    def from_rome(cls, path: str | Path, layer: int) -> KeyCovariance:
        """Read one layer's .npz file of the published ROME or MEMIT code.

        Raises:
            EditingError: there is no such file, or it holds something else.
        """
        moment, count = statistics_file.read_rome(Path(path))
        return cls({layer: moment}, count, f"the file {Path(path).name}", approximate=True)

    def _about(self) -> dict[str, str]:
        names = ("n_tokens", "source", "model_name", "fingerprint", "corpus_sha256", "approximate")
        return {name: str(getattr(self, name)) for name in names}


def key_covariance(
    model: HookedModel,
    texts: Iterable[str] | None = None,
    *,
    layers: Sequence[int] | None = None,
    n_tokens: int | None = None,
    seed: int = 0,
    cache: bool = True,
    on_step: OnStep | None = None,
) -> KeyCovariance:
    """The second moment of a model's keys, all layers in one pass over the text.

    Args:
        texts: documents; None: the world's for tiny-world, else what the model itself writes. Texts
            that are given, and what a model writes, count as `approximate`.
        layers: None: all that have keys.
        n_tokens: how many keys; None: 20 for each dimension, 12 of what a model writes.
        seed: of the corpus, where it is drawn.
        cache: keep the result on disk and look there first; see `statistics_file.folder`.
        on_step: called with the number of rows done and of all; what it raises ends the work.

    Raises:
        EditingError: too little text, or a layer without keys.

    Example:
        >>> from lens_core import HookedModel
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> c = key_covariance(model, layers=[0], n_tokens=12_800, cache=False)
        >>> c.moments[0].shape
        torch.Size([1024, 1024])
    """
    model = model.base
    chosen = _layers(model, layers)
    d_mlp = max(model.W_out[layer].shape[0] for layer in chosen)
    corpus = (
        own_corpus(model, d_mlp, n_tokens, seed)
        if texts is None
        else rows_of_texts(model, texts, n_tokens)
    )
    weights = fingerprint(model)
    path = statistics_file.path_for(weights, corpus.sha256, chosen)
    moments = statistics_file.read_kept(path) if cache else None
    fresh = moments is None
    if moments is None:
        moments = _second_moments(model, corpus, chosen, on_step)
    result = KeyCovariance(
        moments,
        corpus.n_tokens,
        corpus.source,
        model.cfg.name,
        weights,
        corpus.sha256,
        corpus.approximate or corpus.n_tokens < ENOUGH_PER_DIMENSION * d_mlp,
    )
    if cache and fresh:
        statistics_file.keep(path, moments, result._about())
    return result


def default_covariance(model: HookedModel, layers: Sequence[int]) -> KeyCovariance:
    """The statistics that an edit takes if it is given none; kept in memory with the model."""
    model = model.base
    kept = _KEPT.setdefault(model, {})
    wanted = _layers(model, layers)
    for known, found in kept.items():
        if set(wanted) <= set(known):
            return found
    # On a small model all layers cost little more than one, and serve every later edit.
    whole = model.cfg.d_model <= 512
    made = key_covariance(model, layers=None if whole else wanted)
    kept[made.layers] = made
    return made


def _layers(model: HookedModel, layers: Sequence[int] | None) -> list[int]:
    if layers is None:
        chosen = [n for n in range(model.cfg.n_layers) if model.has_site("mlp_post", n)]
    else:
        chosen = sorted({model.resolve_layer(layer) for layer in layers})
    for layer in chosen:
        if not model.has_site("mlp_post", layer):
            raise EditingError(
                f"Layer {layer} of {model.cfg.name} has no keys: "
                f"{model.why_missing('mlp_post', layer)}."
            )
    if not chosen:
        raise EditingError(f"No layer of {model.cfg.name} has keys that could be read.")
    return chosen


def _second_moments(
    model: HookedModel, corpus: Corpus, layers: list[int], on_step: OnStep | None
) -> dict[int, Tensor]:
    widths = {layer: model.W_out[layer].shape[0] for layer in layers}
    total = {n: torch.zeros(d, d, dtype=torch.float64) for n, d in widths.items()}
    names = [("mlp_post", layer) for layer in layers]
    count = 0
    for start in range(0, len(corpus.tokens), _ROWS_AT_ONCE):
        tokens = corpus.tokens[start : start + _ROWS_AT_ONCE]
        _, cache = model.run_with_cache(
            tokens,
            names=names,
            stop_at_layer=layers[-1] + 1,
            attention_mask=torch.ones_like(tokens),
        )
        for layer in layers:
            keys = cache["mlp_post", layer].flatten(0, 1).float()
            # A product in float32 is off by rounding only; what must not lose bits is the sum.
            total[layer] += (keys.T @ keys).double().cpu()
        count += tokens.numel()
        if on_step is not None:
            on_step(min(start + _ROWS_AT_ONCE, len(corpus.tokens)), len(corpus.tokens))
    # As they come back from disk, so that a kept result is the same as a fresh one.
    return {layer: (moment / count).float().double() for layer, moment in total.items()}
