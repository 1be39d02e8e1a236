"""Curves over the number of edits, and editing laid over tracing."""

import math

import numpy as np
import pytest
import torch

from lens_core.editing import EditingError
from lens_core.editing.evaluate import (
    Applied,
    Locating,
    Method,
    Scaling,
    ScalingPoint,
    Sizes,
    UnrelatedText,
    locating,
    records,
    scaling,
)
from lens_core.interventions import low_rank

FEW = Sizes(2, 1, 2, 1, 1, 1, 1, 1)


def _noise(model, requests, size=0.02):
    terms = []
    for r in requests:
        g = torch.Generator().manual_seed(sum(map(ord, r.prompt)))
        left = size * torch.randn(1024, 1, generator=g)
        terms.append(low_rank("mlp_out", 2, left, torch.randn(1, 256, generator=g)))
    return Applied(tuple(terms), "")


def _harmless(model, requests):
    return _noise(model, requests, 1e-6)


@pytest.fixture(scope="module")
def text(tiny_world):
    """A little ordinary text."""
    return UnrelatedText.of(tiny_world, n_rows=4)


def test_edits_one_after_another_see_the_earlier_ones(tiny_world, text):
    """Forbids a sequence whose later edits are made on the unedited model, and counts anew."""
    asked = records(tiny_world, 5, seed=8, sizes=FEW)
    seen = []

    def make(model, requests):
        seen.append((len(requests), model is tiny_world))
        return _harmless(model, requests)

    curves = scaling(
        tiny_world,
        [(Method("one", "One", make), False), (Method("all", "All", make), True)],
        asked[:3],
        [1, 3],
        untouched=asked[3:],
        unrelated=text,
    )
    assert seen == [(1, True), (2, False), (1, True), (3, True)]
    first, last = curves.of("one")
    assert (first.n, last.n) == (1, 3)
    assert math.isnan(first.earlier)
    assert last.earlier == 0.0
    assert last.load == pytest.approx(3 / 1024)
    assert last.untouched == 1.0
    assert last.low["untouched"] <= last.untouched <= last.high["untouched"]
    assert math.isnan(curves.of("all")[1].earlier)
    assert curves.collapse("one") is None
    assert len(curves.to_frame()) == 4


def test_curves_go_on_where_they_were_stopped(tiny_world, text, tmp_path):
    """Forbids an hour of edits that is lost with the last of them."""
    asked = records(tiny_world, 2, seed=8, sizes=FEW)
    methods = [(Method("x", "X", _harmless), True), (Method("y", "Y", _harmless), True)]

    class StopError(Exception):
        """Cancelled."""

    def stop(done, total):
        assert total == 4
        if done == 3:
            raise StopError

    path = tmp_path / "s.jsonl"
    arguments = (tiny_world, methods, asked, [1, 2])
    with pytest.raises(StopError):
        scaling(*arguments, unrelated=text, checkpoint=path, on_step=stop)
    found = scaling(*arguments, unrelated=text, checkpoint=path)
    assert [(p.method, p.n) for p in found.points] == [("x", 1), ("x", 2), ("y", 1), ("y", 2)]
    with pytest.raises(EditingError, match="1 to 2"):
        scaling(tiny_world, methods, asked, [3])


def _point(n, perplexity, untouched):
    share = dict.fromkeys(("latest", "latest_exact", "earlier", "earlier_exact"), 1.0)
    rest = dict.fromkeys(("paraphrase", "neighbourhood", "s", "kl_nats", "change", "seconds"), 1.0)
    return ScalingPoint(
        method="m",
        n=n,
        load=n / 10,
        untouched=untouched,
        perplexity_ratio=perplexity,
        low={},
        high={},
        **share,
        **rest,
    )


def test_collapse_is_the_first_point_at_which_the_model_is_broken():
    """Forbids a collapse point that the eye chose."""

    def collapse(*points):
        return Scaling("m", points, {}).collapse("m")

    assert collapse(_point(1, 1.0, 1.0), _point(10, 1.9, 0.6)) is None
    assert collapse(_point(10, 1.0, 0.5), _point(1, 1.0, 1.0)) == 10
    assert collapse(_point(1, 1.1, 1.0), _point(3, 2.0, 1.0), _point(9, 9.0, 0.1)) == 3
    assert collapse(_point(1, math.nan, 1.0)) == 1


def test_a_method_that_fails_leaves_its_curve_and_its_reason(tiny_world, text):
    """Forbids one method that ends the others' curves."""

    def make(model, requests):
        if len(requests) > 1:
            raise EditingError("Too many.")
        return _harmless(model, requests)

    asked = records(tiny_world, 2, seed=8, sizes=FEW)
    methods = [(Method("bad", "Bad", make), True), (Method("good", "Good", _harmless), True)]
    found = scaling(tiny_world, methods, asked, [1, 2], unrelated=text)
    assert [len(found.of(m)) for m in ("bad", "good")] == [1, 2]
    assert found.failed == {"bad": "Too many."}


def test_locating_lays_both_sweeps_over_each_other(tiny_world, tmp_path):
    """Forbids tracing read at another token or layer than the edit's."""
    asked = [r for r in records(tiny_world, 6, seed=4, sizes=FEW) if r.questions.get("neighbour")][
        :2
    ]
    layers_seen = []

    def make(model, request, layer):
        layers_seen.append(layer)
        return Applied((low_rank("mlp_out", layer, torch.zeros(1024, 1), torch.zeros(1, 256)),))

    path = tmp_path / "l.jsonl"
    found = locating(tiny_world, make, asked, layers=[0, 5], kind="state", checkpoint=path)
    assert layers_seen == [0, 5] * 2
    assert found.tracing.shape == (2, 2)
    assert (found.tracing[:, 0] > 0.2).all()
    assert np.allclose(found.success["rewrite"], 0, atol=1e-5)
    assert (found.success["neighbourhood"] >= 0).all()
    again = locating(tiny_world, make, asked, layers=[0, 5], kind="state", checkpoint=path)
    assert len(layers_seen) == 4
    assert np.array_equal(again.tracing, found.tracing)
    assert len(found.to_frame()) == 4


def test_the_correlation_is_over_facts_and_r2_tells_layer_from_tracing():
    """Forbids a correlation of layer means, which hides that facts do not choose their layers."""
    rng = np.random.default_rng(0)
    layer = np.array([0.1, 0.5, 0.9])
    tracing = rng.normal(size=(200, 3))
    found = Locating(
        "m",
        "x",
        "mlp",
        1,
        tuple(map(str, range(200))),
        (0, 1, 2),
        tracing,
        {"rewrite": layer + 0.01 * rng.normal(size=(200, 3)), "same": 2 * tracing + layer},
    )
    r2 = found.explained()
    assert r2["layer"] > 0.99
    assert abs(r2["tracing"]) < 0.05
    assert found.correlation(1).low < 0 < found.correlation(1).high
    assert found.correlation(2, "same").value == pytest.approx(1.0)
    assert found.explained("same")["both"] == pytest.approx(1.0)
    assert [e.value for e in found.mean_success()] == pytest.approx(layer, abs=0.01)
    constant = Locating(
        "m", "x", "mlp", 1, ("a", "b"), (0,), np.ones((2, 1)), {"rewrite": np.ones((2, 1))}
    )
    assert math.isnan(constant.correlation(0).value)
