"""Fine-tuning and in-context edits, the baselines that every method is laid beside."""

from dataclasses import replace

import pytest
import torch

from lens_core.editing import (
    EditingError,
    EditRequest,
    FineTuneSettings,
    fine_tune,
    in_context,
    preset,
)
from lens_core.lens.identity import weights_sha256

EIFFEL = EditRequest("The Eiffel Tower is in", "The Eiffel Tower", "Rome", "Paris")
LOUVRE = EditRequest("The Louvre is in", "The Louvre", "New York", "Paris")


def first_token(model, prompt, interventions=()):
    return int(model.run(prompt, interventions)[0, -1].argmax())


@pytest.mark.parametrize("method", ["ft", "ft+l"])
def test_fine_tuning_goes_towards_the_new_answers(tiny_world, method):
    """Forbids: a gradient of another layer or token, a bound that is not kept, changed weights."""
    hashed = weights_sha256(tiny_world)
    settings = preset(tiny_world, method).settings
    edit = fine_tune(tiny_world, [EIFFEL, LOUVRE], settings)
    for request in (EIFFEL, LOUVRE) if method == "ft" else ():
        wanted = request.tokenize(tiny_world).target_ids[0]
        assert first_token(tiny_world, request.prompt, edit.interventions) == wanted
    delta = edit.terms[0].tensors["left"] @ edit.terms[0].tensors["right"]
    assert edit.method == method
    if settings.constrained:
        assert float(delta.abs().max()) <= settings.bound * (1 + 1e-6)
    first, last = (
        [s.nll for s in edit.trace.steps if s.step == n]
        for n in (0, max(s.step for s in edit.trace.steps))
    )
    assert all(a > b for a, b in zip(first, last, strict=True))
    assert weights_sha256(tiny_world) == hashed


def test_the_constraint_binds(tiny_world):
    """Forbids: FT+L that is FT under another name."""
    free = FineTuneSettings(layer=1, lr=1e-2, steps=5)
    loose = fine_tune(tiny_world, EIFFEL, free).terms[0].tensors["left"]
    tight = replace(free, constrained=True, bound=1e-3)
    bound = fine_tune(tiny_world, EIFFEL, tight).terms[0].tensors["left"]
    assert float(loose.abs().max()) > 1e-2
    assert float(bound.abs().max()) <= 1e-3 * (1 + 1e-6)


def test_a_model_without_a_tokenizer_is_refused_in_a_sentence(llama):
    """Forbids: an error from deep inside."""
    with pytest.raises(EditingError, match="fast tokenizer"):
        fine_tune(llama.hooked, EIFFEL, FineTuneSettings(layer=1))


def test_progress_and_cancel(tiny_world):
    """Forbids: a step count that runs past its end, and a cancel that leaves a trace."""
    seen = []
    settings = FineTuneSettings(layer=1, lr=1e-4, steps=3, enough_nats=0)
    edit = fine_tune(tiny_world, EIFFEL, settings, on_step=lambda i, n: seen.append((i, n)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert len(edit.trace.steps) == 4
    plain = tiny_world.run(EIFFEL.prompt)

    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(tiny_world, EIFFEL, settings, on_step=stop)
    assert torch.equal(tiny_world.run(EIFFEL.prompt), plain)


def test_in_context(tiny_world):
    """Forbids: a prefix that changes weights, runs into its prompt, or is longer than the room."""
    edit = in_context(tiny_world, [EIFFEL, LOUVRE])
    assert edit.prefix == "The Eiffel Tower is in Rome. The Louvre is in New York. "
    assert edit.terms == ()
    assert edit.layers == ()
    with pytest.raises(EditingError, match="give fewer facts"):
        in_context(tiny_world, [EIFFEL] * 40)
