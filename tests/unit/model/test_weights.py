"""Weight accessors and circuits, in every storage layout."""

import pytest
import torch

from lens_core import FactoredMatrix
from lens_core.model.errors import UnknownSiteError


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def has_plain_qkv(family):
    """Whether q, k, v are projections of attn_in and nothing else (no norm, no rotary)."""
    return family.hooked.cfg.position_kind != "rotary"


def test_values_are_attn_in_times_w_v(family):
    """Forbids a fused QKV cut in the wrong layout, or heads along the wrong axis."""
    model = family.hooked
    _, cache = model.run_with_cache(family.tokens, ["attn_in", "q", "k", "v"])
    for n in model.sites["v"]:
        for site in "qkv" if has_plain_qkv(family) else "v":
            weight, bias = getattr(model, f"W_{site.upper()}"), getattr(model, f"b_{site.upper()}")
            product = torch.einsum("bpm,hmd->bphd", cache["attn_in", n], weight[n]) + bias[n]
            # OPT has scaled q by 1/sqrt(d_head) before it is used.
            factor = 8**-0.5 if family.name == "opt" and site == "q" else 1.0
            close(factor * product, cache[site, n])


def test_queries_keep_their_size_through_rotary(family):
    """Forbids swapping q and k in fused storage: rotation keeps the norm of each head's vector."""
    model = family.hooked
    if family.name in ("qwen3", "gemma3", "olmo2"):
        pytest.skip("q and k are normed on the way")
    _, cache = model.run_with_cache(family.tokens, ["attn_in", "q", "k"])
    for site, weight, bias in (("q", model.W_Q, model.b_Q), ("k", model.W_K, model.b_K)):
        product = torch.einsum("bpm,hmd->bphd", cache["attn_in", 0], weight[0]) + bias[0]
        expected, actual = product.norm(dim=-1), cache[site, 0].norm(dim=-1)
        # Some scale: OPT q by 1/sqrt(d_head), gpt-oss both by its long-context factor.
        factor = actual[0, 0, 0] / expected[0, 0, 0] if family.name in ("opt", "gpt_oss") else 1.0
        close(factor * expected, actual, 1e-4)


def test_mlp_sites_are_products_with_the_mlp_weights(family):
    """Forbids W_in, W_gate or W_out that is transposed, or the wrong half of a fused one."""
    model = family.hooked
    if "mlp_post" not in model.sites:
        with pytest.raises(UnknownSiteError, match="W_out"):
            model.W_out[0]
        return
    _, cache = model.run_with_cache(family.tokens)
    for n in model.sites["mlp_post"]:
        mlp_in = cache["mlp_in", n]
        close(mlp_in @ model.W_in[n] + model.b_in[n], cache["mlp_pre", n])
        if model.cfg.gated:
            close(mlp_in @ model.W_gate[n] + model.b_gate[n], cache["mlp_gate", n])
        layer = model.spec.layers[n]
        if layer.mlp_out in ("mlp", layer.w_out, "ffn", "feed_forward"):
            product = cache["mlp_post", n] @ model.W_out[n] + model.b_out[n]
            close(layer.mlp_scale * product, cache["mlp_out", n])


def test_gates_go_through_the_non_linearity(family):
    """Forbids calling the linear branch the gate: with the gate at zero nothing comes out."""
    from lens_core.interventions import zero

    model = family.hooked
    if not model.cfg.gated:
        pytest.skip("no gate")
    _, cache = model.run_with_cache(
        family.tokens, [("mlp_gate", 1), ("mlp_pre", 1), ("mlp_post", 1)]
    )
    ratio = cache["mlp_post", 1] / cache["mlp_pre", 1]  # the non-linearity of the gate alone
    order = cache["mlp_gate", 1].flatten().sort().indices
    positive = cache["mlp_gate", 1].flatten()[order] > 0
    assert (ratio.flatten()[order][positive] > 0).all()
    _, cache = model.run_with_cache(family.tokens, [("mlp_post", 1)], [zero("mlp_gate", 1)])
    assert cache["mlp_post", 1].abs().max() == 0


def test_the_unembedding_is_w_u(family):
    """Forbids an unembedding that is transposed or lacks its bias."""
    model = family.hooked
    _, cache = model.run_with_cache(family.tokens, ["ln_final", "logits"])
    raw = cache["ln_final"] @ model.W_U + model.b_U
    if family.name in ("gemma2", "cohere2", "granite"):  # soft-cap and scales come after
        assert torch.equal(raw.argmax(-1), cache["logits"].argmax(-1))
    else:
        close(raw, cache["logits"])


def test_embeddings_are_rows_of_w_e_and_w_pos(family):
    """Forbids a W_pos with the rows that OPT keeps in front, and unscaled embeddings."""
    model = family.hooked
    _, cache = model.run_with_cache(family.tokens)
    rows = model.W_E[family.tokens]
    factor = (cache["embed"].norm() / rows.norm()).item()
    if family.name == "bloom":  # a norm follows
        return
    close(factor * rows, cache["embed"])
    if model.cfg.position_kind == "learned":
        close(model.W_pos[: family.tokens.shape[1]].expand(2, -1, -1), cache["pos_embed"])
    else:
        with pytest.raises(UnknownSiteError):
            _ = model.W_pos


def test_circuits_of_grouped_heads(family):
    """Forbids QK and OV that index key-value heads by query head (TransformerLens #1553)."""
    model = family.hooked
    group = model.cfg.n_heads // model.cfg.n_kv_heads
    for head in range(model.cfg.n_heads):
        ov, qk = model.OV(1, head), model.QK(1, head)
        assert ov.shape == qk.shape == (model.cfg.d_model, model.cfg.d_model)
        assert model.kv_head(head) == head // group
        close(ov.AB, model.W_V[1, head // group] @ model.W_O[1, head])
        close(qk.AB, model.W_Q[1, head] @ model.W_K[1, head // group].T)
    with pytest.raises(IndexError):
        model.kv_head(model.cfg.n_heads)


def test_accessors_share_memory_with_the_model(gpt2, llama):
    """Forbids copies of weights (TransformerLens: torch.stack of all layers at each access)."""
    for family in (gpt2, llama):
        model = family.hooked
        own = {p.untyped_storage().data_ptr() for p in model.hf_model.parameters()}
        for name in ("W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"):
            assert getattr(model, name)[1].untyped_storage().data_ptr() in own, name
        assert model.W_E.data_ptr() == model.hf_model.get_input_embeddings().weight.data_ptr()


def test_layer_weights_index_and_stack(gpt2):
    """Forbids off-by-one layers: indexing, negative layers and stacking agree."""
    weights = gpt2.hooked.W_Q
    assert len(weights) == 3
    assert weights.stack().shape == (3, 4, 32, 8)
    assert torch.equal(weights[-1], weights.stack()[2])
    assert torch.equal(weights[1, 2], weights.stack()[1, 2])
    with pytest.raises(IndexError):
        weights[3]


def random_factored(m=7, r=3, n=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return FactoredMatrix(
        torch.randn(m, r, generator=generator), torch.randn(r, n, generator=generator)
    )


def test_factored_matrix_agrees_with_the_product():
    """Forbids wrong algebra in the low-rank formulas for svd, norm, eigenvalues and trace."""
    f = random_factored()
    u, s, vh = f.svd()
    close(u @ torch.diag(s) @ vh, f.AB)
    close(s, torch.linalg.svdvals(f.AB)[:3])
    close(f.norm(), f.AB.norm())
    close(f.T.AB, f.AB.T)
    x = torch.randn(2, 7)
    close(f.apply(x), x @ f.AB)
    close((x @ f).AB, x @ f.AB)
    close((f @ torch.eye(5)).AB, f.AB)
    close((2.0 * f).AB, 2 * f.AB)
    square = random_factored(6, 3, 6)
    close((square @ square).AB, square.AB @ square.AB, 1e-4)
    close(square.trace(), square.AB.trace(), 1e-4)
    dense = torch.linalg.eigvals(square.AB).abs().sort(descending=True).values[:3]
    close(square.eigenvalues().abs().sort(descending=True).values, dense, 1e-4)


def test_factored_matrix_refuses_what_does_not_multiply():
    """Forbids silent broadcasting of factors that do not fit."""
    with pytest.raises(ValueError, match="multiply"):
        FactoredMatrix(torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="eigenvalues"):
        random_factored().eigenvalues()
