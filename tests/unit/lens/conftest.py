"""Small random models of families whose heads differ, with a tokenizer made on the spot."""

from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Cohere2Config,
    Gemma2Config,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from lens_core import HookedModel

SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
GPT2 = {"vocab_size": 300, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
CONFIGS = {
    "gpt2": lambda: GPT2Config(**GPT2, bos_token_id=0, eos_token_id=0),
    "llama": lambda: LlamaConfig(**SMALL),
    # Soft-capped logits, scaled logits, a bias in the head, parallel residual: each changes what
    # the last step of the model is, and the lens must do just that step.
    "gemma2": lambda: Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=5.0),
    "cohere2": lambda: Cohere2Config(**SMALL, head_dim=8, logit_scale=0.25),
    "gptj": lambda: GPTJConfig(**GPT2, rotary_dim=4, bos_token_id=0, eos_token_id=0),
    "gpt_neox": lambda: GPTNeoXConfig(
        **{k: v for k, v in SMALL.items() if k != "num_key_value_heads"}, use_parallel_residual=True
    ),
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """BOS, then one token a byte; the rest of the vocabulary of 300 has no name."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<bos>": 0} | {letter: 1 + i for i, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<bos>")


def build(family: str) -> HookedModel:
    """A random model of that family whose guesses are far from uniform."""
    torch.manual_seed(0)
    hf_model = AutoModelForCausalLM.from_config(CONFIGS[family]()).eval()
    with torch.no_grad():
        for name, parameter in hf_model.named_parameters():
            # As they are made, biases are 0 and norms 1, and a lens that forgets them would pass.
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif "embed" in name or "wte" in name or "lm_head" in name:
                parameter.normal_(std=0.5)
    return HookedModel.from_hf(hf_model, byte_tokenizer(), name=f"random-{family}")


@pytest.fixture(scope="session")
def random_model() -> Callable[[str], HookedModel]:
    """``random_model("gpt2")``: built once a session."""
    built: dict[str, HookedModel] = {}

    def get(family: str) -> HookedModel:
        if family not in built:
            built[family] = build(family)
        return built[family]

    return get


@pytest.fixture
def gpt2(random_model: Callable[[str], HookedModel]) -> HookedModel:
    """The random GPT-2."""
    return random_model("gpt2")
