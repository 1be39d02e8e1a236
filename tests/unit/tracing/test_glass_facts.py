"""Causal tracing on the model whose facts were put in by hand: it finds them and nothing else."""

import numpy as np
import pytest

from lens_core.glass.facts import FACTS, facts_model
from lens_core.glass.facts_truth import FACTS_TRUTH
from lens_core.tracing import GaussianNoise, TokenReplacement, TracePrompt, average_trace
from lens_core.tracing import causal_trace as trace

SITES = {"state": "resid_post", "mlp": "mlp_out", "attn": "attn_out"}


def other_person(fact):
    """A known person with neither name nor answer in common, so that all of the answer is lost."""
    return next(
        f.subject
        for f in FACTS
        if f.kind == fact.kind
        and f.first_name != fact.first_name
        and f.surname != fact.surname
        and f.answer != fact.answer
    )


@pytest.fixture(scope="module")
def model():
    """glass-facts."""
    return facts_model()


@pytest.mark.parametrize("fact", [FACTS[0], FACTS[7], FACTS[12], FACTS[22]], ids=str)
def test_exactly_the_planted_cells_carry_the_fact(model, fact):
    """Forbids maps shifted by a layer or a token, and effects where nothing was planted."""
    other = TokenReplacement((other_person(fact),))
    options = {"corruption": other, "window": 1, "metric": "logit"}
    found = trace(model, fact.prompt, fact.subject, fact.answer, **options)
    assert found.total_effect == pytest.approx(FACTS_TRUTH.answer_logit, abs=1e-3)
    last_name, last = found.subject[1], len(found.tokens) - 1
    rows = {"surname": last_name, "last": last}
    for kind, site in SITES.items():
        expected = np.zeros((3, last + 1))
        for layer, row in FACTS_TRUTH.carries(site):
            expected[layer, rows[row]] = found.total_effect
        assert found.indirect_effect(kind) == pytest.approx(expected, abs=1e-4)


def test_severing_the_mlps_says_which_step_needs_them(model):
    """Forbids a severed map that leaves later MLPs alone: MLP 1 is where names become a fact."""
    fact = FACTS[0]
    found = trace(
        model,
        fact.prompt,
        fact.subject,
        fact.answer,
        corruption=TokenReplacement(("cleo lake",)),
        kinds=["state_mlp_severed", "state_attn_severed"],
    )
    severed = found.indirect_effect("state_mlp_severed")[:, found.subject[1]]
    assert severed == pytest.approx([0, found.total_effect, 0], abs=1e-4)
    attention = found.indirect_effect("state_attn_severed")[:, found.subject[1]]
    assert attention == pytest.approx([found.total_effect, found.total_effect, 0], abs=1e-4)


def test_the_average_finds_the_early_and_the_late_site(model):
    """Forbids averages in which the two sites of the model do not stand out."""
    prompts = [TracePrompt(f.prompt, f.subject, f.answer) for f in FACTS[::3]]
    found = average_trace(model, prompts, corruption=GaussianNoise(samples=5), window=1)
    state = found.indirect_effect["state"].mean
    total = float(found.total_effect.mean)
    assert found.skipped == 0
    assert total > 0.4
    assert state[:2, 2] == pytest.approx([total] * 2, abs=1e-4)
    assert state[2, 5] == pytest.approx(total, abs=1e-4)
    assert abs(float(found.control_effect.mean)) < 1e-3
