"""The closed forms that turn keys and residuals into a change of one weight.

Everywhere the weight maps rows: y = k W with W = W_out, Float [d_mlp, d_model]. Each function gives
the left factor of the change; the change is ``left @ residuals``, of rank at most the number of
facts. In double precision: the second moment C of templated text is badly conditioned.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lens_core.editing.errors import EditingError

Keys = Float[Tensor, "fact d_mlp"]
Left = Float[Tensor, "d_mlp fact"]
# Below this share of the largest one, a pivot is what rounding left of a zero.
_LEAST_PIVOT = 1e-6


def least_disturbing(keys: Keys, towards: Keys, softness: float) -> Left:
    """The change that writes facts and disturbs C's keys least: MEMIT's, EMMET's and ROME's.

    left = C^-1 K (K^T C^-1 K + s I)^-1, which is (s C + K K^T)^-1 K. With s = lambda it minimises
    the facts' squared error plus lambda times the mean squared error on C's keys (MEMIT, Meng et
    al. 2023, eq. 14); with s -> 0 every fact is written exactly (EMMET, Gupta et al. 2024), and of
    one fact this is ROME's.

    Args:
        towards: C^-1 k of each key, from `KeyCovariance.solve`.
        softness: s; above 0 where two facts may have the same key.
    """
    gram = keys.double() @ towards.double().T
    gram = (gram + gram.T) / 2 + softness * torch.eye(len(keys), dtype=torch.float64)
    return _solve(gram, towards.double()).T


@dataclass(frozen=True, eq=False)
class NullSpace:
    """The directions in key space that C's texts hardly use.

    Attributes:
        basis: Float [d_mlp, direction], orthonormal.
        share: of C's trace that they hold together.
    """

    basis: Float[Tensor, "d_mlp direction"]
    share: float

    @classmethod
    def of(cls, second_moment: Float[Tensor, "d_mlp d_mlp"], most: float) -> NullSpace:
        """As many of C's last principal directions as hold at most ``most`` of its trace together.

        The published code takes those with a singular value below 0.02, whatever the size of C's
        entries; a share means the same in every model.

        Raises:
            EditingError: there are none.
        """
        values, vectors = torch.linalg.eigh(second_moment.double())
        shares = values.clamp(min=0).cumsum(0) / values.clamp(min=0).sum()
        n = int((shares <= most).sum())
        if n == 0:
            raise EditingError(
                f"No direction is left free: even the least used of the {len(values)} holds "
                f"{float(shares[0]):.1e} of the keys' second moment, and null_share is {most:.1e}. "
                "Raise it, or use memit."
            )
        return cls(vectors[:, :n], float(shares[n - 1]))


def within_null_space(keys: Keys, earlier: Keys, free: NullSpace, ridge: float) -> Left:
    """AlphaEdit's change, nothing outside of C's null space (Fang et al. 2025, eq. 14).

    left = (P (K_p K_p^T + K K^T) + r I)^-1 P K, where P projects on the null space and K_p are the
    keys of earlier edits, which stay as they are too.

    Args:
        earlier: K_p, Float [earlier fact, d_mlp].
        ridge: r, in mean squared lengths of the facts' keys.
    """
    # In the null space's own coordinates the projected system is symmetric, and smaller.
    inside, before = keys.double() @ free.basis, earlier.double() @ free.basis
    size = float(keys.double().pow(2).sum(-1).mean())
    system = inside.T @ inside + before.T @ before
    system = system + ridge * size * torch.eye(len(system), dtype=torch.float64)
    return free.basis @ _solve(system, inside.T)


def _solve(symmetric: Tensor, right: Tensor) -> Tensor:
    """symmetric^-1 right; where there is no inverse, the shortest that comes closest."""
    factor, failed = torch.linalg.cholesky_ex(symmetric)
    diagonal = factor.diagonal()
    if not bool(failed) and bool(diagonal.min() > _LEAST_PIVOT * diagonal.max()):
        return torch.cholesky_solve(right, factor)
    return torch.linalg.lstsq(symmetric, right, driver="gelsd").solution
