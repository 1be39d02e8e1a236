"""The loss of a lens at many positions and its gradient, with few visits to the vocabulary.

With logits ``z = x W_U + b``, write ``A(x) = log sum exp z``. Its gradient is the mean output
embedding ``W_U softmax(z)``, so that with ``m`` the mean embedding under the target distribution
both losses are the same function of ``x`` up to a constant:

    loss(x) = A(x) - x . m + constant        gradient = W_U softmax(z) - m

For the KL to the model's final distribution, ``m`` is the gradient of ``A`` at the final state
``f``, and the constant is ``f . m - A(f)``: the KL is the Bregman divergence of ``A``. For the
cross-entropy ``m`` is the next token's embedding. The targets of all depths are therefore one
vector a position, and the logits of a depth are visited for one softmax between two products.

A head that does more than multiply (a soft-cap, a scale, a projection) runs as the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.lens.head import position_chunks
from lens_core.model.errors import UnsupportedModelError

if TYPE_CHECKING:
    from lens_core import HookedModel

# Numbers that go through the softmax at once, in fp32: 1 MB, which stays in a core's cache.
BLOCK_NUMBERS = 2**18


class Targets(NamedTuple):
    """What the states of some positions are compared with.

    ``towards`` and ``constant`` as in the module's docstring; of a head that is not a plain matrix
    ``towards`` holds the target distributions, [pos, d_vocab].
    """

    towards: Tensor
    constant: Float[Tensor, " pos"]


class TrainingHead(Protocol):
    """A head and the gradient of its losses; inputs are states after the model's final norm."""

    def of_model(self, normed: Float[Tensor, "pos d_model"]) -> Targets:
        """The KL to the distribution that the model has at these final states."""

    def of_tokens(self, tokens: Int[Tensor, " pos"]) -> Targets:
        """The cross-entropy to these tokens."""

    def loss_and_gradient(
        self, normed: Float[Tensor, "pos d_model"], targets: Targets
    ) -> tuple[Float[Tensor, " pos"], Float[Tensor, "pos d_model"]]:
        """The loss at each position in nats, and its gradient in the normed state."""


def training_head(model: HookedModel, dtype: torch.dtype) -> TrainingHead:
    """The closed form where the model's head is a plain matrix, else the model's own head."""
    if _is_plain(model):
        return PlainHead(model.W_U.detach(), model.b_U.detach(), dtype)
    return OwnHead(model)


def head_losses(
    head: TrainingHead, normed: Float[Tensor, "pos d_model"], targets: Targets
) -> Float[Tensor, " pos"]:
    """The loss at each position, differentiable in ``normed``."""
    losses: Tensor = _HeadLoss.apply(normed, head, targets)
    return losses


class _HeadLoss(torch.autograd.Function):
    """The gradient is made with the loss, so that no logits wait for the backward pass."""

    @staticmethod
    def forward(ctx: Any, normed: Tensor, head: TrainingHead, targets: Targets) -> Tensor:
        losses, gradient = head.loss_and_gradient(normed.detach(), targets)
        ctx.save_for_backward(gradient.to(normed.dtype))
        return losses

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad_outputs[0][:, None].to(gradient.dtype) * gradient, None, None


class PlainHead:
    """Logits are ``x W_U + b`` and nothing else.

    The mean over the vocabulary is taken out of ``W_U``: it changes no distribution, and without it
    logits are small, so that rounding them to bf16 loses less.
    """

    def __init__(
        self,
        W_U: Float[Tensor, "d_model d_vocab"],
        b_U: Float[Tensor, " d_vocab"],
        dtype: torch.dtype,
    ) -> None:
        centred = W_U.float() - W_U.float().mean(dim=1, keepdim=True)
        self.dtype = dtype
        self.down = centred.to(dtype).contiguous()
        # Both layouts: a product that has to turn the matrix first takes twice the time.
        self.up = centred.T.to(dtype).contiguous()
        self.bias = b_U.float() if bool(b_U.any()) else None
        d_vocab = W_U.shape[1]
        on_cpu = W_U.device.type == "cpu"
        self.n_chunk = max(1, 2**24 // d_vocab)
        self.n_block = max(1, BLOCK_NUMBERS // d_vocab) if on_cpu else self.n_chunk
        self._logits = W_U.new_empty((self.n_chunk, d_vocab), dtype=dtype)
        self._block = W_U.new_empty((self.n_block, d_vocab), dtype=torch.float32)

    def of_model(self, normed: Float[Tensor, "pos d_model"]) -> Targets:
        """See `TrainingHead`."""
        log_z, mean = self.partition(normed)
        return Targets(mean, (self._rounded(normed) * mean).sum(-1) - log_z)

    def of_tokens(self, tokens: Int[Tensor, " pos"]) -> Targets:
        """See `TrainingHead`."""
        constant = torch.zeros(len(tokens), device=tokens.device)
        if self.bias is not None:
            constant -= self.bias[tokens]
        return Targets(self.up[tokens].float(), constant)

    def loss_and_gradient(
        self, normed: Float[Tensor, "pos d_model"], targets: Targets
    ) -> tuple[Tensor, Tensor]:
        """See `TrainingHead`."""
        log_z, mean = self.partition(normed)
        towards, constant = targets
        losses = log_z - (self._rounded(normed) * towards).sum(-1) + constant
        return losses, mean.sub_(towards)

    @torch.no_grad()
    def partition(
        self, normed: Float[Tensor, "pos d_model"]
    ) -> tuple[Float[Tensor, " pos"], Float[Tensor, "pos d_model"]]:
        """``A`` and its gradient, the mean output embedding, in fp32."""
        x = normed.to(self.dtype)
        log_z, mean = [], []
        for rows in x.split(self.n_chunk):
            logits = torch.mm(rows, self.down, out=self._logits[: len(rows)])
            totals = []
            for block in logits.split(self.n_block):
                top, total = self._exponentials(block)
                log_z.append(top + total.log())
                totals.append(total)
            mean.append(torch.mm(logits, self.up).float() / torch.cat(totals)[:, None])
        return torch.cat(log_z), torch.cat(mean)

    def _exponentials(self, logits: Float[Tensor, "block d_vocab"]) -> tuple[Tensor, Tensor]:
        """Replace logits by ``exp(logit - top)``, and return the tops and the sums."""
        z = logits
        if self.dtype != torch.float32:
            z = self._block[: len(logits)].copy_(logits)
        if self.bias is not None:
            z += self.bias
        top = z.amax(-1, keepdim=True)
        z.sub_(top).exp_()
        if z is not logits:
            logits.copy_(z)
        return top[:, 0], z.sum(-1)

    def _rounded(self, normed: Tensor) -> Tensor:
        """The state as the products see it."""
        return normed.to(self.dtype).float()


class OwnHead:
    """The model's own head, with all that it does after multiplying."""

    def __init__(self, model: HookedModel) -> None:
        self.model = model

    @torch.no_grad()
    def of_model(self, normed: Float[Tensor, "pos d_model"]) -> Targets:
        """See `TrainingHead`."""
        parts = [
            self.model.unembed(normed[None, rows])[0].float().log_softmax(-1)
            for rows in self._chunks(normed)
        ]
        logprobs = torch.cat(parts)
        probs = logprobs.exp()
        return Targets(probs, torch.special.xlogy(probs, probs).sum(-1))

    def of_tokens(self, tokens: Int[Tensor, " pos"]) -> Targets:
        """See `TrainingHead`."""
        probs = torch.zeros(len(tokens), self.model.cfg.d_vocab, device=tokens.device)
        probs.scatter_(1, tokens[:, None], 1.0)
        return Targets(probs, torch.zeros(len(tokens), device=tokens.device))

    def loss_and_gradient(
        self, normed: Float[Tensor, "pos d_model"], targets: Targets
    ) -> tuple[Tensor, Tensor]:
        """See `TrainingHead`."""
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        for rows in self._chunks(normed):
            with torch.enable_grad():
                x = normed[rows].detach().requires_grad_()
                logits = self.model.unembed(x[None])[0]
            probs = targets.towards[rows]
            logprobs = logits.detach().float().log_softmax(-1)
            losses.append(targets.constant[rows] - (probs * logprobs).sum(-1))
            slope = logprobs.exp_().sub_(probs).to(logits.dtype)
            gradients += torch.autograd.grad(logits, x, slope)
        return torch.cat(losses), torch.cat(gradients)

    def _chunks(self, normed: Tensor) -> Iterator[slice]:
        return position_chunks(self.model, len(normed))


@torch.no_grad()
def _is_plain(model: HookedModel) -> bool:
    """Whether the head equals its matrix and bias, tried on states that would show a soft-cap."""
    try:
        W_U, b_U = model.W_U, model.b_U
    except UnsupportedModelError:  # offloaded: not in memory between runs
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, W_U.shape[0], generator=generator).to(W_U)
    spread = (x.float() @ W_U.float()).std().clamp(min=1e-6)
    x *= torch.tensor([1.0, 1.0, 20.0, 20.0]).to(W_U)[:, None] / spread.to(W_U)
    theirs = model.unembed(x).float()
    ours = x.float() @ W_U.float() + b_U.float()
    tolerance = 1e-3 if model.cfg.dtype == torch.float32 else 2e-2
    if theirs.shape != ours.shape:
        return False
    error = (theirs - ours).abs().amax(-1) / ours.abs().amax(-1)
    return bool((error < tolerance).all())
