"""Wires: who can speak to whom, and effects that are those of whole runs."""

import numpy as np
import pytest
import torch

from lens_core import HookedModel
from lens_core.patching import (
    PatchingError,
    PathResult,
    PromptPair,
    head_inputs,
    path_patching,
    prompt_pair,
    senders_before,
    sweep,
    wire_effects,
)


@pytest.fixture
def pair():
    tokens = torch.randint(1, 120, (2, 8), generator=torch.Generator().manual_seed(9))
    return PromptPair(*tokens, 5, 7, torch.arange(8)[:, None].expand(-1, 2))


@pytest.fixture(scope="module")
def glass():
    return HookedModel.from_pretrained("glass-induction")


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama"])
@pytest.mark.parametrize("receiver", ["0.1.q", "1.1.k", "mlp 1", "logits"])
def test_those_before_a_reader_are_those_with_a_path(family_named, name, receiver, pair):
    """Forbids a sender that the reader cannot hear, and one that it can and that is left out."""
    model = family_named(name).hooked
    everyone = senders_before(model, "logits")
    assert len(everyone) == 1 + model.cfg.n_layers * (model.cfg.n_heads + 1)
    values = path_patching(model, pair, everyone, [receiver]).values[:, 0, 0]
    heard = [sender for sender, value in zip(everyone, values, strict=True) if value == value]
    assert list(senders_before(model, receiver)) == heard


def test_a_head_s_inputs_are_those_of_its_group(llama, gpt2):
    """Forbids the keys of another group of queries."""
    assert head_inputs(gpt2.hooked, 2, 3) == ("2.3.q", "2.3.k", "2.3.v")
    assert head_inputs(llama.hooked, 2, 3) == ("2.3.q", "2.1.k", "2.1.v")
    with pytest.raises(PatchingError, match="no receiver"):
        head_inputs(llama.hooked, 2, 4)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("sender", ["0.1", "mlp 0", "embed"])
def test_effects_are_those_of_whole_runs(gpt2, pair, direction, sender):
    """Forbids a total, a direct effect or a wire of another run than they name."""
    model, how = gpt2.hooked, {"direction": direction}
    found = wire_effects(model, pair, sender, "2.1.k", **how)
    site, heads = {"0.1": ("z", [1]), "mlp 0": ("mlp_out", None), "embed": ("resid_pre", None)}[
        sender
    ]
    whole = sweep(model, pair, site, layers=[0], positions="all", heads=heads, **how)
    share = float(whole.normalised_mean.ravel()[0])
    assert found.total == pytest.approx(share if direction == "denoise" else 1 - share, abs=1e-4)
    moved = path_patching(model, pair, [sender], ["logits", "2.1.k"], **how).moved
    assert (found.direct, found.via) == pytest.approx(tuple(moved[0]), abs=1e-4)
    assert found.rest == pytest.approx(found.total - found.direct - found.via)


def test_first_readers_add_up_where_the_model_is_linear(glass):
    """Forbids a first reader that is missing, or one whose paths are counted twice."""
    planted = prompt_pair(glass, "fox owl bee fox", "cat owl bee fox", " owl", " bee")
    heads = [name for head in range(4) for name in head_inputs(glass, 1, head)]
    for sender in ("0.0", "0.2"):
        shares = path_patching(glass, planted, [sender], ["logits", *heads]).moved
        total = wire_effects(glass, planted, sender).total
        assert shares.sum() == pytest.approx(total, abs=0.05)


def test_an_mlp_s_wire_is_not_counted_twice(gpt2, pair):
    """Forbids a direct effect that runs through the reader."""
    found = wire_effects(gpt2.hooked, pair, "0.1", "mlp 1")
    bare = path_patching(gpt2.hooked, pair, ["0.1"], ["logits", "mlp 1"], through_mlps=False)
    assert (found.direct, found.via) == pytest.approx(tuple(bare.moved[0]), abs=1e-5)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_the_planted_wire_carries_all(glass, direction):
    """Forbids parts of a linear whole that do not add up."""
    planted = prompt_pair(glass, "fox owl bee fox", "cat owl bee fox", " owl", " bee")
    by_key = wire_effects(glass, planted, "0.2", "1.1.k", direction=direction)
    assert by_key.total == pytest.approx(1, abs=0.05)
    assert by_key.via == pytest.approx(by_key.total, abs=0.02)
    assert (by_key.direct, by_key.rest) == pytest.approx((0, 0), abs=0.02)
    last = wire_effects(glass, planted, "1.1", direction=direction)
    assert last.direct == pytest.approx(last.total, abs=0.02)


def test_a_wire_backwards_is_refused(glass):
    """Forbids an effect of zero for a path that does not exist."""
    planted = prompt_pair(glass, "fox owl bee fox", "cat owl bee fox", " owl", " bee")
    with pytest.raises(PatchingError, match="comes after"):
        wire_effects(glass, planted, "1.2", "1.1.k")
    with pytest.raises(PatchingError, match="no sender"):
        wire_effects(glass, planted, "7.2", "1.1.k")


def test_shares_and_the_strongest_go_by_size_in_both_directions():
    """Forbids a wire against the answer that counts as none, and NaN among the strongest."""
    values = np.array([[[1.0], [np.nan]], [[6.0], [2.0]]])
    made = {
        way: PathResult(
            ("a", "b"), ("x", "y"), way, True, "m", "", values, np.array([2.0]), np.array([0.0])
        )
        for way in ("denoise", "noise")
    }
    assert made["denoise"].moved[:, 0].tolist() == [0.5, 3]
    assert made["noise"].moved[:, 0].tolist() == [0.5, -2]
    assert made["noise"].strongest(9) == (("b", "x"), ("a", "x"), ("b", "y"))
