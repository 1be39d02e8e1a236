"""Averages over facts, on the shipped model and against the figures on its card."""

from types import SimpleNamespace

import numpy as np
import pytest

from lens_core.tracing import (
    ROLES,
    GaussianNoise,
    TracePrompt,
    TracingError,
    average_trace,
    causal_trace,
)
from lens_core.tracing.average import by_role, estimate
from lens_core.world.datasets import known_facts
from lens_core.world.gate.mechanism import trace as card_trace

FEW = GaussianNoise(samples=3)


@pytest.fixture(scope="module")
def facts(tiny_world):
    """Facts of several tokens' subjects, as on the model's card."""
    return known_facts(
        tiny_world.tokenizer, 4, seed=1, multi_token_subject=True, single_token_object=True
    )


@pytest.fixture(scope="module")
def averaged(tiny_world, facts):
    """Four facts, three samples each."""
    prompts = [TracePrompt.of_fact(tiny_world, fact) for fact in facts]
    return average_trace(tiny_world, prompts, corruption=FEW)


def test_the_card_and_the_lab_agree(tiny_world, facts):
    """Forbids two definitions of tracing: the shipped model's gate has its own plain loop."""
    for fact in facts[:2]:
        figures = {f.name: f for f in card_trace(tiny_world, [fact], samples=5)}
        asked = TracePrompt.of_fact(tiny_world, fact)
        found = causal_trace(
            tiny_world,
            asked.prompt,
            asked.subject,
            asked.answer,
            kinds=["state"],
            corruption=GaussianNoise(samples=5),
        )
        clean = figures["tracing: answer's probability, clean"].value
        noised = figures["tracing: answer's probability, subject noised"].value
        assert found.clean == pytest.approx(clean, abs=1e-4)
        assert found.corrupted.mean() == pytest.approx(noised, abs=1e-4)
        effect = found.indirect_effect("state")
        on_card = figures["tracing: at the last token, after the first half"].value
        assert effect[3, -1] == pytest.approx(on_card, abs=1e-4)
        least = figures[
            "tracing: indirect effect at the last subject token, least over the first half"
        ]
        assert effect[:4, asked.subject[1]].min() == pytest.approx(least.value, abs=1e-4)


def test_the_average_is_the_average_of_the_traces(averaged):
    """Forbids roles that are mixed up and intervals that do not hold their mean."""
    effects = [t.indirect_effect("state") for t in averaged.traces]
    last = [e[:, t.subject[1]] for e, t in zip(effects, averaged.traces, strict=True)]
    found = averaged.indirect_effect["state"]
    assert found.mean[:, ROLES.index("last subject token")] == pytest.approx(np.mean(last, axis=0))
    ends = np.mean([e[:, -1] for e in effects], axis=0)
    assert found.mean[:, ROLES.index("last token")] == pytest.approx(ends)
    inside = (found.low <= found.mean + 1e-9) & (found.mean <= found.high + 1e-9)
    assert (inside | np.isnan(found.mean) | np.isnan(found.low)).all()
    assert averaged.total_effect.n == len(averaged.traces)
    assert len(averaged.to_frame()) == 3 * 8 * 6


def test_noise_on_the_subject_matters_and_on_another_word_does_not(averaged):
    """Forbids a control that is no control, on a model that is known to read the subject."""
    assert averaged.total_effect.mean > 0.6
    assert averaged.control_effect.mean < 0.3


def test_all_prompts_have_noise_of_one_size(averaged):
    """Forbids noise that depends on the prompt; the paper's is one multiple of one spread."""
    assert len({t.noise_std for t in averaged.traces}) == 1


def test_prompts_that_are_not_answered_are_left_out(tiny_world, facts):
    """Forbids averages over answers that the model never gave."""
    prompts = [TracePrompt.of_fact(tiny_world, fact) for fact in facts[:2]]
    wrong = TracePrompt(prompts[0].prompt, prompts[0].subject, " the")
    steps = []
    found = average_trace(
        tiny_world,
        [wrong, prompts[0]],
        kinds=["state"],
        corruption=FEW,
        on_step=lambda *step: steps.append(step),
    )
    assert (len(found.traces), found.skipped) == (1, 1)
    assert steps == [(1, 2), (2, 2)]
    with pytest.raises(TracingError, match="answers none"):
        average_trace(tiny_world, [wrong], kinds=["state"], corruption=FEW)


@pytest.mark.parametrize(
    ("subject", "n_positions", "expected"),
    [
        ((2, 5), 10, [2, 3.5, 5, 6, 7.5, 9]),
        ((1, 2), 6, [1, np.nan, 2, 3, 4, 5]),
        ((1, 1), 3, [1, np.nan, 1, np.nan, np.nan, 2]),
        ((0, 3), 4, [0, 1.5, 3, np.nan, np.nan, 3]),
    ],
)
def test_each_token_has_its_role(subject, n_positions, expected):
    """Forbids the last token counted as a further one, and zeros where there is no token."""
    effect = np.arange(float(n_positions))[None]
    roles = by_role(SimpleNamespace(subject=subject), effect)
    np.testing.assert_array_equal(roles, [expected])


def test_an_estimate_leaves_out_what_is_not_there():
    """Forbids NaN that spoils a mean, or that counts as a zero."""
    found = estimate(np.array([[1.0, np.nan, 3.0], [np.nan] * 3]), seed=0)
    assert found.mean[0] == 2
    assert np.isnan(found.mean[1])
    assert list(found.n) == [2, 0]
