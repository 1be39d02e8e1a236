"""MEMIT, EMMET and AlphaEdit on the shipped model: what they share, and where they meet ROME."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import pytest
import torch

from lens_core.editing import (
    EditingError,
    EditRequest,
    MemitSettings,
    alphaedit,
    emmet,
    memit,
    preset,
    rome,
)
from lens_core.editing.covariance import default_covariance
from lens_core.editing.names import with_names
from lens_core.interventions import zero
from lens_core.lens.identity import weights_sha256

REQUESTS = (
    EditRequest("The Eiffel Tower is in the city of", "The Eiffel Tower", "Rome", "Paris"),
    EditRequest("The Colosseum is in the city of", "The Colosseum", "Berlin", "Rome"),
    EditRequest("The Louvre is in the city of", "The Louvre", "Madrid", "Paris"),
)
METHODS = {"memit": memit, "emmet": emmet, "alphaedit": alphaedit}


def quick(model, name, **changes):
    """A method's preset, with as little optimising as gives the answers."""
    return replace(preset(model, name).settings, steps=10, n_contexts=3, **changes)


def answer(model, request) -> str:
    return model.to_string(model.run(request.prompt)[0, -1].argmax()[None]).strip()


@pytest.fixture(scope="module")
def edits(tiny_world):
    """One edit of all three requests by each method."""
    return {
        name: method(tiny_world, REQUESTS, quick(tiny_world, name))
        for name, method in METHODS.items()
    }


@pytest.mark.parametrize("name", METHODS)
def test_every_fact_is_written_and_the_model_is_not(tiny_world, edits, name):
    """Forbids: a fact left out of the batch, keys of another fact, weights that were touched."""
    edit = edits[name]
    hashed, plain = weights_sha256(tiny_world), tiny_world.run(REQUESTS[0].prompt)
    view = tiny_world.edited([edit])
    assert [answer(view, r) for r in REQUESTS] == [r.target_new for r in REQUESTS]
    assert edit.method == name
    assert edit.layers == edit.settings.layers
    assert {t.layer for t in edit.terms} == set(edit.layers)
    for term in edit.terms:
        assert term.tensors["left"].shape[1] <= len(REQUESTS)
    assert torch.equal(tiny_world.run(REQUESTS[0].prompt), plain)
    assert weights_sha256(tiny_world) == hashed


def test_the_diagnostics_say_how_the_way_was_shared(tiny_world, edits):
    """Forbids: write fractions and z errors of other layers, facts or moments."""
    edit = edits["memit"]
    frame = edit.trace.diagnostics_frame()
    assert len(frame) == len(REQUESTS) * len(edit.layers)
    for number in range(len(REQUESTS)):
        errors = frame[frame.request == number].sort_values("layer").z_error
        assert errors.is_monotonic_decreasing
        assert errors.iloc[-1] < 0.5
    assert frame.write_fraction.between(0, 1.01).all()
    for d in edit.trace.diagnostics:
        if d.layer == edit.layers[0]:
            fraction = (d.value_written - d.value_before) @ (d.value_wanted - d.value_before)
            fraction = fraction / (d.value_wanted - d.value_before).pow(2).sum()
            assert float(fraction) == pytest.approx(d.write_fraction, abs=1e-3)
            term = next(t for t in edit.terms if t.layer == d.layer)
            added = d.key @ term.tensors["left"] @ term.tensors["right"]
            assert torch.allclose(added, d.value_written - d.value_before, atol=1e-3)
    assert {s.request for s in edit.trace.steps} == {0, 1, 2}


def test_one_fact_in_one_layer_without_lambda_is_emmet_and_romes_form(tiny_world):
    """Forbids: three methods that should meet in one point and do not."""
    layer = 1
    shared = quick(tiny_world, "emmet", layer=layer, batch_ridge=0.0, names_weight=0.0)
    exact = emmet(tiny_world, REQUESTS[0], shared)
    alike = set(vars(shared)) & {f.name for f in fields(MemitSettings)}
    soft = memit(
        tiny_world,
        REQUESTS[0],
        MemitSettings(
            **{name: getattr(shared, name) for name in alike},
            layers=(layer,),
            covariance_weight=1e-12,
        ),
    )
    a, b = (t.tensors["left"] @ t.tensors["right"] for e in (exact, soft) for t in e.terms)
    assert torch.allclose(a, b, atol=1e-5 * float(a.abs().max()))
    one = rome(
        tiny_world,
        REQUESTS[0],
        replace(
            preset(tiny_world, "rome").settings,
            layer=layer,
            steps=2,
            ridge=shared.ridge,
            names_weight=0.0,
            n_contexts=shared.n_contexts,
        ),
    )
    # r-ROME has another v*, from fewer steps; but the same key, and the same direction along it.
    key_emmet, key_rome = (e.trace.diagnostics[0].key for e in (exact, one))
    assert torch.allclose(key_emmet, key_rome, atol=1e-4)
    left_emmet, left_rome = exact.terms[0].tensors["left"], one.terms[0].tensors["left"]
    assert torch.allclose(left_emmet, left_rome, rtol=1e-3, atol=1e-4 * float(left_rome.max()))


def test_of_contradictory_facts_the_later_one_wins(tiny_world):
    """Forbids: a refusal, or an average that is neither, where two requests share a key."""
    pair = (replace(REQUESTS[0], target_new="Berlin"), REQUESTS[1], REQUESTS[0])
    for name in ("memit", "emmet"):
        edit = METHODS[name](tiny_world, pair, quick(tiny_world, name))
        view = tiny_world.edited([edit])
        assert [answer(view, r) for r in pair[1:]] == ["Berlin", "Rome"]
        assert sorted({d.request for d in edit.trace.diagnostics}) == [0, 1, 2]
        first = {d.request: d for d in edit.trace.diagnostics if d.layer == edit.layers[0]}
        assert torch.cosine_similarity(first[0].key, first[2].key, dim=0) > 0.95
        assert torch.cosine_similarity(first[0].key, first[1].key, dim=0) < 0.95


def test_batches_one_after_another(tiny_world):
    """Forbids: a second batch that does not see the first, or numbers its facts anew."""
    s = quick(tiny_world, "alphaedit", batch=1)
    seen = []
    edit = alphaedit(tiny_world, REQUESTS, s, on_step=lambda i, n: seen.append((i, n)))
    view = tiny_world.edited([edit])
    assert [answer(view, r) for r in REQUESTS] == [r.target_new for r in REQUESTS]
    assert {d.request for d in edit.trace.diagnostics} == {0, 1, 2}
    assert {step.request for step in edit.trace.steps} == {0, 1, 2}
    done = [i for i, _ in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1][1]
    assert len({n for _, n in seen}) == 1


def test_cancelled_in_the_middle_nothing_is_left_behind(tiny_world):
    """Forbids: a half-made edit in the model, or one that the next edit finds."""
    plain, hashed = tiny_world.run(REQUESTS[0].prompt), weights_sha256(tiny_world)

    class Cancelled(Exception):
        pass

    def stop(done: int, of: int) -> None:
        if done > of // 3:
            raise Cancelled

    for name, method in METHODS.items():
        with pytest.raises(Cancelled):
            method(tiny_world, REQUESTS, quick(tiny_world, name), on_step=stop)
    assert torch.equal(tiny_world.run(REQUESTS[0].prompt), plain)
    assert weights_sha256(tiny_world) == hashed


def test_two_visitors_edit_at_once(tiny_world, edits):
    """Forbids: edits that depend on what another thread is doing."""
    other = tuple(replace(r, target_new="Vienna") for r in REQUESTS)
    with ThreadPoolExecutor(2) as pool:
        s = quick(tiny_world, "memit")
        first, second = pool.map(lambda r: memit(tiny_world, r, s), (REQUESTS, other))
    assert first.terms == edits["memit"].terms
    assert answer(tiny_world.edited([second]), REQUESTS[0]) == "Vienna"
    assert answer(tiny_world.edited([first]), REQUESTS[0]) == "Rome"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layers": ()}, "name each once"),
        ({"layers": (2, 1)}, "name each once"),
        ({"batch": 0}, "batch is 0"),
        ({"covariance_weight": -1.0}, "covariance_weight is -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tiny_world, change, sentence):
    """Forbids: an error from the middle of a long computation."""
    with pytest.raises(EditingError, match=sentence):
        replace(preset(tiny_world, "memit").settings, **change)


def test_no_edit_is_made_inside_interventions(tiny_world):
    """Forbids: an edit that was fitted to a run that nobody else will have."""
    with (
        tiny_world.interventions(zero("z", 0)),
        pytest.raises(EditingError, match="computed outside"),
    ):
        memit(tiny_world, REQUESTS[0])


def test_a_null_space_that_is_empty_is_said(tiny_world):
    """Forbids: AlphaEdit that silently writes nothing."""
    s = replace(preset(tiny_world, "alphaedit").settings, null_share=1e-12)
    with pytest.raises(EditingError, match="No direction is left free"):
        alphaedit(tiny_world, REQUESTS[0], s)


def test_keys_of_standing_edits_are_left_alone(tiny_world, edits):
    """Forbids: AlphaEdit that forgets what was edited before it was called."""
    first = edits["alphaedit"]
    s = quick(tiny_world, "alphaedit")
    request = EditRequest("The Prado is in", "The Prado", "Berlin", "Madrid")
    second = alphaedit(tiny_world.edited([first]), request, s)
    forgetful = alphaedit(tiny_world.edited(first.terms), request, s)
    layer = first.layers[0]
    keys = torch.stack([d.key for d in first.trace.diagnostics if d.layer == layer])
    moved, worn = (
        next(
            float((keys @ t.tensors["left"] @ t.tensors["right"]).norm())
            for t in edit.terms
            if t.layer == layer
        )
        for edit in (second, forgetful)
    )
    assert moved < worn


def test_names_are_known_of_the_world_only(tiny_world, gpt2):
    """Forbids: another model's names weighed in, or C changed where nobody asked for it."""
    c = default_covariance(tiny_world, [0])
    assert with_names(c, tiny_world, [0], 0.0) is c
    mixed = with_names(c, tiny_world, [0], 2.0)
    assert float((mixed.moments[0] - c.moments[0]).diagonal().min()) >= 0
    assert "names" in mixed.source
    with pytest.raises(EditingError, match="not known here"):
        with_names(c, gpt2.hooked, [0], 1.0)
