"""Fixtures that every test may use: tiny random models of many families, and the shipped model."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lens_core import HookedModel

_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 120,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_GQA = {**_SMALL, "num_key_value_heads": 2}
_GQA_WIDE = {**_GQA, "head_dim": 16}  # heads times d_head is not d_model
_GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 120, "n_positions": 64}
_WINDOW = {"sliding_window": 4}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}

# name: (model type, config). Random weights, no network; every kind of storage and block.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", _GPT2),
    "gpt2-upcast": ("gpt2", {**_GPT2, "reorder_and_upcast_attn": True}),
    "gpt_neo": (
        "gpt_neo",
        {
            "hidden_size": 32,
            "num_layers": 4,
            "num_heads": 4,
            "vocab_size": 120,
            "attention_types": [[["global", "local"], 2]],
            "window_size": 4,
            "max_position_embeddings": 64,
        },
    ),
    "gpt_neox": ("gpt_neox", _SMALL),
    "gpt_neox-sequential": ("gpt_neox", {**_SMALL, "use_parallel_residual": False}),
    "gptj": ("gptj", {**_GPT2, "rotary_dim": 4}),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 3, "n_head": 4, "vocab_size": 120}),
    "falcon": ("falcon", _SMALL),
    "falcon-grouped": (
        "falcon",
        {**_SMALL, "new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    "falcon-alibi": (
        "falcon",
        {**_SMALL, "alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
    ),
    "opt": ("opt", {**_SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "llama": ("llama", _GQA),
    "mistral": ("mistral", {**_GQA_WIDE, **_WINDOW}),
    "mixtral": ("mixtral", {**_GQA, **_EXPERTS}),
    "gemma": ("gemma", _GQA_WIDE),
    "gemma2": ("gemma2", {**_GQA_WIDE, **_WINDOW}),
    "gemma3": ("gemma3_text", {**_GQA_WIDE, **_WINDOW}),
    "qwen2": ("qwen2", _GQA),
    "qwen3": ("qwen3", _GQA_WIDE),
    "phi": ("phi", _SMALL),
    "phi3": ("phi3", _GQA),
    "olmo2": ("olmo2", _SMALL),
    "starcoder2": ("starcoder2", _GQA),
    "granite": (
        "granite",
        {**_GQA, "residual_multiplier": 0.22, "embedding_multiplier": 12.0, "logits_scaling": 4.0},
    ),
    "cohere2": ("cohere2", {**_GQA, **_WINDOW}),
    "gpt_oss": ("gpt_oss", {**_GQA_WIDE, **_EXPERTS, **_WINDOW}),
    # Not named in the plan: these work by discovery alone.
    "stablelm": ("stablelm", _GQA),
    "glm4": ("glm4", _GQA_WIDE),
    "smollm3": ("smollm3", _GQA),
    "gpt_bigcode": ("gpt_bigcode", _GPT2),
    "mpt": (
        "mpt",
        {"d_model": 32, "n_layers": 3, "n_heads": 4, "vocab_size": 120, "max_seq_len": 64},
    ),
}


@dataclass(frozen=True)
class Family:
    """One tiny random model, hooked, beside an untouched copy of it."""

    name: str
    hooked: HookedModel
    plain: Any
    tokens: torch.Tensor

    def __repr__(self) -> str:
        return self.name


_BUILT: dict[str, Family] = {}


def build_family(name: str) -> Family:
    """The model of a family; the same object every time in one test run."""
    if name not in _BUILT:
        model_type, options = FAMILIES[name]
        torch.manual_seed(0)
        config = AutoConfig.for_model(model_type, **options)
        plain = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        plain.requires_grad_(False)
        with torch.no_grad():
            # Fresh models have zero biases, unit norms and tiny weights, which hide mistakes.
            for parameter in plain.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        hooked = HookedModel.from_hf(copy.deepcopy(plain), name=name)
        tokens = torch.randint(1, 120, (2, 9), generator=torch.Generator().manual_seed(1))
        _BUILT[name] = Family(name, hooked, plain, tokens)
    return _BUILT[name]


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> Family:
    """Every family in turn."""
    return build_family(request.param)


@pytest.fixture
def family_named() -> Callable[[str], Family]:
    """Any family by name."""
    return build_family


@pytest.fixture
def gpt2() -> Family:
    """A sequential model with fused, biased Conv1D projections."""
    return build_family("gpt2")


@pytest.fixture
def llama() -> Family:
    """A model with gated MLPs, rotary embedding and grouped-query attention."""
    return build_family("llama")


@pytest.fixture(scope="session")
def tiny_world() -> HookedModel:
    """The shipped model."""
    return HookedModel.from_pretrained("tiny-world")
