"""ROME: what its update must be by algebra, on every variant, and what it does to a model."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lens_core import HookedModel
from lens_core.editing import (
    Contexts,
    Edit,
    EditingError,
    EditRequest,
    EditTrace,
    KeyCovariance,
    RomeSettings,
    key_covariance,
    predicted_bleed,
    preset,
    rome,
)
from lens_core.editing.keys import keys_by_spelling, project, subject_states
from lens_core.editing.value import optimise_values
from lens_core.glass.facts import FACTS, PEOPLE, STRANGERS, facts_model

SHORT = RomeSettings(
    layer=1, steps=6, lr=0.3, kl_factor=0.5, n_contexts=4, clamp=6.0, weight_decay=0.01
)
VARIANTS = ("r-rome", "original", "p-rome")


@pytest.fixture(scope="module")
def covariance(tiny_world: HookedModel) -> KeyCovariance:
    return key_covariance(tiny_world, layers=[0, 1], n_tokens=10_240)


def _delta(edit: Edit) -> Tensor:
    (term,) = edit.terms
    return term.tensors["left"].double() @ term.tensors["right"].double()


def _keys(model: HookedModel, request: EditRequest) -> tuple[Tensor, Tensor]:
    """Mean and bare key of a request."""
    states = subject_states(
        model, [request.tokenize(model)], [("mlp_post", 1)], n_contexts=SHORT.n_contexts
    )
    return states.mean("mlp_post", 1)[0], states.bare("mlp_post", 1)[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_new_weight_gives_the_wanted_value_for_its_key(
    tiny_world: HookedModel, eiffel: EditRequest, covariance: KeyCovariance, variant: str
) -> None:
    """Forbids a wrong scale or sign: W_hat k* = v*, with rank one, for the key of the variant."""
    edit = rome(tiny_world, eiffel, replace(SHORT, variant=variant), covariance)
    delta = _delta(edit)
    assert delta.shape == tuple(tiny_world.W_out[1].shape)
    assert torch.linalg.matrix_rank(delta) == 1
    mean, bare = _keys(tiny_world, eiffel)
    (found,) = edit.trace.diagnostics
    key = mean if variant == "r-rome" else bare
    written = project(tiny_world, 1, key[None])[0].double() + key.double() @ delta
    assert (written - found.value_wanted).norm() <= 1e-5 * found.value_wanted.norm()
    torch.testing.assert_close(found.value_written.double(), written, rtol=1e-5, atol=1e-5)
    assert found.write_fraction == pytest.approx(1.0, abs=1e-5)
    assert found.delta_norm == pytest.approx(float(delta.norm()), rel=1e-5)


def test_original_mixes_its_keys(
    tiny_world: HookedModel, eiffel: EditRequest, covariance: KeyCovariance
) -> None:
    """Forbids three names for one method: the direction is the mean key's, the size the bare's."""
    edits = {v: rome(tiny_world, eiffel, replace(SHORT, variant=v), covariance) for v in VARIANTS}
    left = {v: e.terms[0].tensors["left"][:, 0] for v, e in edits.items()}
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(left["original"], left["r-rome"], dim=0) > 0.99999
    assert cosine(left["p-rome"], left["r-rome"], dim=0) < 0.9999
    sizes = {e.trace.diagnostics[0].denominator for e in edits.values()}
    assert len(sizes) == 3


def test_the_update_is_the_least_squares_solution(
    tiny_world: HookedModel, eiffel: EditRequest, covariance: KeyCovariance
) -> None:
    """Forbids a wrong C^-1: against the dense solution of the constrained problem (KKT)."""
    edit = rome(tiny_world, eiffel, SHORT, covariance)
    (found,) = edit.trace.diagnostics
    d = len(found.key)
    c = covariance.moments[1]
    c = c + SHORT.ridge * c.diagonal().mean() * torch.eye(d, dtype=c.dtype)
    # min tr(X^T C X) such that k^T X = missing: stationary where C X = k m^T.
    system = torch.zeros(d + 1, d + 1, dtype=torch.float64)
    system[:d, :d], system[:d, d], system[d, :d] = c, found.key.double(), found.key.double()
    right = torch.zeros(d + 1, len(found.value_wanted), dtype=torch.float64)
    right[d] = (found.value_wanted - found.value_before).double()
    dense = torch.linalg.solve(system, right)[:d]
    delta = _delta(edit)
    assert (delta - dense).norm() <= 1e-4 * dense.norm()


def test_a_key_that_is_orthogonal_under_c_gets_nothing(
    tiny_world: HookedModel, eiffel: EditRequest, covariance: KeyCovariance
) -> None:
    """Forbids moving keys that the statistics say are unrelated."""
    edit = rome(tiny_world, eiffel, SHORT, covariance)
    key = edit.trace.diagnostics[0].key.double()
    towards = covariance.solve(1, key[None], ridge=SHORT.ridge)[0]
    other = torch.randn(len(key), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    other = other - (other @ towards) / (towards @ key) * key
    assert (other @ _delta(edit)).norm() <= 1e-5 * (key @ _delta(edit)).norm()


def test_an_intervention_is_a_change_of_the_weight(
    tiny_world: HookedModel, eiffel: EditRequest, covariance: KeyCovariance
) -> None:
    """Forbids an edit whose run differs from that of the edited checkpoint."""
    edit = rome(tiny_world, eiffel, SHORT, covariance)
    by_run = tiny_world.run(eiffel.prompt, edit.interventions)
    own = HookedModel.from_pretrained("tiny-world", check=False)
    with torch.no_grad():
        own.W_out[1].add_(_delta(edit).float())
    torch.testing.assert_close(own.run(eiffel.prompt), by_run, rtol=1e-4, atol=1e-4)
    assert not torch.equal(by_run, tiny_world.run(eiffel.prompt))


def test_the_model_says_the_new_answer_of_many_tokens(
    tiny_world: HookedModel, eiffel: EditRequest, covariance: KeyCovariance
) -> None:
    """Forbids training only the first token of an answer."""
    request = replace(eiffel, target_new="New York")
    assert len(request.tokenize(tiny_world).target_ids) == 2
    edit = rome(tiny_world, request, covariance=covariance)
    said = tiny_world.edited([edit]).generate(request.prompt, max_new_tokens=3)
    assert tiny_world.to_string(said[0]).endswith("New York.")


def test_the_same_seed_gives_the_same_edit(
    tiny_world: HookedModel, eiffel: EditRequest, covariance: KeyCovariance
) -> None:
    """Forbids an edit that cannot be made again."""
    first, again = (rome(tiny_world, eiffel, SHORT, covariance) for _ in range(2))
    assert first.terms == again.terms
    other = rome(tiny_world, eiffel, replace(SHORT, seed=1), covariance)
    assert first.terms != other.terms


def test_later_requests_see_the_earlier_edits(
    tiny_world: HookedModel, eiffel: EditRequest, covariance: KeyCovariance
) -> None:
    """Forbids a sequence of edits each made for the unedited model."""
    second = replace(eiffel, target_new="Berlin")
    alone = rome(tiny_world, second, SHORT, covariance)
    both = rome(tiny_world, [eiffel, second], SHORT, covariance)
    first = rome(tiny_world, eiffel, SHORT, covariance)
    assert both.terms[0] == first.terms[0]
    assert both.terms[1] != alone.terms[0]
    on_top = rome(tiny_world.edited([first]), second, SHORT, covariance)
    assert torch.equal(both.terms[1].tensors["right"], on_top.terms[0].tensors["right"])
    assert [d.request for d in both.trace.diagnostics] == [0, 1]
    assert set(both.to_frame()["target_new"]) == {"Rome", "Berlin"}
    assert both.fingerprint == on_top.fingerprint


def test_many_facts_at_once_are_what_each_is_alone(
    tiny_world: HookedModel, eiffel: EditRequest
) -> None:
    """Forbids facts of one batch that feel each other: MEMIT searches for all of them at once."""
    other = EditRequest("Rome is in the country of", "Rome", "France", "Italy")
    requests = [r.tokenize(tiny_world) for r in (eiffel, other)]
    together = optimise_values(tiny_world, requests, SHORT, 1, at="resid_post")
    for i, request in enumerate(requests):
        alone = optimise_values(tiny_world, [request], SHORT, 1, at="resid_post")
        torch.testing.assert_close(together.delta[i], alone.delta[0], rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(together.start[i], alone.start[0], rtol=1e-4, atol=1e-4)
    apart = optimise_values(tiny_world, requests, SHORT, 1, at="resid_post", memory_gb=1e-9)
    torch.testing.assert_close(together.delta, apart.delta, rtol=1e-2, atol=1e-3)


def test_resuming_is_the_whole_run(tiny_world: HookedModel, eiffel: EditRequest) -> None:
    """Forbids a short cut that optimises another model: the loss is that of full runs."""
    settings = replace(SHORT, steps=1, n_contexts=1)
    (step,) = optimise_values(tiny_world, [eiffel.tokenize(tiny_world)], settings, 1).steps
    logits = tiny_world.run(eiffel.prompt)[0, -1]
    rome_id = tiny_world.to_single_token(" Rome")
    assert step.nll == pytest.approx(-float(logits.log_softmax(-1)[rome_id]), abs=1e-4)
    assert step.kl == pytest.approx(0.0, abs=1e-5)


def test_the_change_stays_inside_its_clamp(tiny_world: HookedModel, eiffel: EditRequest) -> None:
    """Forbids a v* of any size."""
    settings = replace(SHORT, clamp=0.5, steps=8)
    found = optimise_values(tiny_world, [eiffel.tokenize(tiny_world)], settings, 1)
    assert found.delta.norm() <= 0.5 * found.start.norm() * (1 + 1e-5)


def test_a_change_reaches_as_far_as_asked_and_no_farther(
    tiny_world: HookedModel, eiffel: EditRequest
) -> None:
    """Forbids a reach or a settling that does nothing: a larger change, and the least that does."""
    settings = replace(SHORT, steps=30, enough_nats=0.5, kl_factor=0.0, layer=0)
    request = [eiffel.tokenize(tiny_world)]
    lengths = [
        float(optimise_values(tiny_world, request, replace(settings, **how), 0).delta.norm())
        for how in ({"settle": 4}, {}, {"reach": 0.5, "settle": 4})
    ]
    assert lengths[0] < lengths[1] < lengths[2]
    assert lengths[2] == pytest.approx(2 * lengths[0], rel=0.3)


def test_a_search_ends_only_when_the_bare_prompt_says_the_answer(tiny_world: HookedModel) -> None:
    """Forbids a mean over contexts that is small although the edited prompt says something else."""
    prompt = "You can walk to Burj Khalifa every day in the city of"
    request = EditRequest(prompt, "Burj Khalifa", "San Francisco", "Dubai")
    settings = replace(SHORT, steps=60, reach=0.45, enough_nats=0.5, kl_factor=0.0, layer=0)
    found = optimise_values(tiny_world, [request.tokenize(tiny_world)], settings, 0)
    assert found.steps[-1].step < settings.steps - 1
    assert found.steps[-1].p_new > 0.5


def test_every_spelling_of_the_subject_gets_the_whole_edit(
    tiny_world: HookedModel, covariance: KeyCovariance
) -> None:
    """Forbids an edit of " Naples" that "Naples", other tokens at a beginning, hardly feels."""
    request = EditRequest("Naples is a city in the country of", "Naples", "Norway", "Italy")
    settings = replace(SHORT, layer=0, names_weight=1.0)
    contexts = Contexts.of_world(settings.n_contexts)
    located = request.tokenize(tiny_world)
    keys = keys_by_spelling(tiny_world, located, 0, settings.n_contexts, contexts)
    assert len(keys) == 2
    shares = {}
    for every in (False, True):
        how = replace(settings, every_spelling=every)
        edit = rome(tiny_world, request, how, covariance, contexts=contexts)
        shares[every] = keys.float() @ edit.terms[0].tensors["left"][:, 0]
    assert float((shares[True] - 1).abs().max()) < 0.02
    assert float((shares[False] - 1).abs().max()) > 0.1


def test_keys_are_averaged_over_contexts_that_are_not_trained(
    tiny_world: HookedModel, eiffel: EditRequest
) -> None:
    """Forbids a mean key over the trained contexts alone."""
    few = replace(SHORT, n_contexts=6, n_trained=2, steps=2)
    found = optimise_values(tiny_world, [eiffel.tokenize(tiny_world)], few, 1)
    all_of_them = subject_states(
        tiny_world, [eiffel.tokenize(tiny_world)], [("mlp_post", 1)], n_contexts=6
    )
    torch.testing.assert_close(
        found.mean_key, all_of_them.mean("mlp_post", 1), rtol=1e-4, atol=1e-4
    )


def test_cancelling_ends_the_edit_and_leaves_the_model(
    tiny_world: HookedModel, eiffel: EditRequest, covariance: KeyCovariance
) -> None:
    """Forbids a cancelled edit that runs on, or that has changed something."""

    class Cancelled(Exception):
        pass

    before = tiny_world.run(eiffel.prompt)
    seen: list[tuple[int, int]] = []
    traces: list[EditTrace] = []

    def on_step(done: int, n: int) -> None:
        seen.append((done, n))
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        rome(tiny_world, eiffel, SHORT, covariance, on_step=on_step, on_trace=traces.append)
    assert seen == [(1, 6), (2, 6), (3, 6)]
    assert [len(t.steps) for t in traces] == [1, 2, 3]
    assert torch.equal(before, tiny_world.run(eiffel.prompt))


def test_bleed_is_what_the_mlp_really_gets(
    tiny_world: HookedModel, eiffel: EditRequest, covariance: KeyCovariance
) -> None:
    """Forbids a prediction that is not exact at the edited layer."""
    edit = rome(tiny_world, eiffel, SHORT, covariance)
    prompt = "The Louvre is in the city of"
    bleed = predicted_bleed(tiny_world, edit, [prompt, eiffel.prompt])
    runs = [
        tiny_world.run_with_cache(prompt, [("mlp_out", 1)], edits)[1]["mlp_out", 1][0]
        for edits in ((), edit.interventions)
    ]
    (found,) = edit.trace.diagnostics
    wanted = (runs[1] - runs[0]) @ edit.terms[0].tensors["right"][0]
    length = edit.terms[0].tensors["right"].norm()
    torch.testing.assert_close(bleed.shares[0][0] * length**2, wanted, rtol=1e-2, atol=1e-3)
    assert float(bleed.strongest()[1]) == pytest.approx(1.0, abs=0.3)
    assert set(bleed.to_frame().columns) >= {"prompt", "position", "share"}
    assert found.layer == bleed.layers[0]


def test_on_the_glass_model_only_the_fact_s_own_neurons_change() -> None:
    """Forbids an edit that lands beside the fact, where the fact's place is known by design.

    A person's city and instrument sit in two neurons that fire together, and a third neuron fires
    for the surname, which others bear too: only the person's own two may change.
    """
    model = facts_model()
    request = EditRequest("ada wood lives in", "ada wood", "oslo", "rome")
    # Strangers too: where only known people speak, a surname says no more than its three people.
    people = [f"{first} {last}" for first, last, _, _ in PEOPLE] + list(STRANGERS)
    everybody = [f"{person} lives in" for person in people] * 16
    covariance = key_covariance(model, everybody, layers=[1], cache=False)
    settings = RomeSettings(
        layer=1,
        steps=60,
        lr=0.3,
        kl_factor=1.0,
        kl_prompts=("{} plays the",),
        n_contexts=1,
        clamp=10.0,
        weight_decay=0.0,
        ridge=1e-8,
    )
    edit = rome(model, request, settings, covariance)
    rows = _delta(edit).norm(dim=-1)
    own = [i for i, fact in enumerate(FACTS) if fact.subject == "ada wood"]
    others = [i for i in range(len(rows)) if i not in own]
    assert rows[others].max() < 1e-3 * rows[own].min()
    view = model.edited([edit])
    for fact in FACTS:
        said = view.to_string(view.run(fact.prompt)[0, -1].argmax()).strip()
        assert said == ("oslo" if fact.prompt == request.prompt else fact.answer)


@pytest.mark.parametrize(
    "name",
    [
        "gpt2",
        "gpt2-upcast",
        "llama",
        "gpt_neox",
        "gptj",
        "bloom",
        "falcon",
        "phi",
        "gemma",
        "granite",
        "cohere2",
        "mpt",
        "qwen3",
        "mistral",
        "opt",
    ],
)
def test_families_are_edited(with_words: Callable[[str], HookedModel], name: str) -> None:
    """Forbids an edit that works for GPT-2's blocks only: gated, rotary, parallel, multiplied."""
    model = with_words(name)
    request = EditRequest("w1 w2 w3 w4 w5", "w2 w3", "w9 w8")
    settings = RomeSettings(layer=1, steps=25, lr=0.3, n_contexts=1, clamp=50.0, weight_decay=0.0)
    covariance = key_covariance(model, layers=[1], n_tokens=2000, cache=False)
    edit = rome(model, request, settings, covariance)
    first, last = edit.trace.steps[0], edit.trace.last_step(0)
    assert last is not None
    assert last.nll < first.nll - 0.005
    (found,) = edit.trace.diagnostics
    tokens = request.tokenize(model)
    _, cache = model.run_with_cache(
        tokens.tokens, [("mlp_out", 1)], interventions=edit.interventions
    )
    factor = model.spec.layers[1].mlp_scale
    torch.testing.assert_close(
        cache["mlp_out", 1][0, tokens.subject_end],
        factor * found.value_wanted,
        rtol=1e-3,
        atol=1e-3,
    )
    # What the optimiser promised is what the edit does where it is meant to act.
    full = torch.cat([tokens.tokens[0], torch.tensor(tokens.target_ids[:-1])])
    there = replace(edit.terms[0], positions=(tokens.subject_end,))
    logits = model.run(full[None], [there])[0, -2:].log_softmax(-1)
    nll = -logits.gather(1, torch.tensor(tokens.target_ids)[:, None]).mean()
    assert float(nll) == pytest.approx(last.nll, abs=1e-3)


@pytest.mark.parametrize("name", ["gemma2", "olmo2", "mixtral"])
def test_families_that_cannot_be_edited_say_why(
    with_words: Callable[[str], HookedModel], name: str
) -> None:
    """Forbids a wrong edit behind a norm, and a traceback where there is no W_out."""
    model = with_words(name)
    settings = RomeSettings(layer=1, steps=3, n_contexts=1, use_covariance=False)
    with pytest.raises(EditingError, match=r"norm after|cannot be edited|no "):
        rome(model, EditRequest("w1 w2 w3 w4", "w2", "w9"), settings)


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"lr": 0.0},
        {"clamp": -1.0},
        {"kl_factor": -0.1},
        {"n_contexts": 0},
        {"kl_prompts": "all"},
        {"kl_prompts": ("no subject",)},
        {"variant": "s-rome"},
        {"reach": 0.0},
        {"reach": 1.5},
        {"settle": -1},
        {"n_trained": 0},
        {"ridge": -1.0},
        {"lr": float("nan")},
    ],
)
def test_settings_that_make_no_sense_are_refused(bad: dict[str, object]) -> None:
    """Forbids a search that never ends, never moves, or ends in NaN."""
    with pytest.raises(EditingError):
        RomeSettings(**bad)  # type: ignore[arg-type]


def test_what_does_not_fit_the_model_is_a_sentence(
    tiny_world: HookedModel, eiffel: EditRequest, covariance: KeyCovariance
) -> None:
    """Forbids tracebacks for a layer that is not there, no request, a surrounding intervention."""
    with pytest.raises(EditingError, match="no layer 9"):
        rome(tiny_world, eiffel, replace(SHORT, layer=9), covariance)
    with pytest.raises(EditingError, match="nothing to edit"):
        rome(tiny_world, [], SHORT, covariance)
    with pytest.raises(EditingError, match="not an EditRequest"):
        rome(tiny_world, ["The Eiffel Tower"], SHORT, covariance)  # type: ignore[list-item]
    edit = rome(tiny_world, eiffel, SHORT, covariance)
    with tiny_world.interventions(*edit.terms), pytest.raises(EditingError, match="outside"):
        rome(tiny_world, eiffel, SHORT, covariance)


def test_presets_say_where_they_are_from(
    tiny_world: HookedModel, with_words: Callable[[str], HookedModel]
) -> None:
    """Forbids silent defaults: measured, published and guessed settings are told apart."""
    assert preset(tiny_world).origin == "measured"
    assert preset("openai-community/gpt2-xl").settings.layer == 17
    assert preset("EleutherAI/gpt-j-6b", "memit").settings.layers == (3, 4, 5, 6, 7, 8)
    guessed = preset(with_words("llama"))
    assert guessed.origin == "guessed"
    assert "Nobody has published" in guessed.note
    assert guessed.settings.layer == 1
    with pytest.raises(EditingError, match="give the model itself"):
        preset("a-model-of-mine")
    with pytest.raises(EditingError, match="methods are"):
        preset(tiny_world, "mend")


def test_contexts_do_not_speak_of_the_subject(tiny_world: HookedModel) -> None:
    """Forbids prefixes that hold the subject, and ones that change from call to call."""
    contexts = Contexts.of_world(10, seed=3)
    assert contexts == Contexts.of_world(10, seed=3)
    word = contexts.prefixes[0].split()[0]
    taken = contexts.take(10, [word])
    assert taken[0] == ""
    assert len(taken) == 10
    assert not any(word.lower() in prefix.lower() for prefix in taken[1:])
    own = Contexts.generated(tiny_world, 4, seed=1)
    assert len(own.take(4)) == 4
    with pytest.raises(EditingError, match="give more texts"):
        Contexts.of_texts(["no"], 5)
