"""The greedy search, on gates whose parts are known and on the shipped model."""

from types import SimpleNamespace

import numpy as np
import pytest

from lens_core.circuits import Circuit, CircuitError, Knockouts, every_node, ioi_dataset
from lens_core.circuits.search import search_circuit

CFG = SimpleNamespace(name="gates", n_layers=3, n_heads=2)


class Gates:
    """Knockouts of a model that is a function of the set of heads that are kept."""

    ablation = "zero"

    def __init__(self, function):
        self.model = SimpleNamespace(cfg=CFG)
        self.dataset = type("Data", (), {"name": "gates", "__len__": lambda self: 2})()
        self.function, self.asked = function, []
        self.model_differences = np.array([function(set(every_node(self.model)))] * 2)

    def logit_differences(self, circuits, *, on_step=None):
        self.asked += circuits
        return np.array([[self.function(set(c.nodes))] * 2 for c in circuits])


def parts(kept):
    """Three heads add to the answer, one of them little; one acts against it."""
    weights = {(0, 1): 3.0, (2, 0): 1.0, (1, 1): 0.005, (2, 1): -0.5}
    return 1.0 + sum(w for node, w in weights.items() if node in kept)


def both(kept):
    """AND: two heads that do nothing alone."""
    return 4.0 * ((0, 0) in kept and (1, 0) in kept)


def either(kept):
    """OR: either of two heads does."""
    return 4.0 * ((0, 0) in kept or (1, 0) in kept)


def test_pruning_keeps_what_matters_on_either_side():
    """Forbids dropping a head that acts against the answer, or keeping one below the threshold."""
    found = search_circuit(Gates(parts))
    assert set(found.circuit.nodes) == {(0, 1), (2, 0), (2, 1)}
    assert found.circuit_difference == pytest.approx(4.5)
    assert found.ratio == pytest.approx(4.5 / 4.505)
    # One run of all, one a head, one of what was found.
    assert found.n_circuits == 1 + 6 + 1
    assert [step.node for step in found.steps] == sorted(
        every_node(SimpleNamespace(cfg=CFG)), reverse=True
    )


def test_growing_adds_the_most_useful_head_first_and_stops_when_near():
    """Forbids an order that is not greedy, and heads that are added past the goal."""
    found = search_circuit(Gates(parts), method="grow", goal=0.8)
    assert [step.node for step in found.steps] == [(0, 1)]
    found = search_circuit(Gates(parts), method="grow", goal=0.99)
    assert [step.node for step in found.steps] == [(0, 1), (2, 0), (2, 1)]


def test_gates_show_what_each_search_is_blind_to():
    """Forbids a doc that promises more than greed can do: AND hides from grow, OR from prune."""
    assert set(search_circuit(Gates(both)).circuit.nodes) == {(0, 0), (1, 0)}
    assert search_circuit(Gates(both), method="grow").circuit.size == 0
    assert search_circuit(Gates(either)).circuit.size == 1


def test_the_search_on_the_shipped_model_is_what_its_steps_say(tiny_world):
    """Forbids figures that are not those of the circuit that is handed back."""
    knockouts = Knockouts(tiny_world, ioi_dataset(tiny_world, 4))
    late = [(6, head) for head in range(8)] + [(7, head) for head in range(8)]
    steps = []
    found = search_circuit(knockouts, candidates=late, on_step=lambda *step: steps.append(step))
    assert steps[-1] == (16, 16)
    alone = Circuit.of("again", found.circuit.nodes)
    difference = knockouts.logit_differences([alone]).mean()
    assert found.circuit_difference == pytest.approx(difference, abs=1e-5)
    assert found.steps[-1].logit_difference == pytest.approx(difference, abs=1e-5)
    assert found.circuit.model == "tiny-world"
    assert len(found.to_frame()) == 16
    assert Circuit.from_json(found.circuit.to_json()) == found.circuit


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "anneal"},
        {"min_share": -1},
        {"goal": 0},
        {"max_size": 0},
        {"candidates": []},
    ],
    ids=str,
)
def test_a_search_that_makes_no_sense_is_refused(wrong):
    """Forbids endless or empty searches."""
    with pytest.raises(CircuitError) as error:
        search_circuit(Gates(parts), **wrong)
    assert str(error.value).endswith(".")


def test_a_model_that_prefers_the_wrong_answer_is_refused():
    """Forbids faithfulness to a behaviour that is not there."""
    with pytest.raises(CircuitError, match="wrong answer"):
        search_circuit(Gates(lambda kept: -1.0))
