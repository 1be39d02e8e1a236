"""Faithfulness, completeness and minimality are what their definitions say."""

from types import SimpleNamespace

import numpy as np
import pytest

from lens_core.circuits import (
    Circuit,
    CircuitError,
    completeness,
    every_node,
    faithfulness,
    minimality,
    score_table,
)

CFG = SimpleNamespace(name="gates", n_layers=2, n_heads=3)
NOISE = np.array([-1.0, 0.0, 0.0, 1.0])


class Gates:
    """Knockouts of a model that is a function of the heads that are kept."""

    def __init__(self, function):
        self.model = SimpleNamespace(cfg=CFG)
        self.dataset = [None] * len(NOISE)
        self.function = function
        self.whole = Circuit.of("the whole model", every_node(self.model))
        self.model_differences = self.logit_differences([self.whole])[0]

    def whole_with(self, circuit):
        return self.whole

    measure = "logit difference"

    def logit_differences(self, circuits, *, on_step=None):
        return np.array([self.function(set(c.nodes)) + NOISE for c in circuits])

    def readings(self, circuits, *, on_step=None):
        found = self.logit_differences(circuits)
        return {"logit difference": found, "first": (found > 4).astype(float)}


def backed_up(kept):
    """A mover that works with its finder; a backup that takes over when the mover is gone."""
    found = (0, 0) in kept
    moved = (1, 0) in kept or (1, 1) in kept
    return 1.0 + 4.0 * (found and moved) - 0.5 * ((1, 2) in kept)


MINE = Circuit.of("mine", {"finder": [(0, 0)], "mover": [(1, 0)]})
FULL = Circuit.of("full", {"finder": [(0, 0)], "mover": [(1, 0), (1, 1)], "against": [(1, 2)]})


def test_faithfulness_by_its_definition():
    """Forbids a ratio of the wrong way round, and a baseline that is forgotten."""
    gates = Gates(backed_up)
    mine, full = faithfulness(gates, [MINE, FULL])
    assert float(mine.model.value) == 4.5
    assert float(mine.circuit.value) == 5.0
    assert float(mine.empty.value) == 1.0
    assert float(mine.ratio.value) == pytest.approx(5 / 4.5)
    assert float(mine.recovered.value) == pytest.approx(4 / 3.5)
    assert mine.gap == 0.5
    assert mine.accuracy == 1.0
    assert mine.first == 0.75
    assert float(mine.circuit.low) < 5.0 < float(mine.circuit.high)
    assert full.gap == 0
    table = score_table([mine, full])
    assert table["circuit"].tolist() == ["full", "mine"]
    assert table["size"].tolist() == [4, 2]


def test_of_equally_faithful_circuits_the_smaller_one_leads():
    """Forbids a leaderboard that rewards ballast."""
    fat = Circuit.of("fat", [*FULL.nodes, (0, 1)])
    assert score_table(faithfulness(Gates(backed_up), [fat, FULL]))["circuit"][0] == "full"


def test_completeness_finds_the_backup_that_the_circuit_lacks():
    """Forbids a circuit that passes for complete though the model has a spare part."""
    found = completeness(Gates(backed_up), MINE)
    by_name = found.to_frame().set_index("without")
    assert by_name.loc["nothing", "gap"] == pytest.approx(0.5)
    assert by_name.loc["all mover", "circuit"] == 1.0
    assert by_name.loc["all mover", "model"] == 4.5
    assert found.worst == pytest.approx(3.5)
    assert found.sets[found.worst_place][0] == "all mover"
    assert dict(found.sets)["the whole circuit"] == MINE.nodes
    assert completeness(Gates(backed_up), FULL).worst == 0
    grown = completeness(Gates(backed_up), MINE, n_random=0, greedy_steps=2)
    assert grown.sets[-1] == ("greedy", ((1, 0),))
    assert grown.circuit[-1] - grown.model[-1] == pytest.approx(-3.5)


def test_minimality_needs_the_set_in_whose_absence_a_backup_matters():
    """Forbids calling a backup idle, and calling idle what is needed."""
    fat = Circuit.of("fat", {**FULL.roles, "idle": [(0, 1)]})
    found = minimality(Gates(backed_up), fat).to_frame().set_index("node")
    assert found.index[0] == "L0H1"
    assert found.loc["L0H1", "change"] == 0
    assert found.loc["L1H1", "without"] == "all mover"
    assert found.loc["L1H1", "change"] == 4
    assert found.loc["L1H2", "change"] == -0.5
    assert found.loc["L1H2", "share"] == pytest.approx(0.5 / 4.5)
    assert found.loc["L0H0", "role"] == "finder"


def test_an_empty_circuit_cannot_be_judged():
    """Forbids scores of nothing."""
    for judge in (completeness, minimality):
        with pytest.raises(CircuitError, match="no nodes"):
            judge(Gates(backed_up), Circuit.of("empty", ()))


class Pairs(Gates):
    """A model whose second half of the prompts does not need the finder."""

    def logit_differences(self, circuits, *, on_step=None):
        easy = np.array([0, 0, 1, 1])
        return np.array([3.0 * (((0, 0) in c.nodes) | easy) for c in circuits])


def test_completeness_and_minimality_carry_intervals_over_prompts():
    """Forbids a mean that is shown as if it were the same for every prompt."""
    pairs = Pairs(backed_up)
    least = minimality(pairs, MINE, n_random=0, by_role=False)
    assert set(least.without) == {"nothing"}
    finder = least.nodes.index((0, 0))
    assert least.change[finder] == 1.5
    assert 0 <= least.interval.low[finder] < 1.5 < least.interval.high[finder] <= 3
    mover = least.nodes.index((1, 0))
    assert least.interval.low[mover] == least.interval.high[mover] == 0
    found = completeness(Gates(backed_up), MINE, n_random=0)
    # The same noise in circuit and model falls out of their difference.
    assert np.allclose(found.difference.low, found.difference.value)
    assert np.allclose(found.difference.value, found.circuit - found.model)
