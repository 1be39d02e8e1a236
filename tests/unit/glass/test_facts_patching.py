"""Sweeps and path patching, graded by the answer sheet of glass-facts: all of it and no more."""

import numpy as np
import pytest

from lens_core import HookedModel
from lens_core.glass.facts_truth import FACTS_TRUTH as TRUTH
from lens_core.patching import path_patching, prompt_pair, sweep

ROWS = {3: "surname", 5: "last"}


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return HookedModel.from_pretrained(TRUTH.name)


@pytest.fixture(scope="module")
def pair(model):
    """Two people without a common name."""
    clean, corrupted = "today ada lake lives in", "today ben hill lives in"
    return prompt_pair(model, clean, corrupted, " lima", " cairo")


@pytest.fixture(scope="module")
def stranger(model):
    """Somebody, and two names that are nobody's together."""
    return prompt_pair(model, "today ada lake lives in", "today ben wood lives in", " lima")


@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"])
def test_a_sweep_finds_the_carrying_cells(model, pair, site):
    """Forbids a sweep that finds the fact elsewhere, or a part of it only."""
    found = sweep(model, pair, site, metric="logit").normalised_mean
    assert np.minimum(abs(found), abs(found - 1)).max() < 1e-3
    cells = {(int(layer), ROWS[int(place)]) for layer, place in np.argwhere(found > 0.5)}
    assert cells == TRUTH.carries(site)


def test_a_sweep_of_heads_finds_the_mover(model, pair):
    """Forbids a decoy that looks like the mover from passing for it."""
    found = sweep(model, pair, "z", positions=[-1], metric="logit").normalised_mean[:, 0]
    assert found[TRUTH.mover("city")] == pytest.approx(1, abs=1e-3)
    found[TRUTH.mover("city")] = 0
    assert abs(found).max() < 1e-3


def test_a_sweep_of_neurons_finds_the_fact(model, stranger):
    """Forbids a neighbour of the fact's neuron from carrying any of it."""
    found = sweep(
        model,
        stranger,
        "mlp_post",
        layers=[TRUTH.store],
        positions=[3],
        neurons="each",
        metric="logit",
    ).mean[0, 0]
    own = TRUTH.neuron_of("ada lake", "city")
    assert found[own] == pytest.approx(TRUTH.logit_without_other, abs=1e-3)
    assert abs(np.delete(found, own)).max() < 1e-3


def test_path_patching_finds_the_wires(model, stranger):
    """Forbids a path that is not there, and a wire of the fact that is missed."""
    senders = ["embed", *(f"{layer}.{head}" for layer in range(3) for head in range(4))]
    senders += [f"mlp {layer}" for layer in range(3)]
    heads = ["0.3", "1.1", "2.0", "2.1", "2.2"]
    receivers = [f"{head}.{way}" for head in heads for way in "qkv"]
    receivers += ["mlp 0", "mlp 1", "mlp 2", "logits"]
    found = path_patching(
        model, stranger, senders, receivers, through_mlps=False, metric="logit"
    ).normalised_mean
    lost = 1 - found  # noising: 1 where the path carried the whole answer
    wires = {(senders[i], receivers[j]) for i, j in np.argwhere(np.nan_to_num(lost) > 0.5)}
    # Both prompts ask for the city, so the query's wire has nothing to say here.
    assert wires == TRUTH.edges("city") - {("embed", "2.0.q")}
    silent = [abs(x) for x in lost.ravel() if not np.isnan(x) and x < 0.5]
    assert max(silent) < 1e-3


def test_path_patching_finds_what_asks(model):
    """Forbids a query that is read from anywhere but the last word."""
    asked = prompt_pair(model, "ada lake lives in", "ada lake plays the", " lima", " flute")
    senders = ["embed", "0.3", "mlp 1"]
    found = path_patching(model, asked, senders, ["2.0.q"], metric="logit", through_mlps=False)
    lost = 1 - found.normalised_mean[:, 0]
    assert lost[0] == pytest.approx(1, abs=1e-3)
    assert abs(lost[1:]).max() < 1e-3
