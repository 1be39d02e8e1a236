"""A lens knows the weights that it was trained on."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lens_core import HookedModel
from lens_core.lens import LensMismatchError, TunedLens, identity, read_lens
from lens_core.lens.formats import load_lens, save_lens
from lens_core.lens.identity import weights_sha256
from lens_core.lens.training import JacobianRecipe, TunedRecipe, fit_jacobian, train_tuned
from tests.unit.lens.training_helpers import drifted_model, random_rows

TOKENS = torch.tensor([[3, 4, 5]])


@pytest.fixture(scope="module")
def model() -> HookedModel:
    """The one that the lenses are trained on."""
    return drifted_model(0)


@pytest.fixture(scope="module")
def twin() -> HookedModel:
    """Another of the same shape."""
    model = drifted_model(1)
    model.cfg = replace(model.cfg, name="twin")
    return model


@pytest.fixture(params=["tuned", "jacobian"])
def lens(request: pytest.FixtureRequest, model: HookedModel) -> object:
    """A lens of the first model, barely trained."""
    if request.param == "jacobian":
        return fit_jacobian(model, random_rows(1), JacobianRecipe(prompts=1, skip_first=2))
    recipe = TunedRecipe(steps=1, tokens_per_step=32, held_out_tokens=32)
    return train_tuned(model, random_rows(4), recipe).lens


def test_a_lens_of_other_weights_is_refused_with_both_names(
    model: HookedModel, twin: HookedModel, lens: TunedLens, tmp_path: Path
) -> None:
    """Forbids a lens of one checkpoint that reads another of the same shape and says nonsense."""
    path = save_lens(lens, tmp_path)
    assert read_lens(model, TOKENS, load_lens(path, model)).parity.ok
    words = r"trained on drifted with the weights \w{12}, and twin has .* weights \w{12}"
    with pytest.raises(LensMismatchError, match=words):
        load_lens(path, twin)
    with pytest.raises(LensMismatchError, match=words):
        read_lens(twin, TOKENS, load_lens(path))


def test_without_a_comparable_hash_shapes_decide(
    model: HookedModel, twin: HookedModel, lens: TunedLens
) -> None:
    """Forbids refusing published lenses, which name no weights, and the same model in bf16."""
    assert read_lens(twin, TOKENS, replace(lens, provenance={})).parity.ok
    hf_model = copy.deepcopy(model.hf_model).to(torch.bfloat16)
    half = HookedModel.from_hf(hf_model, name="half", check=False)
    assert weights_sha256(half) != weights_sha256(model)
    assert read_lens(half, TOKENS, lens).lens_name == lens.name


def test_the_hash_is_made_once_a_model(
    lens: TunedLens, model: HookedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forbids hashing gigabytes at every reading."""
    calls: list[HookedModel] = []
    real: Callable[[HookedModel], str] = weights_sha256
    monkeypatch.setattr(identity, "weights_sha256", lambda m: calls.append(m) or real(m))
    identity._HASHES.pop(model, None)
    read_lens(model, TOKENS, lens)
    read_lens(model, TOKENS, lens)
    assert calls == [model]
