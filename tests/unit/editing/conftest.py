"""A cache folder of the tests' own, requests of the world, and random models that have words."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lens_core import HookedModel
from lens_core.editing import EditRequest
from lens_core.glass.words import START, UNKNOWN, word_tokenizer
from tests.conftest import build_family

WORDS = (START, UNKNOWN, "is", "was", "has", "and", "a", *(f"w{i}" for i in range(113)))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads statistics that an earlier run left behind, nor leaves any."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("LENS_LAB_CACHE", str(folder))
        yield folder


@pytest.fixture
def eiffel() -> EditRequest:
    """A fact that tiny-world knows."""
    return EditRequest(
        "The Eiffel Tower is in the city of", "The Eiffel Tower", "Rome", "Paris", "landmark_city"
    )


@pytest.fixture
def with_words() -> Callable[[str], HookedModel]:
    """A tiny random model of a family, whose 120 tokens are words."""
    built: dict[str, HookedModel] = {}

    def build(name: str) -> HookedModel:
        if name not in built:
            family = build_family(name)
            tokenizer = word_tokenizer(WORDS, 64)
            built[name] = HookedModel.from_hf(
                family.hooked.hf_model, tokenizer, name=name, prepend_bos=True, check=False
            )
        return built[name]

    return build
