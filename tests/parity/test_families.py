"""Every family: what taps show is what the Hugging Face model computes; edits take effect."""

import pytest
import torch

from lens_core.interventions import add, custom, noise
from lens_core.model.sites import SITES, SiteKey
from lens_core.model.weights import expand_kv

LAYERLESS = (None,)


def places(model):
    """Every site of a model at every layer that has it."""
    return [
        SiteKey(site, layer)
        for site, layers in model.sites.items()
        for layer in (LAYERLESS if layers is None else layers)
    ]


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_the_self_check_holds(family):
    """Forbids advertising a site that the load-time check finds wrong."""
    assert family.hooked.report.ok, str(family.hooked.report)
    assert not family.hooked.disabled_sites


def test_hooked_logits_are_bitwise_the_plain_models(family):
    """Forbids a transcription of HF's maths (TransformerLens #1618: cosine 0.04 at layer 12)."""
    expected = family.plain(input_ids=family.tokens, use_cache=False).logits
    recorded, _ = family.hooked.run_with_cache(family.tokens)
    assert torch.equal(family.hooked.run(family.tokens), expected)
    assert torch.equal(recorded, expected)


def test_the_residual_stream_is_hfs_hidden_states(family):
    """Forbids errors that cancel in the logits: parity at every layer, not only at the end."""
    out = family.plain(input_ids=family.tokens, use_cache=False, output_hidden_states=True)
    _, cache = family.hooked.run_with_cache(family.tokens, ["resid_pre", "resid_post"])
    for n in range(family.hooked.cfg.n_layers):
        assert torch.equal(cache["resid_pre", n], out.hidden_states[n])
    for n in range(family.hooked.cfg.n_layers - 1):
        assert torch.equal(cache["resid_post", n], out.hidden_states[n + 1])


def test_patterns_are_hfs_attentions(family):
    """Forbids showing another attention than the one used (TransformerLens: post-hoc patterns)."""
    out = family.plain(input_ids=family.tokens, use_cache=False, output_attentions=True)
    _, cache = family.hooked.run_with_cache(family.tokens, "pattern")
    for n in family.hooked.sites["pattern"]:
        close(cache["pattern", n], out.attentions[n])


def test_every_site_fires_once_with_its_documented_shape(family):
    """Forbids names that resolve to nothing, to another shape, or to a tap that fires twice."""
    model, (batch, pos) = family.hooked, family.tokens.shape
    cfg = model.cfg
    sizes = {
        "batch": batch,
        "pos": pos,
        "key": pos,
        "head": cfg.n_heads,
        "kv_head": cfg.n_kv_heads,
        "d_head": cfg.d_head,
        "d_model": cfg.d_model,
        "neuron": cfg.d_mlp,
        "d_vocab": cfg.d_vocab,
    }
    calls: dict[SiteKey, list[tuple[int, ...]]] = {}

    def watch(key):
        def seen(x):
            calls.setdefault(key, []).append(tuple(x.shape))
            return x

        return custom(key.site, key.layer, seen)

    wanted = places(model)
    model.run(family.tokens, [watch(key) for key in wanted])
    for key in wanted:
        assert calls[key] == [tuple(sizes[axis] for axis in SITES[key.site].axes)], key


def test_an_unchanged_edit_of_every_site_changes_no_bit(family):
    """Forbids edits that round, reorder or unmask what they do not touch."""
    expected = family.hooked.run(family.tokens)
    edits = [custom(key.site, key.layer, lambda x: x) for key in places(family.hooked)]
    assert torch.equal(family.hooked.run(family.tokens, edits), expected)


def test_noise_at_every_site_moves_the_logits(family):
    """Forbids edits that are silently dropped (TransformerLens #1526, hook_pattern)."""
    model, tokens = family.hooked, family.tokens
    expected = model.run(tokens)
    for key in places(model):
        moved = model.run(tokens, [noise(key.site, key.layer, std=1.0)])
        assert (moved - expected).abs().max() > 1e-4, key


def test_every_edit_of_the_residual_reaches_the_skip_connection(family):
    """Forbids an edit of resid_mid that only the norm sees, while the block adds to the old one."""
    model = family.hooked
    for n in model.sites.get("resid_mid", ()):
        names = [("resid_mid", n), ("mlp_out", n), ("resid_post", n)]
        _, cache = model.run_with_cache(family.tokens, names, [noise("resid_mid", n, std=1.0)])
        close(cache["resid_mid", n] + cache["mlp_out", n], cache["resid_post", n])


def test_no_edit_reaches_an_earlier_position(family):
    """Forbids taps that mix positions or rows up: a causal model cannot tell the past."""
    model, tokens = family.hooked, family.tokens
    expected = model.run(tokens)
    for key in places(model):
        moved = model.run(tokens, [noise(key.site, key.layer, std=1.0, rows=[1], positions=[6])])
        assert torch.equal(moved[0], expected[0]), key
        close(moved[1, :6], expected[1, :6], 1e-6)
        assert not torch.equal(moved[1, 6:], expected[1, 6:]), key


def test_the_residual_stream_is_the_sum_of_what_is_added(family):
    """Forbids attn_out and mlp_out that are not what is added (TransformerLens #1639 on Bloom)."""
    model = family.hooked
    _, cache = model.run_with_cache(family.tokens)
    total = cache["embed"] + (cache["pos_embed"] if "pos_embed" in model.sites else 0)
    close(total, cache["resid_pre", 0])
    for n in range(model.cfg.n_layers):
        after_attention = cache["resid_pre", n] + cache["attn_out", n]
        if model.has_site("resid_mid", n):
            close(after_attention, cache["resid_mid", n])
        close(after_attention + cache["mlp_out", n], cache["resid_post", n])
        total = total + cache["attn_out", n] + cache["mlp_out", n]
    # Every component's share of the logits: the frozen final norm is linear, so shares add up.
    close(total, cache["resid_post", -1], 1e-4)
    close(model.unembed(model.ln_final(total)), cache["logits"], 1e-3)


def test_attention_is_softmax_of_scores_times_values(family):
    """Forbids scores, pattern, v or z that belong to different computations."""
    model = family.hooked
    group = model.cfg.n_heads // model.cfg.n_kv_heads
    _, cache = model.run_with_cache(family.tokens)
    for n in model.sites["pattern"]:
        pattern, scores = cache["pattern", n], cache["scores", n]
        close(scores.softmax(-1) * (1 - cache["sink", n])[..., None], pattern)
        mixed = torch.einsum("bhqk,bkhd->bqhd", pattern, expand_kv(cache["v", n], group))
        close(mixed, cache["z", n])


def test_scores_are_q_times_k_after_rotary(family):
    """Forbids q and k from before the rotary embedding, the q-norm or the bias."""
    model = family.hooked
    group = model.cfg.n_heads // model.cfg.n_kv_heads
    if model.cfg.position_kind == "alibi" or family.name == "gemma2":
        pytest.skip("the scores also hold a position bias or a soft-cap")
    _, cache = model.run_with_cache(family.tokens, ["q", "k", "scores"])
    for n in model.sites["q"]:
        raw = torch.einsum("bqhd,bkhd->bhqk", cache["q", n], expand_kv(cache["k", n], group))
        scores = cache["scores", n]
        seen = torch.isfinite(scores)
        # Up to one factor a layer, and with sinks one shift a row.
        raw = (raw - _row_mean(raw, seen))[seen]
        scores = (scores - _row_mean(scores, seen))[seen]
        factor = (raw @ scores) / (raw @ raw)
        close(factor * raw, scores, 1e-4)


def _row_mean(x, seen):
    return x.where(seen, 0).sum(-1, keepdim=True) / seen.sum(-1, keepdim=True)


def test_masked_scores_are_minus_infinity(family):
    """Forbids finite masks in what a reader sees (TransformerLens #1692)."""
    _, cache = family.hooked.run_with_cache(family.tokens, ["scores", "pattern"])
    pos = family.tokens.shape[1]
    future = torch.ones(pos, pos).triu(1).bool()
    for n in family.hooked.sites["scores"]:
        scores = cache["scores", n]
        assert torch.isneginf(scores[..., future]).all()
        assert torch.isfinite(scores.diagonal(dim1=-2, dim2=-1)).all()
        assert torch.equal(torch.isneginf(scores), cache["pattern", n] == 0)


def test_head_outputs_add_up_to_the_attention_output(family):
    """Forbids a W_O cut along the wrong axis, or read transposed."""
    model = family.hooked
    _, cache = model.run_with_cache(family.tokens, ["z", "attn_out"])
    for n, layer in enumerate(model.spec.layers):
        if layer.attn_out not in (layer.w_o, layer.attn):
            continue  # a norm after attention
        total = cache["head_out", n].sum(dim=2) + layer.attn_scale * model.b_O[n]
        close(total, cache["attn_out", n])


def test_the_lens_at_the_last_layer_is_the_logits(family):
    """Forbids an unembedding without soft-cap, scale or bias (Gemma-2, Cohere, Granite, Phi)."""
    logits, cache = family.hooked.run_with_cache(family.tokens, ["resid_post", "ln_final"])
    model = family.hooked
    assert torch.equal(model.ln_final(cache["resid_post", -1]), cache["ln_final"])
    close(model.unembed(cache["ln_final"]), logits)


def test_a_left_padded_batch_equals_its_rows_alone(family):
    """Forbids position ids that count padding (TransformerLens #1005, #1761)."""
    model, tokens = family.hooked, family.tokens
    short = tokens[1:, :6]
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), short], dim=1)
    mask = torch.tensor([[1] * 9, [0] * 3 + [1] * 6])
    batch = torch.cat([tokens[:1], padded])
    logits, cache = model.run_with_cache(batch, ["resid_post"], attention_mask=mask)
    close(logits[0], model.run(tokens[:1])[0], 1e-4)
    alone, expected = model.run_with_cache(short, ["resid_post"])
    close(logits[1, 3:], alone[0], 1e-4)
    close(cache["resid_post", -1][1, 3:], expected["resid_post", -1][0], 1e-4)


def test_cached_generation_equals_uncached_under_interventions(family):
    """Forbids interventions that a key-value cache loses or applies twice (neuronpedia #163)."""
    model, prompt = family.hooked, family.tokens[:1, :5]
    edits = [
        noise("resid_post", 1, std=0.3, positions=[2, 6]),
        noise("k", 1, std=0.3, positions=[1]),
        custom("pattern", 2, lambda x: x * 0.5, heads=[1]),
    ]
    full = model.generate(prompt, 4, edits, stop_at_eos=False)
    assert full.shape == (1, 9)
    assert torch.equal(full[:, :5], prompt)
    tokens = prompt
    for _ in range(4):
        present = [e for e in edits if e.positions is None or e.positions[0] < tokens.shape[1]]
        present[0] = noise(
            "resid_post", 1, std=0.3, positions=[p for p in (2, 6) if p < tokens.shape[1]]
        )
        logits = model.run(tokens, present)
        tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(full, tokens)


def test_resuming_at_a_layer_equals_running_from_the_start(family):
    """Forbids a resumed run that differs from the run it resumes."""
    model = family.hooked
    logits, cache = model.run_with_cache(family.tokens, ["resid_pre"])
    for layer in range(model.cfg.n_layers):
        again = model.run(family.tokens, start_at_layer=layer, resid=cache["resid_pre", layer])
        assert torch.equal(again, logits)


def test_stopping_at_a_layer_returns_the_residual_stream_there(family):
    """Forbids stop_at_layer that computes on, or is off by one."""
    model = family.hooked
    _, cache = model.run_with_cache(family.tokens)
    for stop in range(model.cfg.n_layers + 1):
        resid, early = model.run_with_cache(family.tokens, stop_at_layer=stop)
        want = cache["resid_pre", stop] if stop < model.cfg.n_layers else cache["resid_post", -1]
        assert torch.equal(resid, want)
        assert {key.layer for key in early if key.layer is not None} == set(range(stop))


def test_resuming_uses_the_residual_stream_it_is_given(family):
    """Forbids a resumed run that falls back on its tokens, at layer 0 above all."""
    model = family.hooked
    _, other = model.run_with_cache(family.tokens.flip(0), ["resid_pre"])
    expected = model.run(family.tokens.flip(0))
    for layer in range(model.cfg.n_layers):
        resid = other["resid_pre", layer]
        again = model.run(family.tokens, start_at_layer=layer, resid=resid)
        assert torch.equal(again, expected)


def test_gradients_reach_every_site(family):
    """Forbids recorded tensors that are not on the path to the logits (attribution patching)."""
    model = family.hooked
    expected = model.run(family.tokens)
    logits, cache = model.run_with_cache(family.tokens, grad=True)
    close(logits.detach(), expected, 1e-6)
    keys = [key for key in places(model) if key.site != "logits"]
    metric = logits[:, -1].logsumexp(-1).sum()
    gradients = torch.autograd.grad(metric, [cache[key] for key in keys], allow_unused=True)
    for key, gradient in zip(keys, gradients, strict=True):
        assert gradient is not None, key
        assert torch.isfinite(gradient[..., -1:, :]).all(), key
        last_q = key.site == "q" and key.layer == model.cfg.n_layers - 1
        assert gradient.abs().sum() > 0 or last_q, key


def test_gradients_agree_with_finite_differences(family):
    """Forbids a gradient of something else, for example of the unscaled attention output."""
    model, tokens = family.hooked, family.tokens[:1]
    for site in ("resid_pre", "z", "attn_out", "mlp_out", "resid_post"):
        logits, cache = model.run_with_cache(tokens, [(site, 1)], grad=True)
        (gradient,) = torch.autograd.grad(logits[0, -1].logsumexp(-1), [cache[site, 1]])
        direction = gradient / gradient.norm()
        step = 1e-2
        up, down = (model.run(tokens, [add(site, 1, s * step * direction)]) for s in (1, -1))
        slope = (up[0, -1].logsumexp(-1) - down[0, -1].logsumexp(-1)) / (2 * step)
        assert slope.item() == pytest.approx(gradient.norm().item(), rel=0.05, abs=1e-3)
