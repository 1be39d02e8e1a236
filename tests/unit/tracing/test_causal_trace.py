"""Causal tracing against the loop that runs the whole model once for every cell."""

import numpy as np
import pytest
import torch

from lens_core.interventions import add, patch
from lens_core.patching.metrics import METRICS
from lens_core.tracing import (
    GaussianNoise,
    TokenReplacement,
    TracingError,
    causal_trace,
    embedding_std,
    window_layers,
)

ANSWER, FOIL = 5, 7
SUBJECT = (2, 4)
SOME_FAMILIES = ("gpt2", "llama", "gemma2", "gpt_neox", "gpt_neo", "bloom", "granite")
KINDS = ("state", "mlp", "attn", "state_mlp_severed", "state_attn_severed")
NOISE = GaussianNoise(samples=3, seed=4)


@pytest.fixture(params=SOME_FAMILIES)
def some(request, family_named):
    """Sequential, parallel and post-norm blocks, windows and registry, all position encodings."""
    return family_named(request.param)


def noised(model, tokens, span=SUBJECT):
    """The corrupted run as interventions, built anew."""
    std = 3 * embedding_std(model, [tokens[0, span[0] : span[1] + 1]])
    shape = (3, span[1] + 1 - span[0], model.cfg.d_model)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(4)) * std
    return [add("embed", None, noise, positions=range(span[0], span[1] + 1))]


def restored(model, kind, layer, position, window, clean, corrupted):
    """The interventions of one cell, straight from the definition."""
    at = [position]
    if kind in ("mlp", "attn"):
        site = f"{kind}_out"
        layers = window_layers(layer, window, model.cfg.n_layers)
        return [patch(site, n, clean, positions=at) for n in layers]
    edits = [patch("resid_post", layer, clean, positions=at)]
    if kind != "state":
        site = "mlp_out" if "mlp" in kind else "attn_out"
        later = range(layer + 1, model.cfg.n_layers)
        edits += [patch(site, n, corrupted, positions=at) for n in later]
    return edits


@pytest.mark.parametrize("kind", KINDS)
def test_every_cell_equals_its_own_whole_run(some, kind):
    """Forbids resumed runs, shared batches or entry states that differ from the plain loop."""
    model, tokens = some.hooked, some.tokens[:1]
    rows, noise = tokens.expand(3, -1), noised(some.hooked, tokens)
    _, clean = model.run_with_cache(tokens)
    _, corrupted = model.run_with_cache(rows, interventions=noise)
    found = causal_trace(model, tokens, SUBJECT, ANSWER, kinds=[kind], corruption=NOISE, window=2)
    # Logits of random models: probabilities are all near 1/120, so compare their logarithms.
    values = np.log(found.values[kind])
    for layer in range(model.cfg.n_layers):
        for position in range(tokens.shape[1]):
            edits = restored(model, kind, layer, position, 2, clean, corrupted)
            logits = model.run(rows, [*noise, *edits])[:, -1]
            reference = logits.log_softmax(-1)[:, ANSWER].numpy()
            np.testing.assert_allclose(values[layer, position], reference, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_direction(gpt2, kind):
    """Forbids "noise" that restores instead of spoiling, or mixes the samples' rows."""
    model, tokens = gpt2.hooked, gpt2.tokens[:1]
    rows, noise = tokens.expand(3, -1), noised(gpt2.hooked, tokens)
    _, clean = model.run_with_cache(rows)
    _, corrupted = model.run_with_cache(rows, interventions=noise)
    found = causal_trace(
        model,
        tokens,
        SUBJECT,
        ANSWER,
        FOIL,
        kinds=[kind],
        corruption=NOISE,
        window=1,
        direction="noise",
    )
    for layer in range(model.cfg.n_layers):
        for position in (0, 2, 4, 8):
            edits = restored(model, kind, layer, position, 1, corrupted, clean)
            logits = model.run(rows, edits)[:, -1]
            reference = (logits[:, ANSWER] - logits[:, FOIL]).numpy()
            np.testing.assert_allclose(found.values[kind][layer, position], reference, atol=1e-4)
    lost = found.indirect_effect(kind)
    assert lost == pytest.approx(found.clean - found.values[kind].mean(-1))


def test_identities(some):
    """Forbids an effect before the subject, or a last state that does not decide the answer."""
    model, tokens = some.hooked, some.tokens[:1]
    found = causal_trace(model, tokens, SUBJECT, ANSWER, corruption=NOISE)
    effect = found.indirect_effect("state")
    assert np.abs(effect[:, : SUBJECT[0]]).max() == 0
    assert effect[-1, -1] == pytest.approx(found.total_effect, abs=1e-6)
    assert effect[-1, :-1] == pytest.approx(0, abs=1e-7)
    logits = model.run(tokens)[0, -1]
    assert found.clean == pytest.approx(float(logits.softmax(-1)[ANSWER]), abs=1e-6)


def test_token_replacement_is_the_other_prompt(gpt2):
    """Forbids noise where tokens should be exchanged, and samples that share one prompt."""
    model, tokens = gpt2.hooked, gpt2.tokens[:1]
    others = ((11, 12, 13), (21, 22, 23))
    found = causal_trace(model, tokens, SUBJECT, ANSWER, FOIL, corruption=TokenReplacement(others))
    for row, other in enumerate(others):
        changed = tokens.clone()
        changed[0, 2:5] = torch.tensor(other)
        logits = model.run(changed)[0, -1]
        assert found.corrupted[row] == pytest.approx(float(logits[ANSWER] - logits[FOIL]), abs=1e-5)
    assert found.noise_std is None
    assert found.control is None


def test_the_control_has_noise_of_the_same_size_on_other_words(gpt2):
    """Forbids a control that corrupts the subject, or with other noise than the subject had."""
    model, tokens = gpt2.hooked, gpt2.tokens[:1]
    found = causal_trace(model, tokens, SUBJECT, ANSWER, kinds=["state"], corruption=NOISE)
    assert found.control_span == (5, 7)
    same = GaussianNoise(std=found.noise_std, samples=3, seed=4)
    other = causal_trace(model, tokens, (5, 7), ANSWER, kinds=["state"], corruption=same)
    assert other.corrupted == pytest.approx(found.control, abs=1e-7)
    assert found.control_effect == pytest.approx(other.total_effect, abs=1e-7)


@pytest.mark.parametrize("metric", [m for m in METRICS if m != "kl"])
def test_metrics(gpt2, metric):
    """Forbids a metric that reads other columns or rows of the logits."""
    model, tokens = gpt2.hooked, gpt2.tokens[:1]
    found = causal_trace(
        model, tokens, SUBJECT, ANSWER, FOIL, kinds=["state"], corruption=NOISE, metric=metric
    )
    assert found.metric == METRICS[metric].name
    assert found.values["state"][-1, -1].mean() == pytest.approx(found.clean, abs=1e-5)
    assert found.values["state"][0, 0] == pytest.approx(found.corrupted, abs=1e-6)


def test_the_table_has_every_cell(gpt2):
    """Forbids rows of the table that are shifted against the maps."""
    found = causal_trace(gpt2.hooked, gpt2.tokens[:1], SUBJECT, ANSWER, corruption=NOISE)
    frame = found.to_frame()
    assert len(frame) == 3 * 3 * 9
    row = frame[(frame.kind == "mlp") & (frame.layer == 1) & (frame.position == 4)].iloc[0]
    assert row.indirect_effect == found.indirect_effect("mlp")[1, 4]
    assert bool(row.in_subject)
    assert row.token == found.tokens[4]


def test_progress_and_cancel(gpt2):
    """Forbids a count that stops short, and a cancelled trace that spoils the next one."""
    model, tokens, steps = gpt2.hooked, gpt2.tokens[:1], []
    whole = causal_trace(
        model, tokens, SUBJECT, corruption=NOISE, on_step=lambda *step: steps.append(step)
    )
    assert steps[-1][0] == steps[-1][1]
    assert [s[0] for s in steps] == sorted(s[0] for s in steps)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        causal_trace(model, tokens, SUBJECT, corruption=NOISE, on_step=stop)
    again = causal_trace(model, tokens, SUBJECT, corruption=NOISE)
    for kind in whole.values:
        assert (again.values[kind] == whole.values[kind]).all()


def test_a_small_memory_budget_changes_nothing(gpt2):
    """Forbids results that depend on how cells are shared out over batches."""
    model, tokens = gpt2.hooked, gpt2.tokens[:1]
    large = causal_trace(model, tokens, SUBJECT, ANSWER, corruption=NOISE)
    small = causal_trace(model, tokens, SUBJECT, ANSWER, corruption=NOISE, memory_gb=1e-5)
    for kind in large.values:
        assert small.values[kind] == pytest.approx(large.values[kind], abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"subject": (4, 2)},
        {"subject": (0, 9)},
        {"subject": "Paris"},
        {"kinds": []},
        {"kinds": ["neuron"]},
        {"direction": "sideways"},
        {"window": 0},
        {"foil": ANSWER},
        {"metric": "logit_difference"},
        {"corruption": TokenReplacement(((1, 2),))},
    ],
    ids=str,
)
def test_what_cannot_be_traced_is_said_in_a_sentence(gpt2, wrong):
    """Forbids tracebacks and silent nonsense for questions that cannot be answered."""
    options = {"subject": SUBJECT, "answer": ANSWER, "corruption": NOISE} | wrong
    subject = options.pop("subject")
    with pytest.raises(TracingError) as error:
        causal_trace(gpt2.hooked, gpt2.tokens[:1], subject, **options)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"sigmas": 0}, {"std": float("nan")}])
def test_noise_of_no_size_is_refused(wrong):
    """Forbids a corruption that corrupts nothing."""
    with pytest.raises(TracingError):
        GaussianNoise(**wrong)
