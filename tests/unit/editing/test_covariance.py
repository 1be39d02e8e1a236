"""The second moment of keys: what it is, what it is kept by, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lens_core import HookedModel
from lens_core.editing import EditingError, KeyCovariance, key_covariance, statistics_file
from lens_core.editing.corpus import rows_of_texts

TEXTS = ["w1 w2 w3 w4 w5 w6 w7 w8", "w9 w8 w7 w6 w5 w4"] * 60


def test_it_is_the_mean_of_outer_products(with_words: Callable[[str], HookedModel]) -> None:
    """Forbids a centred moment, a sum, or keys of another site."""
    model = with_words("llama")
    found = key_covariance(model, TEXTS, cache=False)
    tokens = rows_of_texts(model, TEXTS, None).tokens
    _, cache = model.run_with_cache(tokens)
    for layer in range(model.cfg.n_layers):
        keys = cache["mlp_post", layer].flatten(0, 1).double()
        torch.testing.assert_close(
            found.moments[layer], keys.T @ keys / len(keys), rtol=1e-4, atol=1e-6
        )
    assert found.n_tokens == tokens.numel()
    assert found.approximate
    # The mean of k^T C^-1 k over the very keys is their number of directions.
    keys = cache["mlp_post", 1].flatten(0, 1)
    leverage = (found.solve(1, keys, ridge=1e-6) * keys).sum(-1).mean()
    assert float(leverage) == pytest.approx(float(torch.linalg.matrix_rank(keys)), rel=0.05)


def test_the_world_s_own_text_is_not_approximate(tiny_world: HookedModel) -> None:
    """Forbids calling the model's own corpus a stand-in, or too few keys enough."""
    few = key_covariance(tiny_world, layers=[0], n_tokens=1280, cache=False)
    assert few.approximate
    enough = key_covariance(tiny_world, layers=[0], n_tokens=10_240, cache=False)
    assert not enough.approximate
    frame = enough.to_frame()
    assert 1 < frame["effective_rank"][0] < 1024
    assert enough.condition_number(0, ridge=1e-3) < enough.condition_number(0)


def test_a_kept_result_is_the_fresh_one(
    with_words: Callable[[str], HookedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forbids an edit that differs on the second day, and a second computation."""
    monkeypatch.setenv(statistics_file.CACHE_VARIABLE, str(tmp_path))
    model = with_words("gpt2")
    calls: list[int] = []
    fresh = key_covariance(model, TEXTS, on_step=lambda i, n: calls.append(i))
    first = len(calls)
    kept = key_covariance(model, TEXTS, on_step=lambda i, n: calls.append(i))
    assert len(calls) == first > 0
    for layer in fresh.layers:
        assert torch.equal(fresh.moments[layer], kept.moments[layer])
    assert (kept.n_tokens, kept.approximate) == (fresh.n_tokens, fresh.approximate)
    key_covariance(model, TEXTS[:-2], on_step=lambda i, n: calls.append(i))
    assert len(calls) > first, "other text, other statistics"


def test_a_broken_file_is_computed_anew(
    with_words: Callable[[str], HookedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forbids a cut-off file, or a folder that cannot be written to, that stops later edits."""
    monkeypatch.setenv(statistics_file.CACHE_VARIABLE, str(tmp_path))
    model = with_words("gpt2")
    fresh = key_covariance(model, TEXTS)
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    again = key_covariance(model, TEXTS)
    assert torch.equal(again.moments[0], fresh.moments[0])
    assert path.stat().st_size > 100
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv(statistics_file.CACHE_VARIABLE, str(blocked))
    assert torch.equal(key_covariance(model, TEXTS).moments[0], fresh.moments[0])


def test_statistics_of_another_model_are_refused(
    with_words: Callable[[str], HookedModel], tiny_world: HookedModel, tmp_path: Path
) -> None:
    """Forbids the published complaint: a file of another width, or of other weights, used as is."""
    gpt2, llama = with_words("gpt2"), with_words("llama")
    found = key_covariance(gpt2, TEXTS, cache=False)
    found.check(gpt2, 0)
    with pytest.raises(EditingError, match="of another model"):
        found.check(llama, 0)
    with pytest.raises(EditingError, match="other weights"):
        key_covariance(llama, TEXTS, cache=False).check(with_words("mistral"), 0)
    with pytest.raises(EditingError, match="not of layer 2"):
        key_covariance(gpt2, TEXTS, layers=[0], cache=False).check(gpt2, 2)
    found.save(tmp_path / "c.safetensors")
    loaded = KeyCovariance.load(tmp_path / "c.safetensors")
    assert torch.equal(loaded.moments[1], found.moments[1])
    assert loaded.approximate == found.approximate
    loaded.check(gpt2, 0)


def test_files_of_the_published_code(tmp_path: Path) -> None:
    """Forbids reading a sum as a mean, a pickle, or a file that holds something else."""
    moment = np.eye(4, dtype=np.float32) * 6
    good, other = tmp_path / "good.npz", tmp_path / "other.npz"
    np.savez(good, **{"mom2.mom2": moment, "mom2.count": np.array(3)})
    np.savez(other, **{"mom2.mom2": np.array([object()])}, allow_pickle=True)
    found = KeyCovariance.from_rome(good, 5)
    assert found.layers == (5,)
    torch.testing.assert_close(found.moments[5], 2 * torch.eye(4, dtype=torch.float64))
    for path in (other, tmp_path / "missing.npz"):
        with pytest.raises(EditingError):
            KeyCovariance.from_rome(path, 5)
    with pytest.raises(EditingError, match="cannot be read"):
        KeyCovariance.load(good)


def test_too_little_text_is_said(with_words: Callable[[str], HookedModel]) -> None:
    """Forbids statistics of nothing."""
    with pytest.raises(EditingError, match="more text"):
        key_covariance(with_words("gpt2"), ["w1 w2"], cache=False)
    singular = KeyCovariance({0: torch.zeros(4, 4, dtype=torch.float64)}, 10, "nothing")
    with pytest.raises(EditingError, match="cannot be inverted"):
        singular.solve(0, torch.ones(1, 4))
