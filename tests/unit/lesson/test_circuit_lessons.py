"""Lesson 11: its settings are the lab's, its measures tell what `lens_core.circuits` finds."""

from pathlib import Path

import pytest

from app.circuit_lab.prepared import N_REFERENCE as LAB_REFERENCE
from app.circuit_lab.prepared import Key, knockouts_of
from app.circuit_lab.settings import Settings
from app.lesson import load_lesson
from app.lesson.measures import measures
from lens_core.circuits import CircuitError, load_circuit, nodes_text

START = load_lesson("circuits").settings
FEW = {"n_prompts": 8}
CONTENT = Path(__file__).resolve().parents[3] / "content"


@pytest.fixture
def ask(tiny_world, registered):
    """``ask("share_kept", circuit="L6H2")`` on the shipped model, as the lesson starts, with few
    prompts."""
    assert registered

    def run(measure, settings=None, **given):
        return measures()[measure].fn(tiny_world, {**START, **FEW, **(settings or {})}, **given)

    return run


def test_the_lesson_asks_the_lab_only_for_what_it_has():
    """Forbids a lesson whose button sets a control that the lab does not have, or to no option."""
    lesson = load_lesson("circuits")
    for block in lesson.blocks():
        Settings.of({**lesson.settings, **(getattr(block, "settings", None) or {})})


def test_the_lesson_speaks_of_the_circuit_that_is_shipped():
    """Forbids a text that names eleven heads, or eight copiers, which are no longer those."""
    text = (CONTENT / "lessons/circuits.md").read_text(encoding="utf-8")
    circuit = load_circuit("tiny-world-ioi")
    assert nodes_text(circuit.nodes) in text
    copiers = nodes_text(circuit.roles["copier of both names"])
    assert copiers.replace(" ", ", ")[:-6] in text
    assert len(circuit.roles["copier of both names"]) == 8


def test_measures_are_those_of_the_lab_s_prompts(tiny_world, ask):
    """Forbids a lesson that grades other prompts or stand-ins than the lab shows."""
    assert LAB_REFERENCE == 32
    mine = knockouts_of(tiny_world, Key.of(Settings(**FEW, metric="log odds")))
    assert ask("whole_value", metric="log odds") == pytest.approx(mine.model_differences.mean())
    assert ask("share_kept", circuit="whole", metric="log odds") == pytest.approx(1)
    assert ask("circuit_size", circuit="L6H2 6.4") == 2
    kept = ask("loss_without", heads="L6H2", circuit="whole")
    assert kept == pytest.approx(1 - ask("kept_without", circuit="L6H2"), abs=1e-4)


def test_evidence_is_the_head_s_own(ask):
    """Forbids figures of a neighbour."""
    assert ask("head_looks", head="L6H2", at="s2") > 0.9
    assert ask("head_writes", head="L6H2", name="foil") < -3
    assert ask("head_writes", head="L6H2", name="apart") < -3
    assert ask("head_writes", head="L6H4", name="both") > 1


def test_what_is_no_head_is_said_politely(ask):
    """Forbids a traceback for a word that names nothing in this model."""
    for wrong in ("L9H0", "L6H2 L6H4", "MLP3"):
        with pytest.raises(CircuitError, match="choose another model"):
            ask("head_looks", head=wrong)
    with pytest.raises(CircuitError, match="no node"):
        ask("share_kept", circuit="everything")
