"""The graph of wires: what is drawn is what was found."""

import json

import numpy as np
import pytest

from lens_core.patching import PathResult
from lens_core.plots import wire_graph, wire_label


@pytest.fixture
def found():
    """Three senders into a head's inputs; one wire against the answer, one too thin."""
    values = np.array([[[0.8], [0.0], [0.1]], [[0.0], [-0.4], [0.0]], [[0.001], [np.nan], [0.0]]])
    return PathResult(
        ("embed", "0.2", "mlp 0"), ("1.1.q", "1.1.k", "1.1.v"), "denoise", True, "m", "",
        values, np.array([1.0]), np.array([0.0]),
    )  # fmt: skip


def lines(figure):
    return [t for t in figure.data if t.mode == "lines" and t.name is None]


def test_wires_are_as_wide_as_their_effect(found):
    """Forbids a thick wire that carries little, and one drawn for nothing."""
    drawn = lines(wire_graph(found, n_layers=2, n_heads=4))
    assert len(drawn) == 3  # not the one of 0.001
    thin, middle, thick = drawn  # the strongest is drawn last, on top
    assert thick.line.width == pytest.approx(2 * middle.line.width)
    assert (thick.line.dash, middle.line.dash) == ("solid", "dash")
    assert thick.line.color != middle.line.color
    assert thin.line.width < middle.line.width
    assert (thick.x[0], thick.y[0], thick.y[-1]) == (2.0, -1.0, pytest.approx(0.7))


def test_the_chosen_wire_is_drawn_whatever_it_carries(found):
    """Forbids a click after which nothing is to be seen."""
    drawn = lines(wire_graph(found, n_layers=2, n_heads=4, chosen=("mlp 0", "1.1.q"), dark=True))
    assert len(drawn) == 4
    none = lines(wire_graph(found, n_layers=2, n_heads=4, chosen=("mlp 0", "1.1.k")))
    assert len(none) == 3  # a wire that is not there


def test_labels_are_text():
    """Forbids a title that becomes markup."""
    assert [wire_label(n) for n in ("11.2", "11.2.v", "mlp 11")] == [
        "L11H2",
        "V of L11H2",
        "MLP 11",
    ]
    values = np.array([[[1.0]]])
    found = PathResult(
        ("0.0",), ("logits",), "noise", True, "m", "", values, np.array([2.0]), np.array([0.0])
    )
    figure = wire_graph(found, n_layers=1, n_heads=1, title="<b>x</b>")
    assert "<b>" not in figure.layout.title.text
    json.loads(figure.to_json())
