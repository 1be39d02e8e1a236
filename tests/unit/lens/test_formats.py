"""Lens files: every format that is read, what is written, and what is refused with which words."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lens_core import HookedModel
from lens_core.lens import (
    JacobianLens,
    LensFileError,
    LensMismatchError,
    LogitLens,
    TunedLens,
    read_lens,
)
from lens_core.lens.formats import find, load_lens, save_lens, save_tuned_lens_package
from lens_core.model.errors import HubUnreachableError, UnsafeCheckpointError

LAYERS, WIDTH = 3, 32
Config = dict[str, Any]


def tuned(bias_only: bool = False) -> TunedLens:
    """A lens whose every number is different."""
    generator = torch.Generator().manual_seed(1)
    weight = 0.05 * torch.randn(LAYERS, WIDTH, WIDTH, generator=generator)
    bias = torch.randn(LAYERS, WIDTH, generator=generator)
    provenance = {"corpus": "é\u2028", "held_out_kl_nats": [0.5, 0.25, 0.1]}
    return TunedLens(None if bias_only else weight, bias, "random-gpt2", provenance)


def write(folder: Path, state: dict[str, Any], config: Config | None = None) -> Path:
    """A folder as the package publishes it."""
    torch.save(state, folder / "params.pt")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def current(lens: TunedLens) -> dict[str, torch.Tensor]:
    """The present names."""
    weights = {f"{i}.weight": lens.weight[i] for i in range(LAYERS)}
    return weights | {f"{i}.bias": lens.bias[i] for i in range(LAYERS)}


def legacy(lens: TunedLens, word: str = "translator") -> dict[str, torch.Tensor]:
    """The names up to 0.0.5, with the head that those files carried."""
    state = {"layer_norm.weight": torch.ones(WIDTH), "unembedding.weight": torch.ones(99, WIDTH)}
    state |= {f"input_{word}.weight": lens.weight[0], f"input_{word}.bias": lens.bias[0]}
    for i in range(LAYERS - 1):
        state[f"layer_{word}s.{i}.weight"] = lens.weight[i + 1]
        state[f"layer_{word}s.{i}.bias"] = lens.bias[i + 1]
    return state


def assert_same(a: TunedLens, b: TunedLens) -> None:
    assert a.weight is not None
    assert b.weight is not None
    torch.testing.assert_close(a.weight, b.weight, rtol=0, atol=0)
    torch.testing.assert_close(a.bias, b.bias, rtol=0, atol=0)


CURRENT_CONFIG = {
    "base_model_name_or_path": "random-gpt2",
    "d_model": WIDTH,
    "num_hidden_layers": LAYERS,
    "bias": True,
    "base_model_revision": None,
    "lens_type": "linear_tuned_lens",
    "unemebd_hash": "abc",
    "a key of tomorrow": [1],
}
LEGACY_CONFIG = {
    "bias": True,
    "include_input": True,
    "reuse_unembedding": True,
    "extra_layers": 0,
    "d_model": WIDTH,
    "num_layers": LAYERS,
    "vocab_size": 99,
    "model_config": {"_name_or_path": "random-gpt2"},
}


@pytest.mark.parametrize(
    ("names", "config"),
    [
        (current, CURRENT_CONFIG),
        (current, None),
        (legacy, LEGACY_CONFIG),
        (lambda lens: legacy(lens, "probe"), LEGACY_CONFIG),
        (lambda lens: legacy(lens, "adapter"), None),
        (
            lambda lens: {
                "lens": {f"layer_translators.{k}": v for k, v in current(lens).items()}
                | {"unembed.final_norm.weight": torch.ones(WIDTH)},
                "step": 3,
            },
            None,
        ),
    ],
    ids=["current", "no config", "legacy", "probe", "adapter", "snapshot"],
)
def test_published_formats(
    gpt2: HookedModel, tmp_path: Path, names: Callable[..., Any], config: Config | None
) -> None:
    """Forbids translators that are read one block off, and files that a typo makes unreadable."""
    lens = load_lens(write(tmp_path, names(tuned()), config), gpt2)
    assert isinstance(lens, TunedLens)
    assert_same(lens, tuned())
    assert lens.model_name == ("random-gpt2" if config else "")


def test_a_lens_without_biases_or_input_translator(gpt2: HookedModel, tmp_path: Path) -> None:
    """Forbids a crash on ``bias=false``, and an embedding read through another's translator."""
    state = {k: v for k, v in legacy(tuned()).items() if not k.endswith("bias")}
    state = {k: v for k, v in state.items() if not k.startswith("input_")}
    lens = load_lens(write(tmp_path, state), gpt2)
    assert isinstance(lens, TunedLens)
    assert lens.weight is not None
    assert not lens.bias.any()
    assert not lens.weight[0].any()
    torch.testing.assert_close(lens.weight[1:], tuned().weight[1:])


def test_the_package_is_written_as_it_reads_it(tmp_path: Path) -> None:
    """Forbids other keys, half precision, views of one large storage, or a missing bias."""
    folder = save_tuned_lens_package(tuned(), tmp_path / "new" / "lens")
    state = torch.load(folder / "params.pt", weights_only=True)
    assert set(state) == set(current(tuned()))
    assert all(t.dtype == torch.float32 for t in state.values())
    assert (folder / "params.pt").stat().st_size < 1.5 * 4 * LAYERS * (WIDTH**2 + WIDTH) + 5000
    config = json.loads((folder / "config.json").read_text())
    assert config["num_hidden_layers"] == LAYERS
    assert config["bias"] is True
    assert_same(load_lens(folder), tuned())
    bias_only = load_lens(save_tuned_lens_package(tuned(bias_only=True), tmp_path / "b"))
    assert not bias_only.weight.any()


@pytest.mark.parametrize("bias_only", [False, True])
def test_our_own_file_keeps_everything(gpt2: HookedModel, tmp_path: Path, bias_only: bool) -> None:
    """Forbids a lens that comes back without where it came from, or changed by its file."""
    lens = tuned(bias_only)
    back = load_lens(save_lens(lens, tmp_path / "lens.safetensors"), gpt2)
    assert back.provenance == lens.provenance
    assert (back.name, back.model_name) == (lens.name, lens.model_name)
    a, b = (read_lens(gpt2, "Hello there", given) for given in (lens, back))
    assert (a.kl_nats == b.kl_nats).all()
    half = load_lens(save_lens(lens, tmp_path / "half", dtype=torch.float16))
    assert half.bias.dtype == torch.float16
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]


def test_jacobian_files(gpt2: HookedModel, tmp_path: Path) -> None:
    """Forbids the matrix of a block's output being used for its input, and sums used as means."""
    matrices = {layer: torch.randn(WIDTH, WIDTH) for layer in range(LAYERS - 1)}
    torch.save({"J": {0: matrices[0].half()}, "n_prompts": 7, "d_model": WIDTH}, tmp_path / "a.pt")
    sums = {"jacobian_sum": {k: 4 * v for k, v in matrices.items()}, "n_done": 4, "next_idx": 4}
    torch.save({**sums, "target_layer": LAYERS - 1}, tmp_path / "b.pt")
    sparse = load_lens(tmp_path / "a.pt", gpt2)
    assert isinstance(sparse, JacobianLens)
    assert sorted(sparse.jacobians) == [1]
    assert sparse.provenance["n_prompts"] == 7
    fit = load_lens(tmp_path / "b.pt", gpt2)
    assert isinstance(fit, JacobianLens)
    assert sorted(fit.jacobians) == [1, 2]
    torch.testing.assert_close(fit.jacobians[2], matrices[1])
    states = torch.randn(1, 2, WIDTH)
    torch.testing.assert_close(fit.carry(gpt2, states, 2), states @ matrices[1].T)
    back = load_lens(save_lens(fit, tmp_path / "c.safetensors"), gpt2)
    assert isinstance(back, JacobianLens)
    assert (back.n_layers, sorted(back.jacobians)) == (LAYERS, [1, 2])


def _nan(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return state | {"1.bias": torch.full((WIDTH,), torch.nan)}


@pytest.mark.parametrize(
    ("state", "config", "says"),
    [
        (current(tuned()), CURRENT_CONFIG | {"num_hidden_layers": 4}, r"blocks 4.*holds 3"),
        (current(tuned()), CURRENT_CONFIG | {"d_model": 64}, r"d_model 64.*holds 32"),
        (current(tuned()), CURRENT_CONFIG | {"lens_type": "mlp"}, r"'mlp'"),
        (legacy(tuned()), LEGACY_CONFIG | {"reuse_unembedding": False}, r"reuse_unembedding"),
        (legacy(tuned()), LEGACY_CONFIG | {"extra_layers": 1}, r"extra_layers"),
        (_nan(current(tuned())), None, r"1\.bias.*diverged"),
        ({"0.weight": torch.ones(99, WIDTH)}, None, r"vocabulary"),
        ({"0.weight": torch.ones(2, 2), "2.weight": torch.ones(2, 2)}, None, r"lacks.*\[1\]"),
        ({"0.weight": torch.ones(2, 2), "0.bias": torch.ones(3)}, None, r"biases"),
        ({"0.bias": torch.ones(3)}, None, r"no translator"),
        ({"transformer.h.0.weight": torch.ones(2, 2)}, None, r"neither translators"),
        ({"J": {}}, None, r"no matrix"),
        ({"J": {"x": torch.ones(2, 2)}}, None, r"not numbered"),
        ({"J": {0: torch.ones(2, 3)}}, None, r"square"),
        ({"jacobian_sum": {0: torch.ones(2, 2)}, "n_done": 0}, None, r"no prompt"),
        ([1, 2], None, r"neither"),
    ],
)
def test_refusals_say_why(
    tmp_path: Path, state: dict[str, Any], config: Config | None, says: str
) -> None:
    """Forbids a lens that loads although its files contradict each other, or a bare traceback."""
    with pytest.raises(LensFileError, match=says):
        load_lens(write(tmp_path, state, config))


def test_a_lens_of_another_model_is_refused_with_both_names(
    gpt2: HookedModel, tmp_path: Path
) -> None:
    """Forbids a lens of the wrong shape from failing in a matrix product, pages later."""
    other = TunedLens(torch.zeros(5, 8, 8), torch.zeros(5, 8), "somebody/else")
    for path in (save_lens(other, tmp_path), save_tuned_lens_package(other, tmp_path / "p")):
        with pytest.raises(LensMismatchError, match=r"somebody/else.*random-gpt2"):
            load_lens(path, gpt2)


class _Malicious:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (Path.touch, (Path("should-not-exist"),))


def test_damaged_and_dangerous_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forbids running what a pickle asks for, and libraries' own messages for damaged files."""
    monkeypatch.chdir(tmp_path)
    torch.save({"0.weight": _Malicious()}, tmp_path / "evil.pt")
    with pytest.raises(UnsafeCheckpointError, match="not opened"):
        load_lens(tmp_path / "evil.pt")
    assert not (tmp_path / "should-not-exist").exists()
    whole = save_lens(tuned(), tmp_path / "a.safetensors").read_bytes()
    torch.save(current(tuned()), tmp_path / "b.pt")
    packed = (tmp_path / "b.pt").read_bytes()
    for name, content in [
        ("cut.safetensors", whole[: len(whole) // 2]),
        ("empty.safetensors", b""),
        ("cut.pt", packed[: len(packed) // 2]),
        ("empty.pt", b""),
        ("text.pt", b"<html>not found</html>"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LensFileError, match="damaged"):
            load_lens(tmp_path / name)


def test_safetensors_of_others(tmp_path: Path) -> None:
    """Forbids reading any tensors as a lens, or a file of a later version half."""
    plain, later, lying = (tmp_path / f"{n}.safetensors" for n in ("plain", "later", "lying"))
    save_file({"x": torch.ones(2)}, plain)
    with pytest.raises(LensFileError, match="no lens that lens_core wrote"):
        load_lens(plain)
    header = {"format": "lens_core lens", "version": 2}
    save_file({"x": torch.ones(2)}, later, metadata={"lens": json.dumps(header)})
    with pytest.raises(LensFileError, match="version 2"):
        load_lens(later)
    header = {"format": "lens_core lens", "version": 1, "kind": "tuned", "model_name": ""}
    header |= {"n_layers": 2, "d_model": 2, "provenance": {}}
    save_file({"0.bias": torch.ones(2)}, lying, metadata={"lens": json.dumps(header)})
    with pytest.raises(LensFileError, match="not what its header says"):
        load_lens(lying)


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forbids the network for a name that nobody asked to fetch, and silence about what is here."""
    monkeypatch.setattr(find, "SHIPPED_ROOTS", (tmp_path / "wheel", tmp_path / "checkout"))
    save_lens(tuned(), tmp_path / "checkout" / "tiny-world" / "tuned")
    assert_same(load_lens("tiny-world/tuned"), tuned())
    monkeypatch.setattr(find, "hub_answers", lambda: False)
    with pytest.raises(LensFileError, match=re.escape("tiny-world/tuned")):
        load_lens("gpt2")
    with pytest.raises(HubUnreachableError):
        load_lens("gpt2", hub=True)
    with pytest.raises(LensFileError):
        load_lens("../../etc", hub=True)
    (tmp_path / "two").mkdir()
    for name in ("a.pt", "b.pt"):
        torch.save({}, tmp_path / "two" / name)
    with pytest.raises(LensFileError, match="2 files"):
        load_lens(tmp_path / "two")


def test_nothing_to_save(tmp_path: Path) -> None:
    """Forbids an empty file for the logit lens, and a file of a lens that diverged."""
    with pytest.raises(LensFileError, match="nothing trained"):
        save_lens(LogitLens(), tmp_path)
    broken = TunedLens(None, torch.full((2, 2), torch.inf))
    with pytest.raises(LensFileError, match="diverged"):
        save_lens(broken, tmp_path)
