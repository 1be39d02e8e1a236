"""The hooked model as a whole: names, stopping, memory, threads, exceptions, loading."""

import copy
import re
import threading
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from lens_core import HookedModel
from lens_core.interventions import add, custom, patch, scale, zero
from lens_core.model.errors import (
    EmptyPromptError,
    InterventionError,
    NaNWeightsError,
    PromptTooLongError,
    TokenError,
    UnknownSiteError,
    UnsupportedModelError,
)
from lens_core.model.run import current_run
from lens_core.model.sites import SiteKey, parse_site

ROOT = Path(__file__).parents[3]


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# --- the snippet of the wiki page that the lab was asked to start from ---------------------------


def test_the_wiki_pages_snippet_runs(tiny_world):
    """Forbids a surface unlike that of tutorials: only import and class name are changed."""
    model = tiny_world
    prompt = "The Eiffel Tower is located in"
    tokens = model.to_tokens(prompt)
    logits, cache = model.run_with_cache(tokens)

    def logit_lens(cache, model, layer_idx):
        resid = cache["resid_post", layer_idx]  # (1, seq_len, d_model)
        logits = model.unembed(model.ln_final(resid))  # (1, seq_len, vocab)
        top_tokens = logits[0, -1].topk(5)
        return [
            (model.to_string([t]), p.item())
            for t, p in zip(top_tokens.indices, top_tokens.values.softmax(0), strict=True)
        ]

    lenses = [logit_lens(cache, model, layer) for layer in range(model.cfg.n_layers)]
    assert [len(lens) for lens in lenses] == [5] * model.cfg.n_layers
    best = logits[0, -1].topk(5).indices
    assert [token for token, _ in lenses[-1]] == [model.to_string([t]) for t in best]


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("resid_post", ("resid_post", None)),
        (("pattern", 3), ("pattern", 3)),
        ("blocks.3.attn.hook_pattern", ("pattern", 3)),
        ("blocks.0.hook_resid_pre", ("resid_pre", 0)),
        ("blocks.11.hook_resid_mid", ("resid_mid", 11)),
        ("blocks.2.attn.hook_result", ("head_out", 2)),
        ("blocks.2.ln1.hook_scale", ("ln1_scale", 2)),
        ("blocks.2.mlp.hook_post", ("mlp_post", 2)),
        ("blocks.2.attn.hook_attn_scores", ("scores", 2)),
        ("hook_embed", ("embed", None)),
        ("ln_final.hook_normalized", ("ln_final", None)),
    ],
)
def test_names_parse(name, key):
    """Forbids TransformerLens names that parse to another tensor."""
    assert parse_site(name) == SiteKey(*key)


def test_transformer_lens_names_of_gated_and_rotary_models():
    """Forbids passing off another tensor under a known name: TL's hook_q is before rotary."""
    assert parse_site("blocks.1.mlp.hook_pre", gated=True) == ("mlp_gate", 1)
    assert parse_site("blocks.1.mlp.hook_pre_linear", gated=True) == ("mlp_pre", 1)
    assert parse_site("blocks.1.attn.hook_rot_q", rotary=True) == ("q", 1)
    with pytest.raises(UnknownSiteError, match="rotary"):
        parse_site("blocks.1.attn.hook_q", rotary=True)


@pytest.mark.parametrize(
    "name", ["resid", "blocks.1.hook_nothing", ("embed", 0), ("pattern", "3"), 7, ("a", 1, 2)]
)
def test_unknown_names_are_refused(name):
    """Forbids a typing error that becomes an empty cache."""
    with pytest.raises(UnknownSiteError):
        parse_site(name)


def test_the_cache_answers_by_every_name(gpt2):
    """Forbids aliases that give different tensors, and negative layers that are off by one."""
    _, cache = gpt2.hooked.run_with_cache(gpt2.tokens)
    assert torch.equal(cache["pattern", 1], cache["blocks.1.attn.hook_pattern"])
    assert torch.equal(cache["resid_post", -1], cache["resid_post", 2])
    assert cache.stack("resid_pre").shape == (3, 2, 9, 32)
    assert ("pattern", 1) in cache
    assert ("pattern", 9) not in cache
    assert "head_out" not in cache  # per layer
    assert ("head_out", 1) in cache
    with pytest.raises(UnknownSiteError, match="layer"):
        cache["pattern"]
    with pytest.raises(UnknownSiteError, match="no layer 3"):
        cache["pattern", 3]


def test_norm_scales_are_what_the_norms_divide_by(family):
    """Forbids a scale that leaves out the epsilon, or subtracts a mean that RMSNorm keeps."""
    model = family.hooked
    _, cache = model.run_with_cache(family.tokens)
    resid = cache["resid_post", -1].float()
    if model.cfg.norm_kind == "LayerNorm":
        resid = resid - resid.mean(-1, keepdim=True)
    normalised = resid / cache["ln_final_scale"]
    norm = model.hf_model.get_submodule(model.spec.final[-1])
    weight = norm.weight.float() + ("gemma" in family.name)
    bias = getattr(norm, "bias", None)
    expected = normalised * weight + (0 if bias is None else bias)
    close(expected, cache["ln_final"], 1e-4)


def test_names_select_what_is_recorded(gpt2):
    """Forbids recording more than was asked for (TransformerLens #746: memory)."""
    run = gpt2.hooked.run_with_cache
    assert len(run(gpt2.tokens, [])[1]) == 0
    assert set(run(gpt2.tokens, ["resid_post"])[1]) == {("resid_post", n) for n in range(3)}
    assert set(run(gpt2.tokens, [("z", -1), "blocks.0.hook_resid_pre"])[1]) == {
        ("z", 2),
        ("resid_pre", 0),
    }
    assert set(run(gpt2.tokens, [("head_out", 1)])[1]) == {("z", 1)}
    with pytest.raises(UnknownSiteError, match="no gate"):
        run(gpt2.tokens, ["mlp_gate"])
    with pytest.raises(UnknownSiteError, match="not recorded"):
        run(gpt2.tokens, ["z"])[1]["q", 0]


# --- cost ----------------------------------------------------------------------------------------


def test_stopping_really_stops(gpt2):
    """Forbids stop_at_layer that runs the whole model and throws the rest away."""
    model = gpt2.hooked
    seen = []
    handles = [
        block.register_forward_hook(lambda *_, n=n: seen.append(n))
        for n, block in enumerate(model.hf_model.transformer.h)
    ]
    handles.append(model.hf_model.lm_head.register_forward_hook(lambda *_: seen.append("head")))
    try:
        model.run(gpt2.tokens, stop_at_layer=1)
        assert seen == [0]
        model.run(gpt2.tokens, stop_at_layer=0)
        assert seen == [0]
        model.run(gpt2.tokens, stop_at_layer=3)
        assert seen == [0, 0, 1, 2]
    finally:
        for handle in handles:
            handle.remove()


def test_recording_one_site_keeps_one_tensor(family):
    """Forbids keeping fused projections, patterns or whole layers alive for one small tensor."""
    model = family.hooked
    for site in ("q", "v", "z", "pattern", "resid_post", "mlp_out"):
        _, cache = model.run_with_cache(family.tokens, [(site, 1)])
        tensor = cache[site, 1]
        assert cache.memory_bytes == tensor.numel() * tensor.element_size(), site


def test_recorded_tensors_are_not_changed_by_the_run(family):
    """Forbids caching tensors that the model overwrites afterwards (Falcon adds into mlp_out)."""
    model = family.hooked
    _, all_at_once = model.run_with_cache(family.tokens)
    copies = {}

    def keep(key):
        def seen(x):
            copies[key] = x.clone()
            return x

        return custom(key.site, key.layer, seen)

    model.run(family.tokens, [keep(key) for key in all_at_once])
    for key, copied in copies.items():
        assert torch.equal(copied, all_at_once[key]), key


def test_nothing_is_recorded_and_no_run_begins_when_nothing_is_asked(gpt2):
    """Forbids work for nobody: an idle run is not even visible to the taps."""
    seen = []
    handle = gpt2.hooked.hf_model.transformer.h[0].register_forward_hook(
        lambda *_: seen.append(current_run())
    )
    try:
        gpt2.hooked.run_with_cache(gpt2.tokens, [])
    finally:
        handle.remove()
    assert seen == [None]


# --- scope: contexts, exceptions, threads --------------------------------------------------------


def test_contexts_nest_and_undo_exactly(gpt2):
    """Forbids inner scopes that take the outer one's edits away (TransformerLens #1636)."""
    model, tokens = gpt2.hooked, gpt2.tokens
    a, b = zero("z", 1, heads=[0]), scale("mlp_out", 0, 2.0)
    plain = model.run(tokens)
    with model.interventions(a):
        only_a = model.run(tokens)
        with model.interventions(b):
            both = model.run(tokens)
        assert torch.equal(model.run(tokens), only_a)
    assert torch.equal(model.run(tokens), plain)
    assert torch.equal(only_a, model.run(tokens, [a]))
    assert torch.equal(both, model.run(tokens, [a, b]))
    assert not torch.equal(both, only_a)


def test_contexts_belong_to_one_model(gpt2, llama):
    """Forbids interventions on one model that reach another one in the same block."""
    expected = llama.hooked.run(llama.tokens)
    with gpt2.hooked.interventions(zero("z", 1)):
        assert torch.equal(llama.hooked.run(llama.tokens), expected)


def test_an_exception_leaves_nothing_behind(gpt2):
    """Forbids hooks, edits or grad mode that survive an error inside a run."""
    model, tokens = gpt2.hooked, gpt2.tokens
    plain = model.run(tokens)

    def fail(x):
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"), model.interventions(zero("z", 0)):
        model.run(tokens, [custom("resid_mid", 1, fail)], grad=True)
    assert current_run() is None
    assert torch.equal(model.run(tokens), plain)
    with pytest.raises(InterventionError, match="shape"):
        model.run(tokens, [custom("z", 1, lambda x: x[:, :2])])
    assert torch.equal(model.run(tokens), plain)


def test_a_run_inside_a_custom_function_does_not_disturb_the_outer_run(gpt2):
    """Forbids nested runs that share state."""
    model, tokens = gpt2.hooked, gpt2.tokens
    inner = []

    def nested(x):
        inner.append(model.run(tokens, [zero("z", 2)]))
        inner.append(model.unembed(model.ln_final(x)))
        return x

    logits, cache = model.run_with_cache(tokens, ["z"], [custom("resid_post", 1, nested)])
    assert torch.equal(logits, model.run(tokens))
    assert cache["z", 2].abs().sum() > 0
    assert torch.equal(inner[0], model.run(tokens, [zero("z", 2)]))


def test_threads_share_a_model_without_seeing_each_other(gpt2, llama):
    """Forbids run state in the model: two visitors, two edits, one model (no peer passes this)."""
    for family in (gpt2, llama):
        model, tokens = family.hooked, family.tokens
        edits = [[], [zero("z", 1, heads=[0])], [scale("mlp_out", 2, 3.0)], [zero("pattern", 0)]]
        expected = [model.run_with_cache(tokens, ["resid_post"], e) for e in edits]
        wrong, start = [], threading.Barrier(len(edits))

        def work(
            n, model=model, tokens=tokens, edits=edits, expected=expected, start=start, wrong=wrong
        ):
            start.wait()
            for _ in range(15):
                with model.interventions(*edits[n]):
                    logits, cache = model.run_with_cache(tokens, ["resid_post"])
                same = torch.equal(logits, expected[n][0])
                same &= torch.equal(cache["resid_post", -1], expected[n][1]["resid_post", -1])
                if not same:
                    wrong.append(n)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(len(edits))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_a_deep_copy_is_a_model_of_its_own(gpt2):
    """Forbids hooks that reach back into the original (baking an edit into a copy)."""
    twin = HookedModel.from_hf(copy.deepcopy(gpt2.hooked.hf_model))
    expected = gpt2.hooked.run(gpt2.tokens)
    assert torch.equal(twin.run(gpt2.tokens), expected)
    with torch.no_grad():
        twin.W_out[1].add_(1.0)
    assert not torch.equal(twin.run(gpt2.tokens), expected)
    assert torch.equal(gpt2.hooked.run(gpt2.tokens), expected)
    _, cache = twin.run_with_cache(gpt2.tokens, ["mlp_out"])
    _, original = gpt2.hooked.run_with_cache(gpt2.tokens, ["mlp_out"])
    assert not torch.equal(cache["mlp_out", 1], original["mlp_out", 1])


def test_wrapping_twice_installs_once(gpt2):
    """Forbids taps that fire twice after a second from_hf (a rerun of the app)."""
    again = HookedModel.from_hf(gpt2.hooked.hf_model)
    assert again.report.ok
    logits = again.run(gpt2.tokens, [scale("resid_post", 1, 2.0)])
    assert torch.equal(logits, gpt2.hooked.run(gpt2.tokens, [scale("resid_post", 1, 2.0)]))


def test_generation_of_transformers_itself_still_works(gpt2, llama):
    """Forbids breaking the model for those who call it directly."""
    for family in (gpt2, llama):
        options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
        ours = family.hooked.hf_model.generate(family.tokens, **options)
        assert torch.equal(ours, family.plain.generate(family.tokens, **options))
        assert torch.equal(ours, family.hooked.generate(family.tokens, 4, stop_at_eos=False))


# --- what is refused -----------------------------------------------------------------------------


def test_models_without_a_head_are_refused():
    """Forbids a traceback from inside for a model that cannot predict tokens."""
    config = AutoConfig.for_model("gpt2", n_embd=32, n_layer=2, n_head=4, vocab_size=50)
    with pytest.raises(UnsupportedModelError, match="head"):
        HookedModel.from_hf(AutoModel.from_config(config))


def test_models_without_attention_are_refused_with_what_is_missing():
    """Forbids half-hooking a state-space model."""
    config = AutoConfig.for_model("mamba", hidden_size=32, num_hidden_layers=2, vocab_size=50)
    with pytest.raises(UnsupportedModelError, match="no list of 2 blocks with attention"):
        HookedModel.from_hf(AutoModelForCausalLM.from_config(config))


def test_blocks_that_cannot_be_followed_are_refused():
    """Forbids guessing: GPT-1's blocks hand on lists."""
    config = AutoConfig.for_model("openai-gpt", n_embd=32, n_layer=2, n_head=4, vocab_size=50)
    with pytest.raises(UnsupportedModelError, match="hands on no tensor"):
        HookedModel.from_hf(AutoModelForCausalLM.from_config(config))


def test_damaged_weights_are_refused():
    """Forbids figures made of NaN."""
    config = AutoConfig.for_model("gpt2", n_embd=32, n_layer=2, n_head=4, vocab_size=50)
    plain = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        plain.transformer.h[1].mlp.c_fc.weight[0, 0] = float("nan")
    with pytest.raises(NaNWeightsError):
        HookedModel.from_hf(plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["gpt2", "gptj", "bloom", "gemma2", "gpt_oss", "granite"])
def test_half_precision_models_pass_the_self_check(family_named, name, dtype):
    """Forbids tolerances, masks or casts that only hold in float32."""
    plain = copy.deepcopy(family_named(name).plain).to(dtype)
    tokens = family_named(name).tokens
    expected = plain(input_ids=tokens, use_cache=False).logits
    model = HookedModel.from_hf(plain)
    assert model.report.ok, str(model.report)
    logits, cache = model.run_with_cache(tokens)
    assert torch.equal(logits, expected)
    assert torch.equal(torch.isneginf(cache["scores", 1]), cache["pattern", 1] == 0)


def test_offloaded_models_work(family_named):
    """Forbids taps that break, or are broken by, the hooks with which accelerate moves weights."""
    for name in ("gpt2", "llama"):
        plain, tokens = copy.deepcopy(family_named(name).plain), family_named(name).tokens
        model = HookedModel.from_hf(cpu_offload(plain, execution_device=torch.device("cpu")))
        assert model.report.ok, str(model.report)
        edits = [scale("resid_mid", 1, 2.0)]
        assert torch.equal(model.run(tokens, edits), family_named(name).hooked.run(tokens, edits))
        with pytest.raises(UnsupportedModelError, match="offloaded"):
            model.W_O[1]


def test_sdpa_models_are_switched_to_the_attention_that_can_be_opened():
    """Forbids a model that was loaded with fused attention and shows no patterns."""
    for kind in ("llama", "falcon"):
        config = AutoConfig.for_model(
            kind, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=50
        )
        plain = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        model = HookedModel.from_hf(plain)
        assert model.report.ok
        assert model.sites["pattern"] == (0, 1)


def test_the_self_check_switches_off_what_does_not_hold():
    """Forbids advertising sites of a block whose sums do not add up, and forbids hiding why."""
    config = AutoConfig.for_model("gpt2", n_embd=32, n_layer=2, n_head=4, vocab_size=50)
    plain = AutoModelForCausalLM.from_config(config)

    class Deaf(torch.nn.Module):
        """An MLP that ignores what it reads."""

        def __init__(self, mlp):
            super().__init__()
            self.c_fc, self.c_proj, self.act = mlp.c_fc, mlp.c_proj, mlp.act

        def forward(self, x):
            return self.c_proj(self.act(self.c_fc(torch.ones_like(x))))

    plain.transformer.h[1].mlp = Deaf(plain.transformer.h[1].mlp)
    model = HookedModel.from_hf(plain)
    assert not model.report.ok
    assert "mlp_in" in model.disabled_sites
    assert "mlp_in" not in model.sites
    assert "switched off: mlp_in" in str(model.report)
    tokens = torch.arange(6)[None]
    with pytest.raises(InterventionError, match="self-check"):
        model.run(tokens, [zero("mlp_in", 1)])
    with pytest.raises(UnknownSiteError, match="self-check"):
        model.run_with_cache(tokens, ["mlp_in"])


def test_a_silenced_block_keeps_its_sites():
    """Forbids losing the sites of attention or an MLP that a learner, or a pruning, zeroed."""
    config = AutoConfig.for_model("gpt2", n_embd=32, n_layer=3, n_head=4, vocab_size=50)
    plain = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for projection in (plain.transformer.h[0].attn.c_proj, plain.transformer.h[2].mlp.c_proj):
            projection.weight.zero_()
            projection.bias.zero_()
    model = HookedModel.from_hf(plain)
    assert model.report.ok, model.report
    assert all(
        model.sites[site] == (0, 1, 2)
        for site in ("pattern", "z", "attn_out", "resid_mid", "mlp_post", "mlp_out")
    )


def test_a_silenced_mlp_that_ignores_its_input_is_still_found_out():
    """Forbids zeros in the last projection that excuse a tap which does nothing."""
    config = AutoConfig.for_model("gpt2", n_embd=32, n_layer=2, n_head=4, vocab_size=50)
    plain = AutoModelForCausalLM.from_config(config)
    mlp = plain.transformer.h[1].mlp
    mlp.register_forward_pre_hook(lambda module, args: (torch.ones_like(args[0]),))
    with torch.no_grad():
        mlp.c_proj.weight.zero_()
    model = HookedModel.from_hf(plain)
    assert not model.report.ok
    assert "mlp_in" in model.disabled_sites


def test_bad_tokens_are_refused(gpt2):
    """Forbids index errors from deep inside an embedding."""
    run = gpt2.hooked.run
    with pytest.raises(EmptyPromptError):
        run(torch.zeros(1, 0, dtype=torch.long))
    with pytest.raises(PromptTooLongError, match=r"65 tokens.*at most 64"):
        run(torch.zeros(1, 65, dtype=torch.long))
    with pytest.raises(TokenError, match="120"):
        run(torch.tensor([[3, 120]]))
    with pytest.raises(TokenError, match="whole numbers"):
        run(torch.zeros(1, 4))
    with pytest.raises(TokenError, match="left"):
        run(gpt2.tokens, attention_mask=torch.tensor([[1] * 9, [1] * 6 + [0] * 3]))
    with pytest.raises(PromptTooLongError, match="at most 55"):
        gpt2.hooked.generate(gpt2.tokens, 60)
    assert run([3, 4, 5]).shape == (1, 3, 120)
    with pytest.raises(UnknownSiteError, match="stop"):
        run(gpt2.tokens, stop_at_layer=4)
    with pytest.raises(UnknownSiteError, match="resid"):
        run(gpt2.tokens, start_at_layer=1)


# --- small options -------------------------------------------------------------------------------


def test_the_last_logits_alone_are_the_last_logits(family):
    """Forbids another computation for the cheap path, and edits of logits that miss it."""
    full = family.hooked.run(family.tokens)
    last = family.hooked.run(family.tokens, last_logits_only=True)
    assert last.shape == (2, 1, 120)
    close(last[:, 0], full[:, -1])
    edit = add("logits", None, torch.ones(120), positions=[-1])
    close(family.hooked.run(family.tokens, [edit], last_logits_only=True), last + 1)


def test_sampling_is_fixed_by_its_seed(gpt2):
    """Forbids generation that cannot be repeated."""
    generate = gpt2.hooked.generate
    first = generate(gpt2.tokens, 8, temperature=1.0, seed=3)
    assert torch.equal(first, generate(gpt2.tokens, 8, temperature=1.0, seed=3))
    assert not torch.equal(first, generate(gpt2.tokens, 8, temperature=1.0, seed=4))


def test_patching_a_prompt_in_generation_acts_on_the_prompt_only(gpt2):
    """Forbids a patch of the prompt that is applied again to generated tokens."""
    model = gpt2.hooked
    _, cache = model.run_with_cache(gpt2.tokens.flip(0))
    edit = patch("resid_pre", 1, cache)
    full = model.generate(gpt2.tokens, 4, [edit], stop_at_eos=False)
    for row in range(2):
        tokens = gpt2.tokens
        for _ in range(4):
            edit = patch("resid_pre", 1, cache["resid_pre", 1], positions=range(9))
            tokens = torch.cat([tokens, model.run(tokens, [edit])[:, -1:].argmax(-1)], 1)
        assert torch.equal(full[row], tokens[row])


def test_the_report_and_the_model_print(tiny_world):
    """Forbids reports that a page cannot show."""
    assert tiny_world.report.ok, str(tiny_world.report)
    assert re.match(r"Self-check of tiny-world: (\d+) of \1 checks hold", str(tiny_world.report))
    assert "tiny-world" in repr(tiny_world)
    assert str(tiny_world.self_check()) == str(tiny_world.report)


def test_the_library_does_not_import_streamlit():
    """Forbids a library that needs the app."""
    for path in (ROOT / "lens_core").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) streamlit", path.read_text(), re.MULTILINE), path
