"""Random tokens, repeated: the test bench of induction."""

import torch
from jaxtyping import Int
from torch import Tensor


def repeated_tokens(
    n: int, length: int, d_vocab: int, seed: int = 0, *, bos_id: int = 0
) -> Int[Tensor, "n pos"]:
    """BOS, then ``length`` uniformly random tokens, then the same tokens again.

    Args:
        n: rows.
        length: tokens of one copy.
        d_vocab: tokens are drawn from ``0 .. d_vocab - 1`` without ``bos_id``.
        seed: decides the tokens.
        bos_id: the token at position 0.

    Returns:
        LongTensor ``[n, 1 + 2 * length]``.

    Paper: Olsson et al. 2022, "In-context Learning and Induction Heads".

    >>> repeated_tokens(2, 3, d_vocab=100).shape
    torch.Size([2, 7])
    """
    generator = torch.Generator().manual_seed(seed)
    once = torch.randint(0, d_vocab - 1, (n, length), generator=generator)
    once += once >= bos_id
    return torch.cat([torch.full((n, 1), bos_id), once, once], 1)
