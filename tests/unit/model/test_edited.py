"""Views with standing edits: as if the weights were other ones, while nobody's weights change."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from lens_core import HookedModel
from lens_core.attribution import direct_logit_attribution
from lens_core.interventions import Intervention, low_rank, zero
from lens_core.lens import read_lens
from lens_core.lens.identity import weights_sha256
from lens_core.model.errors import InterventionError
from lens_core.patching import PromptPair, sweep

SITES = ("mlp_out", "attn_out", "mlp_pre", "mlp_gate")


def term(model: HookedModel, site: str, layer: int, rank: int = 1, seed: int = 0) -> Intervention:
    """A random edit of one projection, large enough to be seen."""
    d_in, d_out = model._projection_sizes(site, layer)
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(d_in, rank, generator=generator) / d_in**0.5
    return low_rank(site, layer, left, torch.randn(rank, d_out, generator=generator))


def rewritten(model: HookedModel, terms: list[Intervention]) -> HookedModel:
    """A copy whose own weights hold the edits, made without the code under test."""
    hf_model = copy.deepcopy(model.hf_model)
    other = HookedModel.from_hf(hf_model, model.tokenizer, check=False)
    with torch.no_grad():
        for t in terms:
            weight = {
                "mlp_out": other.W_out,
                "attn_out": other.W_O,
                "mlp_pre": other.W_in,
                "mlp_gate": other.W_gate,
            }[t.site][t.layer]
            delta = t.tensors["left"] @ t.tensors["right"]
            weight += delta.reshape(weight.shape)
    return other


def all_terms(model: HookedModel) -> list[Intervention]:
    """One edit of every projection of the middle layer, and a second one of W_out."""
    sites = [site for site in SITES if model.has_site(site, 1)]
    return [term(model, site, 1, seed=n) for n, site in enumerate(sites)] + [
        term(model, "mlp_out", 1, rank=2, seed=9),
        term(model, "mlp_out", 2, rank=40, seed=10),
    ]


@pytest.mark.parametrize("name", ["gpt2", "llama", "phi3", "gpt_neox", "olmo2", "granite"])
def test_a_view_is_as_a_model_whose_weights_hold_the_edits(family_named, name):
    """Forbids: an edit that is lost in some family's storage, or added after a norm or multiplier,
    or a weight that is shown without it."""
    family = family_named(name)
    model, tokens = family.hooked, family.tokens
    before = model.run(tokens)
    terms = all_terms(model)
    view, other = model.edited(terms), rewritten(model, terms)
    logits, cache = view.run_with_cache(tokens)
    assert not torch.allclose(logits, before, atol=1e-2)
    assert torch.allclose(logits, other.run(tokens), atol=2e-4, rtol=1e-4)
    assert torch.allclose(logits, model.run(tokens, terms), atol=2e-4, rtol=1e-4)
    assert torch.equal(view.generate(tokens, 6), other.generate(tokens, 6))
    for kind in ("W_out", "W_O", "W_in") + (("W_gate",) if model.cfg.gated else ()):
        assert torch.allclose(getattr(view, kind)[1], getattr(other, kind)[1], atol=1e-5)
        assert torch.equal(getattr(view, kind)[0], getattr(model, kind)[0])
    written = cache["mlp_post", 1] @ view.W_out[1] + view.b_out[1]
    if model.spec.layers[1].mlp_scale == 1.0 and name != "olmo2":
        assert torch.allclose(written, cache["mlp_out", 1], atol=1e-4)
    assert torch.equal(model.run(tokens), before)


def test_views_stack_and_leave_their_base_alone(gpt2):
    """Forbids: a view of a view that forgets the first edits, or edits that reach the base."""
    model, tokens = gpt2.hooked, gpt2.tokens
    first, second = term(model, "mlp_out", 0), term(model, "mlp_out", 0, seed=1)
    view = model.edited([first]).edited([second], name="both")
    assert view.base is model
    assert model.base is model
    assert view.cfg.name == "both"
    assert view.standing == (first, second)
    assert model.standing == ()
    assert torch.equal(view.run(tokens), model.edited([first, second]).run(tokens))
    assert torch.equal(model.edited([]).run(tokens), model.run(tokens))
    assert model.edited([first]).cfg.name == "gpt2 with 1 edit"


def test_interventions_act_on_top_of_standing_edits(gpt2):
    """Forbids: a run's own edits replacing the standing ones, or the other way round."""
    model, tokens = gpt2.hooked, gpt2.tokens
    standing, given = term(model, "mlp_out", 1), term(model, "mlp_out", 1, seed=1)
    both = model.run(tokens, [standing, given, zero("z", 2, heads=[0])])
    view = model.edited([standing])
    assert torch.allclose(view.run(tokens, [given, zero("z", 2, heads=[0])]), both, atol=1e-5)
    with model.interventions(zero("mlp_out", 1)):  # of the model, which the view is not
        assert torch.equal(view.run(tokens), model.edited([standing]).run(tokens))


def test_an_edit_of_a_layer_that_is_not_run_is_no_error(gpt2):
    """Forbids: a lens or a sweep that starts or stops in the middle failing on an edited model."""
    model, tokens = gpt2.hooked, gpt2.tokens
    view = model.edited([term(model, "mlp_out", n) for n in range(3)])
    resid = view.run(tokens, stop_at_layer=1)
    assert torch.allclose(
        view.run(tokens, start_at_layer=1, resid=resid), view.run(tokens), atol=1e-5
    )
    assert torch.equal(view.run(tokens, stop_at_layer=0), model.run(tokens, stop_at_layer=0))


def test_gradients_flow_through_standing_edits(gpt2):
    """Forbids: attribution on an edited model that sees the weights without the edit."""
    model, tokens = gpt2.hooked, gpt2.tokens
    terms = [term(model, "mlp_out", 2)]
    view, other = model.edited(terms), rewritten(model, terms)

    def gradient(of: HookedModel) -> Tensor:
        logits, cache = of.run_with_cache(tokens, [("resid_pre", 1)], grad=True)
        return torch.autograd.grad(logits[:, -1, 5].sum(), cache["resid_pre", 1])[0]

    assert torch.allclose(gradient(view), gradient(other), atol=1e-5)
    assert not torch.allclose(gradient(view), gradient(model), atol=1e-4)


def test_two_visitors_generate_at_once_under_contradictory_edits(gpt2):
    """Forbids: one visitor's edit in another's text, and edits that stay in the shared model."""
    model, tokens = gpt2.hooked, gpt2.tokens
    plain = model.generate(tokens, 30)
    edit = term(model, "mlp_out", 1)
    against = low_rank("mlp_out", 1, edit.tensors["left"], -edit.tensors["right"])
    views = [model.edited([edit]), model.edited([against]), model]
    alone = [view.generate(tokens, 30) for view in views]
    assert not torch.equal(alone[0], alone[1])
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda n: views[n % 3].generate(tokens, 30), range(12)))
    assert all(torch.equal(text, alone[n % 3]) for n, text in enumerate(found))
    assert torch.equal(model.generate(tokens, 30), plain)


def test_fingerprint_tells_a_view_from_its_model(gpt2):
    """Forbids: a cached result of the unedited model shown for the edited one."""
    model = gpt2.hooked
    edit, other = term(model, "mlp_out", 1), term(model, "mlp_out", 1, seed=1)
    hashes = [weights_sha256(m) for m in (model, model.edited([edit]), model.edited([other]))]
    assert len(set(hashes)) == 3
    assert weights_sha256(model.edited([edit])) == hashes[1]
    assert weights_sha256(model.edited([])) == hashes[0]


def test_the_self_check_holds_on_a_view(llama):
    """Forbids: sites switched off on an edited model, because its unhooked twin has no edit."""
    view = llama.hooked.edited([term(llama.hooked, "mlp_out", 1)])
    assert view.self_check().ok, str(view.self_check())


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (zero("z", 0), "only low_rank edits"),
        (low_rank("mlp_out", 0, torch.ones(128, 1), torch.ones(1, 32), rows=[0]), "cannot stand"),
        (low_rank("mlp_out", 7, torch.ones(128, 1), torch.ones(1, 32)), "no layer 7"),
        (low_rank("mlp_out", 0, torch.ones(64, 1), torch.ones(1, 32)), "maps 64 to 32"),
        (low_rank("mlp_out", 0, torch.full((128, 1), torch.nan), torch.ones(1, 32)), "finite"),
        ("nonsense", "is no edit"),
    ],
)
def test_what_cannot_stand_is_refused_in_a_sentence(gpt2, edit, sentence):
    """Forbids: an edit that is silently left out, or an error from inside a run much later."""
    with pytest.raises(InterventionError, match=sentence):
        gpt2.hooked.edited([edit])


def test_analyses_work_on_a_view(tiny_world):
    """Forbids: lens, attribution or patching that show the unedited model for the edited one."""
    prompt = "The Eiffel Tower is in"
    terms = [term(tiny_world, "mlp_out", 2), term(tiny_world, "mlp_out", 7, seed=1)]
    view, other = tiny_world.edited(terms), rewritten(tiny_world, terms)
    other.default_prepend_bos = True
    tokens = view.to_tokens(prompt)
    logits = view.run(tokens)[0, -1]
    lens = read_lens(view, tokens)
    assert int(lens.top_ids[-1, -1, 0]) == int(logits.argmax())
    parts = direct_logit_attribution(view, prompt)
    assert abs(parts.value - float(logits.max())) < 1e-3
    assert abs(parts.residual) < 1e-3


def test_a_patching_sweep_resumes_with_the_edits(gpt2):
    """Forbids: cells that are computed, or a base that is recorded, without the standing edits."""
    model = gpt2.hooked
    terms = [term(model, "mlp_out", n, seed=n) for n in range(3)]
    clean, corrupted = torch.randint(1, 120, (2, 9), generator=torch.Generator().manual_seed(2))
    matches = torch.arange(9)[:, None].expand(-1, 2)
    pair = PromptPair(clean, corrupted, 5, 7, matches, (0, 0))
    found, wanted = (
        sweep(m, [pair], "resid_pre") for m in (model.edited(terms), rewritten(model, terms))
    )
    assert torch.allclose(torch.tensor(found.values), torch.tensor(wanted.values), atol=1e-3)
    plain = sweep(model, [pair], "resid_pre")
    assert not torch.allclose(torch.tensor(found.values), torch.tensor(plain.values), atol=1e-2)
