"""A question and a small corpus of random tokens, for the tiny random families."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lens_core import HookedModel


@pytest.fixture
def corpus() -> list[torch.Tensor]:
    """Prompts of different lengths; the shortest is shorter than the families' own prompt."""
    return [
        torch.randint(1, 120, (1, length), generator=torch.Generator().manual_seed(length))
        for length in (9, 12, 11, 5)
    ]


@pytest.fixture(scope="session")
def capped() -> HookedModel:
    """Gemma 2 with post-norms, and a soft-cap low enough to bend the logits."""
    torch.manual_seed(3)
    config = AutoConfig.for_model(
        "gemma2",
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=64,
        vocab_size=120,
        max_position_embeddings=64,
        pad_token_id=0,
        final_logit_softcapping=0.6,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    model.requires_grad_(False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return HookedModel.from_hf(model, name="gemma2-capped")
