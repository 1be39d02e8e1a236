"""tiny-world's indirect-object circuit does what its evidence says, on prompts of its own."""

import numpy as np
import pytest

from lens_core.circuits import Circuit, CircuitError, Knockouts, ioi_dataset, load_circuit
from lens_core.circuits.evidence import head_evidence

CIRCUIT = load_circuit("tiny-world-ioi")
SUPPRESSOR = "suppressor of the actor"
SEED = 5  # neither that of the search nor that of the stored scores


@pytest.fixture(scope="module")
def dataset(tiny_world):
    return ioi_dataset(tiny_world, 24, n_reference=24, seed=SEED)


def stored(circuit: str, measure: str, ablation: str = "mean", prompts: str = "IOI") -> dict:
    (row,) = (
        row
        for row in CIRCUIT.evidence["scores"]
        if (row["circuit"], row["measure"], row["ablation"], row["prompts"])
        == (circuit, measure, ablation, prompts)
    )
    return row


@pytest.mark.parametrize("measure", ["log odds", "logit difference"])
def test_the_circuit_is_as_faithful_as_stored(tiny_world, dataset, measure):
    """Forbids evidence of another model, and a circuit that holds on the searched prompts only."""
    knockouts = Knockouts(tiny_world, dataset, measure=measure)
    found = knockouts.logit_differences([CIRCUIT])[0].mean() / knockouts.model_differences.mean()
    assert found == pytest.approx(stored(CIRCUIT.name, measure)["ratio"][0], abs=0.1)
    assert found > 0.9


def test_the_suppressor_alone_has_the_difference_and_not_the_answer(tiny_world, dataset):
    """Forbids the claim that one head is the circuit, which the logit difference alone supports."""
    lone = Circuit.of("lone", CIRCUIT.roles[SUPPRESSOR])
    assert lone.nodes == ((6, 2),)
    difference = Knockouts(tiny_world, dataset)
    ratio = difference.logit_differences([lone]).mean() / difference.model_differences.mean()
    assert ratio > 1
    odds = Knockouts(tiny_world, dataset, measure="log odds")
    none, alone = odds.logit_differences([Circuit.of("none", ()), lone]).mean(axis=1)
    assert alone < none < 0
    without = odds.logit_differences([odds.whole.without(lone.nodes)]).mean()
    assert abs(without) < 3 < odds.model_differences.mean()


def test_the_roles_are_what_the_heads_look_at_and_write(tiny_world, dataset):
    """Forbids a role that is a name only."""
    evidence = head_evidence(tiny_world, dataset, CIRCUIT.nodes)
    suggested = dict(zip(evidence.heads, evidence.suggested_roles(), strict=True))
    certain = [node for node in CIRCUIT.nodes if suggested[node] == CIRCUIT.role_of(node)]
    assert len(certain) >= len(CIRCUIT.nodes) - 2  # other prompts may move one across a threshold
    assert suggested[6, 2] == SUPPRESSOR
    found = evidence.to_frame().set_index("node")
    suppressor = found.loc["L6H2"]
    assert suppressor["looks_at_s2"] > 0.9
    assert suppressor["foil"] < -3 < 0 < suppressor["answer"]
    copiers = Circuit.of("copiers", CIRCUIT.roles["copier of both names"]).to_frame()["node"]
    for _, row in found.loc[copiers].iterrows():
        assert row["looks_at_io"] + row["looks_at_s1"] > 0.5
        assert min(row["answer"], row["foil"]) > 0.2
        assert abs(row["others"]) < 0.5
    names = [row["node"] for row in CIRCUIT.evidence["heads"]]
    assert set(names) == set(CIRCUIT.to_frame()["node"])


def test_random_circuits_of_its_size_do_not_do_it():
    """Forbids a circuit that is faithful because any eleven heads would be."""
    control = CIRCUIT.evidence["controls"]
    own = stored(CIRCUIT.name, "log odds")["F"][0]
    assert control["size"] == CIRCUIT.size
    for key in ("log_odds_best_and_mean", "with_the_suppressor_best_and_mean"):
        assert max(control[key]) < own / 2


def test_evidence_is_for_heads(tiny_world, dataset):
    """Forbids a silent answer about a part that has no attention."""
    for wrong in ([], [(3, None)], [(9, 0)]):
        with pytest.raises(CircuitError):
            head_evidence(tiny_world, dataset, wrong)
    assert np.isfinite(head_evidence(tiny_world, dataset.only("ABBA"), [(7, 7)]).answer).all()
