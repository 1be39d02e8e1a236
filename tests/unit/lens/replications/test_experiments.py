"""The experiments on small random models: planted truth is found, controls are near zero."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lens_core.lens import LensDataError, LogitLens, TunedLens
from lens_core.lens.corpus import Rows, split_rows
from lens_core.lens.replications import (
    Sample,
    Suite,
    causal_basis,
    replicate_prediction_depth,
    stimulus_response,
    token_difficulty,
)
from lens_core.lens.replications.causal_basis import ablate, direction_effects, random_basis
from lens_core.lens.replications.layer_transfer import _mantel, covariance_likeness
from lens_core.lens.replications.marginal_bias import marginal_bias
from lens_core.lens.replications.small_lenses import SMALL_RECIPE
from lens_core.lens.replications.states import (
    final_logprobs,
    lens_logprobs,
    site_of,
    states_of,
)
from lens_core.lens.statistics import kl_nats

TINY = replace(SMALL_RECIPE, steps=2, tokens_per_step=64, tokens_per_pass=64, held_out_tokens=64)


@pytest.fixture
def sample(gpt2, rows):
    return Sample.of(gpt2, rows, 12, 6, seed=0)


def test_the_sample_leaves_out_bos_and_the_ends(gpt2, rows):
    """Forbids states of another kind, and next tokens beyond the row."""
    tokens = rows.tokens.clone()
    tokens[:, 5] = gpt2.bos_id
    with_bos = Rows.of(tokens, rows.documents, 1.0, "with BOS")
    sample = Sample.of(gpt2, with_bos, 40, 99, seed=0)
    assert len(sample) == 40 * 13
    assert {0, 5, 15}.isdisjoint(sample.positions.tolist())
    assert torch.equal(sample.next_ids(), sample.tokens[sample.rows, sample.positions + 1])
    with pytest.raises(LensDataError):
        Sample.of(gpt2, rows.take(torch.arange(1)), 40, 4, seed=0)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_running_on_from_untouched_states_is_the_model(gpt2, sample, depth):
    """Forbids a response that is there without a treatment."""
    states = states_of(gpt2, sample, [depth])[depth]
    logits = gpt2.run(sample.tokens)[sample.rows, sample.positions]
    wanted = torch.log_softmax(logits, -1)
    torch.testing.assert_close(final_logprobs(gpt2, sample, states, depth), wanted)
    torch.testing.assert_close(final_logprobs(gpt2, sample), wanted)
    if depth == 3:
        read = lens_logprobs(gpt2, LogitLens(), sample.at(states), depth)
        torch.testing.assert_close(read, wanted)


def test_sites_of_depths(gpt2):
    """Forbids the state after the final norm for the last depth."""
    assert site_of(0, 3) == ("resid_pre", 0)
    assert site_of(3, 3) == ("resid_post", 2)


def test_ablation_takes_a_direction_to_its_mean_and_leaves_the_rest():
    """Forbids zero ablation in place of mean ablation."""
    states = torch.randn(20, 8, generator=torch.Generator().manual_seed(0)) + 3
    v = torch.nn.functional.normalize(torch.ones(8), dim=-1)
    mean = states.mean(0)
    ablated = ablate(states, v, mean)
    torch.testing.assert_close(ablated @ v, (mean @ v).expand(20))
    other = torch.eye(8)[0] - torch.eye(8)[1]
    torch.testing.assert_close(ablated @ other, states @ other)


def test_a_planted_direction_is_found_before_random_ones(gpt2, rows):
    """Forbids a search that does not climb: all that varies lies along one direction."""
    generator = torch.Generator().manual_seed(1)
    planted = torch.nn.functional.normalize(torch.randn(32, generator=generator), dim=-1)
    states = 0.02 * torch.randn(200, 32, generator=generator)
    states += 3 * torch.randn(200, 1, generator=generator) * planted
    basis = causal_basis(gpt2, LogitLens(), states, 2, k=3)
    # The best is not quite what was planted: it leans to where the unembedding is sensitive.
    assert abs(float(basis.directions[0] @ planted)) > 0.9

    def energy(v):
        with torch.no_grad():
            intact = lens_logprobs(gpt2, LogitLens(), states, 2)
            read = lens_logprobs(gpt2, LogitLens(), ablate(states, v, states.mean(0)), 2)
        return float(kl_nats(intact, read).mean())

    chance = random_basis(32, 20, generator)
    assert basis.energies_nats[0] == pytest.approx(energy(basis.directions[0]), rel=1e-4)
    assert basis.energies_nats[0] >= energy(planted) > max(energy(v) for v in chance)
    torch.testing.assert_close(
        basis.directions @ basis.directions.T, torch.eye(3), atol=1e-4, rtol=0
    )
    assert len(basis.to_frame()) == 3


def test_extracted_directions_have_more_energy_than_random_ones(gpt2, sample):
    """Forbids a basis that is no better than chance on text that it was not fitted to."""
    states = sample.at(states_of(gpt2, sample, [2])[2])
    basis = causal_basis(gpt2, LogitLens(), states, 2, k=3)
    chance = random_basis(32, 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(chance @ chance.T, torch.eye(3), atol=1e-5, rtol=0)
    args = (gpt2, LogitLens(), sample)
    energy, effect = direction_effects(*args, basis.directions, 2, basis.mean)
    control, _ = direction_effects(*args, chance, 2, basis.mean)
    assert energy.mean() > 1.5 * control.mean()
    np.testing.assert_allclose(energy.mean(1), basis.energies_nats, rtol=1e-3)
    assert (effect > -1e-5).all()


def test_at_the_last_depth_lens_and_model_are_one(gpt2, sample):
    """Forbids energies and effects of different ablations: here they are the same number."""
    chance = random_basis(32, 3, torch.Generator().manual_seed(0))
    energy, effect = direction_effects(gpt2, LogitLens(), sample, chance, 3, torch.zeros(32))
    np.testing.assert_allclose(energy, effect, atol=1e-5)


def test_stimulus_is_the_response_after_the_last_block(gpt2, sample):
    """Forbids stimulus and response at different tokens; shuffled pairs are the control."""
    at = stimulus_response(gpt2, {"logit": LogitLens()}, sample, 3)
    np.testing.assert_allclose(at.aligned["logit"], 1, atol=1e-4)
    assert abs(at.shuffled["logit"].mean()) < 0.35
    assert (at.response_nats >= -1e-5).all()
    assert len(at.to_frame()) == len(sample)


def test_prediction_depth_agrees_with_the_lens_result(gpt2, sample):
    """Forbids depths that count rows from another end than `read_lens`."""
    from lens_core.lens import read_lens

    found = token_difficulty(gpt2, {"logit": LogitLens()}, sample)
    for n in (0, 17, 40):
        row, position = int(sample.rows[n]), int(sample.positions[n])
        lens = read_lens(gpt2, sample.tokens[row : row + 1])
        assert found.depths["logit"][n] == lens.prediction_depth(position) + 1
        assert found.loss_nats[n] == pytest.approx(-lens.next_logprobs[-1, position], abs=1e-4)


def test_random_text_on_a_random_model_does_not_replicate(gpt2, rows):
    """Forbids a criterion that is met by nothing: loss is unrelated to depth here."""
    replication = replicate_prediction_depth(gpt2, LogitLens(), rows, n_rows=40, n_positions=8)
    assert not replication.replicates
    assert replication.verdict.startswith("Does not replicate at this size")
    tuned = replication.of("rank correlation", "tuned")[0]
    assert tuned.low < tuned.value < tuned.high
    assert tuned.n == 40


def test_bias_is_zero_for_the_same_lens_and_grows_with_a_planted_bias(gpt2, sample):
    """Forbids KL turned round or of single tokens: only the mean distribution counts."""
    nothing = TunedLens(None, torch.zeros(3, 32), gpt2.cfg.name)
    same = marginal_bias(gpt2, nothing, sample)
    np.testing.assert_allclose(same.excess_bits.value, 0, atol=1e-6)
    assert (same.bias_bits["logit"].value > 0).all()
    planted = TunedLens(None, 50 * torch.ones(3, 32) * gpt2.W_U[:, 7], gpt2.cfg.name)
    biased = marginal_bias(gpt2, planted, sample)
    assert (biased.excess_bits.high < 0).all()
    assert len(biased.to_frame()) == 6


def test_likeness_is_one_with_itself_and_mantel_knows_chance():
    """Forbids a cosine of means for one of covariances, and a control that always passes."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(100, 6, generator=generator)
    likeness = covariance_likeness({0: base, 1: base + 5, 2: base @ torch.diag(torch.arange(6.0))})
    assert likeness[0, 1] == pytest.approx(1, abs=1e-5)
    assert likeness[0, 2] < 0.99
    rng = np.random.default_rng(0)
    distance = abs(np.subtract.outer(np.arange(8), np.arange(8))).astype(float)
    assert _mantel(distance, -distance, 0) < 0.01
    noise = rng.normal(size=(8, 8))
    assert _mantel(distance, noise + noise.T, 0) > 0.01


def test_shuffled_targets_change_the_targets_alone(gpt2, rows, monkeypatch):
    """Forbids a control that shuffles the states too, or nothing at all."""
    from lens_core.lens.replications import small_lenses

    seen = {}

    def fake_training(model, rows, recipe, on_step):
        sites = [("resid_pre", 1), ("resid_post", 2)]
        seen["inside"] = model.run_with_cache(rows.tokens[:4], sites, stop_at_layer=3)[1]
        return type("Training", (), {"lens": None})

    monkeypatch.setattr(small_lenses, "train_tuned", fake_training)
    small_lenses.train_on_shuffled_targets(gpt2, rows, TINY)
    _, plain = gpt2.run_with_cache(rows.tokens[:4], [("resid_pre", 1), ("resid_post", 2)])
    torch.testing.assert_close(seen["inside"]["resid_pre", 1], plain["resid_pre", 1])
    torch.testing.assert_close(seen["inside"]["resid_post", 2], plain["resid_post", 2].roll(1, 0))


def test_the_suite_runs_every_experiment_of_lenses_and_reports_steps(gpt2, rows):
    """Forbids an experiment that fails at a small size, and work that cannot be cancelled."""
    train, held_out = split_rows(rows, 0.5)
    steps = []
    suite = Suite(
        gpt2,
        train,
        held_out,
        recipe=TINY,
        seeds=(0, 1),
        n_evaluated=8,
        on_step=lambda done, total: steps.append(done / total),
    )
    for key in suite.keys:
        if key == "anomaly":  # needs a model of the world's facts
            continue
        steps.clear()
        replication = suite.run(key)
        assert replication.claim.key == key
        assert len(replication.to_frame()) == len(replication.figures) > 0
        assert replication.replicates != replication.verdict.startswith("Does not replicate")
        assert max(steps, default=1) <= 1
        assert all(np.isfinite(f.value) for f in replication.figures)
    with pytest.raises(KeyError):
        suite.run("astrology")
