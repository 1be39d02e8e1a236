"""Files and figures against the `tuned-lens` 0.2.0 package itself.

Skipped where it is not installed; its pins are old, so it gets an environment of its own:
``pip install -r requirements.txt -r requirements-dev.txt && pip install --no-deps
tuned-lens==0.2.0`` and then ``pytest tests/parity/test_tuned_lens.py``.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig

from lens_core import HookedModel
from lens_core.lens import LogitLens, TunedLens, read_lens
from lens_core.lens.corpus import Rows
from lens_core.lens.evaluate import MODEL, evaluate_lenses, layer_transfer
from lens_core.lens.formats import load_lens, save_tuned_lens_package

theirs = pytest.importorskip("tuned_lens", reason="the tuned-lens package is not installed")
lenses = pytest.importorskip("tuned_lens.nn.lenses")

LAYERS, WIDTH, VOCAB = 3, 32, 120
SMALL = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": VOCAB,
    "max_position_embeddings": 64,
}
CONFIGS = {
    "gpt2": GPT2Config(
        n_embd=WIDTH, n_layer=LAYERS, n_head=4, vocab_size=VOCAB, n_positions=64, bos_token_id=0
    ),
    "gpt_neox": GPTNeoXConfig(**SMALL, bos_token_id=0),
    "llama": LlamaConfig(**SMALL, bos_token_id=0),
}


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> HookedModel:
    """A random model far from uniform guesses."""
    torch.manual_seed(0)
    hf_model = AutoModelForCausalLM.from_config(CONFIGS[request.param]).eval()
    with torch.no_grad():
        for parameter in hf_model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return HookedModel.from_hf(hf_model, name=f"random-{request.param}")


@pytest.fixture
def rows() -> Rows:
    """Six rows, each a document."""
    tokens = torch.randint(0, VOCAB, (6, 40), generator=torch.Generator().manual_seed(1))
    return Rows.of(tokens, torch.arange(6), 1.0, "random")


@pytest.fixture
def lens() -> TunedLens:
    """Translators that matter."""
    torch.manual_seed(2)
    weight = 0.1 * torch.randn(LAYERS, WIDTH, WIDTH)
    return TunedLens(weight, 0.5 * torch.randn(LAYERS, WIDTH), "random")


@torch.no_grad()
def their_figures(hf_model, lens, rows: Rows) -> dict[str, np.ndarray]:
    """Mean KL, entropy and cross-entropy at every layer, as the package's evaluation makes them."""
    output = hf_model(rows.tokens, output_hidden_states=True)
    final = output.logits.log_softmax(-1)
    found: dict[str, list[float]] = {"kl_nats": [], "entropy_nats": [], "ce_nats": []}
    for layer, hidden in enumerate(output.hidden_states[:-1]):
        said = lens(hidden, idx=layer).log_softmax(-1)
        found["kl_nats"].append(float((final.exp() * (final - said)).sum(-1).mean()))
        found["entropy_nats"].append(float(-(said.exp() * said).sum(-1).mean()))
        of_next = said[:, :-1].gather(-1, rows.tokens[:, 1:, None])
        found["ce_nats"].append(float(-of_next.mean()))
    return {name: np.array(values) for name, values in found.items()}


def test_the_package_loads_what_is_written_here(
    model: HookedModel, lens: TunedLens, rows: Rows, tmp_path: Path
) -> None:
    """Forbids files that only look like the package's, and figures that mean something else."""
    folder = save_tuned_lens_package(lens, tmp_path / "lens")
    loaded = lenses.TunedLens.from_model_and_pretrained(model.hf_model, str(folder))
    logit = lenses.LogitLens.from_model(model.hf_model)
    ours = evaluate_lenses(
        model, {"tuned": lens, "logit": LogitLens()}, rows, positions="all", n_bootstrap=0
    )
    for name, their_lens in (("tuned", loaded), ("logit", logit)):
        for figure, expected in their_figures(model.hf_model, their_lens, rows).items():
            found = ours.estimate(name, figure).mean
            np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0, err_msg=figure)
    assert ours.estimate("tuned", "kl_nats").mean.min() > 0.05
    assert ours.estimate(MODEL, "kl_nats").mean.max() < 1e-5


def test_what_the_package_writes_loads_here(model: HookedModel, rows: Rows, tmp_path: Path) -> None:
    """Forbids a published lens that is read transposed, one layer off, or without its delta."""
    torch.manual_seed(3)
    their_lens = lenses.TunedLens.from_model(model.hf_model)
    with torch.no_grad():
        for parameter in their_lens.layer_translators.parameters():
            parameter.normal_(std=0.1)
    their_lens.save(tmp_path / "published")
    lens = load_lens(tmp_path / "published", model)
    assert isinstance(lens, TunedLens)
    ours = evaluate_lenses(model, {"tuned": lens}, rows, positions="all", n_bootstrap=0)
    expected = their_figures(model.hf_model, their_lens, rows)["kl_nats"]
    np.testing.assert_allclose(ours.estimate("tuned", "kl_nats").mean, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_layer_transfer_has_their_axes(model: HookedModel, lens: TunedLens, rows: Rows) -> None:
    """Forbids a transposed matrix, or a KL from the model where theirs is between translators."""
    found = layer_transfer(model, lens, rows, positions="all")
    hidden = model.hf_model(rows.tokens, output_hidden_states=True).hidden_states
    head = lenses.LogitLens.from_model(model.hf_model)

    def said(translator: int, state: int) -> torch.Tensor:
        h = hidden[state]
        h = h + h @ lens.weight[translator].T + lens.bias[translator]
        return head(h, 0).log_softmax(-1)

    own, other = said(2, 2), said(0, 2)
    kl = float((own.exp() * (own - other)).sum(-1).mean())
    ce = -float(other[:, :-1].gather(-1, rows.tokens[:, 1:, None]).mean())
    assert found.kl_nats[0, 2] == pytest.approx(kl, abs=1e-4)
    assert found.ce_nats[0, 2] == pytest.approx(ce, abs=1e-4)


def test_the_trajectory_of_a_prompt(model: HookedModel, lens: TunedLens, tmp_path: Path) -> None:
    """Forbids a grid whose rows are another layer's than those of the package's trajectory."""
    folder = save_tuned_lens_package(lens, tmp_path / "lens")
    loaded = lenses.TunedLens.from_model_and_pretrained(model.hf_model, str(folder))
    tokens = torch.randint(0, VOCAB, (1, 20), generator=torch.Generator().manual_seed(4))
    ours = read_lens(model, tokens, lens, site="resid_pre")
    expected = their_figures(model.hf_model, loaded, Rows.of(tokens, torch.zeros(1), 1.0, "prompt"))
    np.testing.assert_allclose(ours.kl_nats.mean(1)[:LAYERS], expected["kl_nats"], atol=1e-4)
    np.testing.assert_allclose(
        ours.entropy_nats.mean(1)[:LAYERS], expected["entropy_nats"], atol=1e-4
    )
