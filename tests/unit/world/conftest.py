"""The shipped tokenizer, and documents of every kind and phase, generated once."""

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from lens_core.world.mix import GENERATORS, PHASES, document

SHIPPED = Path(__file__).parents[3] / "content" / "models" / "tiny-world"


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the shipped model."""
    return PreTrainedTokenizerFast.from_pretrained(SHIPPED)


@cache
def _documents(kind: str, n: int = 800) -> tuple[str, ...]:
    rng = random.Random(f"documents of {kind}")
    return tuple(GENERATORS[kind](rng) for _ in range(n))


@pytest.fixture(scope="session")
def documents() -> Callable[[str], tuple[str, ...]]:
    """Training documents of one kind, by its name in the mix."""
    return _documents


@pytest.fixture(scope="session")
def mixed_documents() -> tuple[str, ...]:
    """Training documents of every phase, 1,500 of each."""
    rng = random.Random(1)
    return tuple(document(rng, shares)[1] for shares in PHASES.values() for _ in range(1500))
