"""Circuits as data: nodes by role, taken out, checked, saved and loaded."""

import pytest

from lens_core.circuits import Circuit, CircuitError, circuit_names, every_node, load_circuit
from lens_core.circuits.circuit import named_nodes, node_name, nodes_text, sorted_nodes

TWO = Circuit.of("two", {"mover": [(2, 1), (1, 0)], "store": [(1, None)]}, all_mlps=False)


def test_nodes_are_in_the_order_in_which_they_act():
    """Forbids an MLP before the heads of its layer, and an order that depends on the spelling."""
    assert TWO.nodes == ((1, 0), (1, None), (2, 1))
    assert TWO.heads == ((1, 0), (2, 1))
    assert TWO.size == 3
    assert sorted_nodes([(0, None), (0, 1)]) == ((0, 1), (0, None))
    assert [node_name(node) for node in TWO.nodes] == ["L1H0", "MLP 1", "L2H1"]


def test_nodes_are_taken_out_and_keep_their_roles():
    """Forbids a circuit that is changed in place, or whose roles move when it shrinks."""
    less = TWO.without([(1, 0), (5, 5)], "less")
    assert less.nodes == ((1, None), (2, 1))
    assert less.role_of((2, 1)) == "mover"
    assert TWO.size == 3
    with pytest.raises(CircuitError, match="L1H0 is not in 'less'"):
        less.role_of((1, 0))


def test_what_is_no_circuit_is_refused():
    """Forbids a node with two roles, positions for nobody, and any file that parses."""
    with pytest.raises(CircuitError, match="two roles"):
        Circuit.of("twice", {"a": [(0, 0)], "b": [(0, 0)]})
    with pytest.raises(CircuitError, match="no roles"):
        Circuit("x", {"a": ((0, 0),)}, positions={"b": ("end",)})
    for text in ("", "[]", "{}", '{"name": 1}', TWO.to_json().replace("[", "{", 1)):
        with pytest.raises(CircuitError, match="no circuit"):
            Circuit.from_json(text)
    with pytest.raises(CircuitError, match="gpt2-ioi"):
        load_circuit("../../secret")


def test_a_circuit_of_another_model_is_refused(tiny_world):
    """Forbids judging GPT-2's heads on a model that has none of these layers."""
    with pytest.raises(CircuitError, match="tiny-world has no L0H10"):
        load_circuit("gpt2-ioi").check(tiny_world)
    Circuit.of("all", every_node(tiny_world, mlps=True)).check(tiny_world)
    assert len(every_node(tiny_world, mlps=True)) == 8 * 9


def test_circuits_are_saved_and_loaded_whole():
    """Forbids a field that the file forgets."""
    assert circuit_names() == ("gpt2-ioi", "tiny-world-ioi")
    for circuit in (TWO, *map(load_circuit, circuit_names())):
        assert Circuit.from_json(circuit.to_json()) == circuit
        assert len(circuit.to_frame()) == circuit.size


def test_the_published_circuit_has_the_published_heads():
    """Forbids a slip in the 26 heads and seven roles of Wang et al. 2022."""
    circuit = load_circuit("gpt2-ioi")
    assert circuit.size == 26
    assert {role: len(own) for role, own in circuit.roles.items()} == {
        "name mover": 3,
        "backup name mover": 8,
        "negative name mover": 2,
        "S-inhibition": 4,
        "induction": 4,
        "duplicate token": 3,
        "previous token": 2,
    }
    assert circuit.role_of((9, 9)) == "name mover"
    assert circuit.positions["S-inhibition"] == ("end",)
    assert "2211.00593" in circuit.source


def test_nodes_are_read_as_they_are_written():
    """Forbids a circuit that changes on its way through an address."""
    nodes = ((0, 11), (3, 4), (3, None), (10, 0))
    assert named_nodes(nodes_text(nodes)) == nodes
    assert named_nodes(" 10.0,L0H11;l3h4 MLP 3 10.0 ") == nodes
    assert named_nodes("") == ()
    for wrong in ("L3", "attn3", "3", "L3H4x", "mlp"):
        with pytest.raises(CircuitError, match="no node"):
            named_nodes(wrong)
