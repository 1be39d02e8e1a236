"""A product of two thin matrices that is never multiplied out unless asked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FactoredMatrix:
    """The matrix A @ B, with A [..., m, r], B [..., r, n] and r small.

    The OV circuit of a head is W_V @ W_O, the QK circuit W_Q @ W_K.T (Elhage et al. 2021): d_model
    by d_model matrices of rank d_head. Norms, singular values, eigenvalues and products cost r.

    Example:
        >>> import torch
        >>> m = FactoredMatrix(torch.eye(4)[:, :2], torch.eye(4)[:2])
        >>> m.shape, float(m.trace())
        ((4, 4), 2.0)
    """

    A: Tensor
    B: Tensor

    def __post_init__(self) -> None:
        if self.A.shape[-1] != self.B.shape[-2]:
            raise ValueError(
                f"A {tuple(self.A.shape)} and B {tuple(self.B.shape)} do not multiply."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the product."""
        lead = torch.broadcast_shapes(self.A.shape[:-2], self.B.shape[:-2])
        return (*lead, self.A.shape[-2], self.B.shape[-1])

    @property
    def rank_bound(self) -> int:
        """The inner dimension r, above which the rank cannot be."""
        return self.A.shape[-1]

    @property
    def T(self) -> FactoredMatrix:
        """The transpose."""
        return FactoredMatrix(self.B.mT, self.A.mT)

    @property
    def AB(self) -> Tensor:
        """The product itself: Float[Tensor, "... m n"]."""
        return self.A @ self.B

    @property
    def BA(self) -> Tensor:
        """The small product in the other order: Float[Tensor, "... r r"]."""
        return self.B @ self.A

    def __matmul__(self, other: Tensor | FactoredMatrix) -> FactoredMatrix:
        if isinstance(other, FactoredMatrix):
            return FactoredMatrix(self.A, (self.B @ other.A) @ other.B)
        return FactoredMatrix(self.A, self.B @ other)

    def __rmatmul__(self, other: Tensor) -> FactoredMatrix:
        return FactoredMatrix(other @ self.A, self.B)

    def __mul__(self, factor: float) -> FactoredMatrix:
        return FactoredMatrix(self.A * factor, self.B)

    __rmul__ = __mul__

    def apply(self, x: Tensor) -> Tensor:
        """x @ A @ B for row vectors x: Float[Tensor, "... m"] -> Float[Tensor, "... n"]."""
        return (x @ self.A) @ self.B

    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """U [..., m, r], S [..., r], Vh [..., r, n] with AB = U diag(S) Vh."""
        q_left, r_left = torch.linalg.qr(self.A)
        q_right, r_right = torch.linalg.qr(self.B.mT)
        u, s, vh = torch.linalg.svd(r_left @ r_right.mT, full_matrices=False)
        return q_left @ u, s, vh @ q_right.mT

    @property
    def S(self) -> Tensor:
        """The singular values, largest first: Float[Tensor, "... r"]."""
        return self.svd()[1]

    def eigenvalues(self) -> Tensor:
        """The eigenvalues that can be non-zero (those of BA): Complex[Tensor, "... r"]."""
        if self.shape[-1] != self.shape[-2]:
            raise ValueError(f"A matrix of the shape {self.shape} has no eigenvalues.")
        return torch.linalg.eigvals(self.BA)

    def trace(self) -> Tensor:
        """The trace of the product."""
        return torch.diagonal(self.BA, dim1=-2, dim2=-1).sum(-1)

    def norm(self) -> Tensor:
        """The Frobenius norm of the product."""
        gram_left, gram_right = self.A.mT @ self.A, self.B @ self.B.mT
        squared = (gram_left * gram_right.mT).sum(dim=(-2, -1))
        return squared.clamp(min=0).sqrt()
