"""A random model whose states drift away from its head by a known affine map, and rows for it."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from lens_core import HookedModel
from lens_core.lens.corpus import Rows

N_CTX = 16


def drifted_model(seed: int = 0) -> HookedModel:
    """Two blocks; what the second adds is nearly an affine map, which a lens can learn."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=90,
        n_embd=24,
        n_layer=2,
        n_head=2,
        n_positions=32,
        bos_token_id=0,
        eos_token_id=0,
    )
    hf_model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        hf_model.transformer.wte.weight.normal_(std=0.4)
        mlp = hf_model.transformer.h[1].mlp
        mlp.c_fc.weight.normal_(std=0.15)
        mlp.c_proj.weight.normal_(std=0.15)
        # Far to the right a GELU is the identity, so that the block is nearly affine.
        mlp.c_fc.bias.fill_(3.0)
        mlp.c_proj.bias.normal_(std=0.3).sub_(3.0 * mlp.c_proj.weight.sum(0))
    return HookedModel.from_hf(hf_model, name="drifted", check=False)


def random_rows(n_rows: int, seed: int = 0, n_ctx: int = N_CTX) -> Rows:
    """Rows of random tokens, each a document of its own."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 90, (n_rows, n_ctx), generator=generator)
    return Rows.of(tokens, torch.arange(n_rows), 1.0, "random")
