"""Rows of random bytes for the small random models."""

import pytest
import torch

from lens_core.lens.corpus import Rows


@pytest.fixture(scope="session")
def rows():
    """Forty rows of sixteen tokens, each a document of its own, BOS first."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 250, (40, 16), generator=generator)
    tokens[:, 0] = 0
    return Rows.of(tokens, torch.arange(40), 1.0, "random bytes")
