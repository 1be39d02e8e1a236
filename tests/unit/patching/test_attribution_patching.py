"""Estimates against finite differences and real patches; the check that goes with them."""

import numpy as np
import pytest
import torch

from lens_core.patching import (
    PatchingError,
    PromptPair,
    attribution_patching,
    sweep,
    verify,
)

ANSWER, FOIL = 5, 7


def pairs_of(tokens, others):
    matches = torch.arange(tokens.shape[1])[:, None].expand(-1, 2)
    return [PromptPair(a, b, ANSWER, FOIL, matches) for a, b in zip(tokens, others, strict=True)]


@pytest.fixture
def pairs():
    tokens = torch.randint(1, 120, (3, 2, 8), generator=torch.Generator().manual_seed(5))
    return pairs_of(tokens[:, 0], tokens[:, 1])


@pytest.mark.parametrize("site", ["resid_pre", "z", "mlp_out", "mlp_post", "k", "pattern"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_an_estimate_is_the_step_times_the_gradient(family_named, name, site, pairs):
    """Forbids a gradient at the wrong run, of the wrong sign, or summed over the wrong axis."""
    model = family_named(name).hooked
    found = attribution_patching(model, pairs, site, positions=[3, -1])
    for i, pair in enumerate(pairs):
        clean = model.run_with_cache(pair.clean, [(site, 1)])[1][site, 1]
        logits, cache = model.run_with_cache(pair.corrupted, [(site, 1)], grad=True)
        metric = logits[0, -1, ANSWER] - logits[0, -1, FOIL]
        (gradient,) = torch.autograd.grad(metric, [cache[site, 1]])
        product = ((clean - cache[site, 1].detach()) * gradient)[0]
        if site == "pattern":
            wanted = product[:, 3].sum(-1)  # [head]
        elif site in ("z", "k"):
            wanted = product[3].sum(-1)
        else:
            wanted = product[3].sum()
        assert found.values[1, 0, ..., i] - found.corrupted[i] == pytest.approx(
            wanted.numpy(), abs=1e-5
        )


def test_a_patch_that_is_linear_is_estimated_exactly(gpt2, pairs):
    """Forbids an estimate that is off where there is nothing to approximate."""
    for direction in ("denoise", "noise"):
        options = {"positions": [-1], "direction": direction, "metric": "logit"}
        found = attribution_patching(gpt2.hooked, pairs, "logits", **options)
        true = sweep(gpt2.hooked, pairs, "logits", **options)
        assert np.allclose(found.values, true.values, atol=1e-4)
        assert np.allclose(found.clean, true.clean, atol=1e-5)
        assert np.allclose(found.corrupted, true.corrupted, atol=1e-5)


def test_integrated_gradients_add_up_to_the_whole_change(gpt2, pairs):
    """Forbids a path of gradients that does not lead from one run to the other."""
    found = attribution_patching(
        gpt2.hooked, pairs, "resid_pre", layers=[0], positions="all", ig_steps=64
    )
    assert found.values[0] == pytest.approx(found.clean, abs=0.02 * np.ptp(found.clean))
    plain = attribution_patching(gpt2.hooked, pairs, "resid_pre", layers=[0], positions="all")
    assert np.abs(plain.values[0] - found.clean).max() > np.abs(found.values[0] - found.clean).max()


def test_the_check_patches_for_real(gpt2, pairs):
    """Forbids a verification of other cells than it names, or of the estimate by itself."""
    model = gpt2.hooked
    estimate = attribution_patching(model, pairs, "z", positions="all")
    checked = verify(model, pairs, estimate, top=4, random=3)
    assert checked.chosen == ("top",) * 4 + ("random",) * 3
    true = sweep(model, pairs, "z", positions="all")
    for (layer, head), effect, guess in zip(
        checked.cells, checked.true, checked.estimated, strict=True
    ):
        wanted = (true.values[layer, head] - true.corrupted).mean()
        assert effect == pytest.approx(wanted, abs=1e-5)
        assert guess == pytest.approx(
            (estimate.values[layer, head] - estimate.corrupted).mean(), abs=1e-9
        )
    sizes = np.abs(checked.estimated)
    assert sizes[:4].min() >= sizes[4:].max()
    assert -1 <= checked.spearman <= 1
    assert -1 <= checked.pearson <= 1
    frame = checked.to_frame()
    assert list(frame.columns) == [
        "layer",
        "head",
        "chosen",
        "estimated_effect",
        "true_effect",
        "miss",
    ]
    assert checked.worst(1)[0] == int(frame["miss"].abs().argmax())


def test_small_steps_are_estimated_well(gpt2):
    """Forbids an estimate that does not become the truth as the two runs become one."""
    model = gpt2.hooked
    tokens = torch.randint(1, 120, (2, 8), generator=torch.Generator().manual_seed(1))
    pair = pairs_of(tokens[:1], tokens[1:])[0]
    estimate = attribution_patching(model, pair, "mlp_post", neurons=[3, 9])
    checked = verify(model, pair, estimate, top=6, random=6)
    assert checked.pearson > 0.99


def test_what_has_no_gradient_is_refused(gpt2, pairs):
    """Forbids an estimate of zero for a metric that moves in steps."""
    with pytest.raises(PatchingError, match="gradient"):
        attribution_patching(gpt2.hooked, pairs, "z", metric="rank")
    with pytest.raises(PatchingError, match="pattern"):
        attribution_patching(gpt2.hooked, pairs, "scores")
    estimate = attribution_patching(gpt2.hooked, pairs, "z")
    with pytest.raises(PatchingError, match="made of"):
        verify(gpt2.hooked, pairs[:2], estimate)
