"""Published architecture figures of the models in the catalogue, as config values.

Each row is what the model's own config.json states; transformers' defaults stand for what is not
written.
"""

from typing import Any

GPT2 = "gpt2"
NEO, NEOX, OPT, LLAMA, QWEN2, QWEN3 = "gpt_neo", "gpt_neox", "opt", "llama", "qwen2", "qwen3"


def _gpt2(layers: int, width: int, heads: int) -> tuple[str, dict[str, Any]]:
    return GPT2, {"n_layer": layers, "n_embd": width, "n_head": heads}


def _neo(layers: int, width: int, heads: int) -> tuple[str, dict[str, Any]]:
    pattern = (["global", "local"] * layers)[:layers]
    return NEO, {
        "num_layers": layers,
        "hidden_size": width,
        "num_heads": heads,
        "attention_types": [[[kind], 1] for kind in pattern],
    }


def _pythia(layers: int, width: int, heads: int, vocab: int = 50304) -> tuple[str, dict[str, Any]]:
    return NEOX, {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "vocab_size": vocab,
        "tie_word_embeddings": False,
    }


def _opt(layers: int, width: int, heads: int, **more: Any) -> tuple[str, dict[str, Any]]:
    return OPT, {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "ffn_dim": 4 * width,
        "vocab_size": 50272,
        "word_embed_proj_dim": more.pop("word_embed_proj_dim", width),
        **more,
    }


def _gated(
    kind: str,
    layers: int,
    width: int,
    heads: int,
    kv_heads: int,
    mlp: int,
    vocab: int,
    tied: bool,
    **more: Any,
) -> tuple[str, dict[str, Any]]:
    """The Llama shape: RMS norm, grouped-query attention, gated MLP."""
    return kind, {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": mlp,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        **more,
    }


def _bloom(layers: int, width: int, heads: int) -> tuple[str, dict[str, Any]]:
    return "bloom", {
        "n_layer": layers,
        "hidden_size": width,
        "n_head": heads,
        "vocab_size": 250880,
    }


ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "distilgpt2": _gpt2(6, 768, 12),
    "gpt2": _gpt2(12, 768, 12),
    "gpt2-medium": _gpt2(24, 1024, 16),
    "gpt2-large": _gpt2(36, 1280, 20),
    "gpt2-xl": _gpt2(48, 1600, 25),
    "roneneldan/TinyStories-1M": _neo(8, 64, 16),
    "roneneldan/TinyStories-3M": _neo(8, 128, 16),
    "roneneldan/TinyStories-8M": _neo(8, 256, 16),
    "roneneldan/TinyStories-28M": _neo(8, 512, 16),
    "roneneldan/TinyStories-33M": _neo(4, 768, 16),
    "roneneldan/TinyStories-1Layer-21M": _neo(1, 1024, 16),
    "roneneldan/TinyStories-2Layers-33M": _neo(2, 1024, 16),
    "EleutherAI/gpt-neo-125m": _neo(12, 768, 12),
    "EleutherAI/gpt-neo-1.3B": _neo(24, 2048, 16),
    "EleutherAI/gpt-neo-2.7B": _neo(32, 2560, 20),
    "EleutherAI/pythia-14m": _pythia(6, 128, 4),
    "EleutherAI/pythia-31m": _pythia(6, 256, 8),
    "EleutherAI/pythia-70m": _pythia(6, 512, 8),
    "EleutherAI/pythia-160m": _pythia(12, 768, 12),
    "EleutherAI/pythia-410m": _pythia(24, 1024, 16),
    "EleutherAI/pythia-1b": _pythia(16, 2048, 8),
    "EleutherAI/pythia-1.4b": _pythia(24, 2048, 16),
    "EleutherAI/pythia-2.8b": _pythia(32, 2560, 32),
    "EleutherAI/pythia-6.9b": _pythia(32, 4096, 32, vocab=50432),
    "EleutherAI/pythia-12b": _pythia(36, 5120, 40, vocab=50688),
    "EleutherAI/gpt-neox-20b": _pythia(44, 6144, 64, vocab=50432),
    "EleutherAI/gpt-j-6b": (
        "gptj",
        {
            "n_layer": 28,
            "n_embd": 4096,
            "n_head": 16,
            "vocab_size": 50400,
            "tie_word_embeddings": False,
        },
    ),
    "facebook/opt-125m": _opt(12, 768, 12),
    "facebook/opt-350m": _opt(24, 1024, 16, word_embed_proj_dim=512, do_layer_norm_before=False),
    "facebook/opt-1.3b": _opt(24, 2048, 32),
    "facebook/opt-2.7b": _opt(32, 2560, 32),
    "facebook/opt-6.7b": _opt(32, 4096, 32),
    "bigscience/bloom-560m": _bloom(24, 1024, 16),
    "bigscience/bloom-1b1": _bloom(24, 1536, 16),
    "bigscience/bloom-1b7": _bloom(24, 2048, 16),
    "bigscience/bloom-3b": _bloom(30, 2560, 32),
    "tiiuae/falcon-rw-1b": (
        "falcon",
        {
            "num_hidden_layers": 24,
            "hidden_size": 2048,
            "num_attention_heads": 32,
            "vocab_size": 50304,
            "alibi": True,
            "bias": True,
            "multi_query": False,
            "parallel_attn": False,
        },
    ),
    "tiiuae/falcon-7b": (
        "falcon",
        {
            "num_hidden_layers": 32,
            "hidden_size": 4544,
            "num_attention_heads": 71,
            "vocab_size": 65024,
            "bias": False,
            "multi_query": True,
            "parallel_attn": True,
        },
    ),
    "HuggingFaceTB/SmolLM2-135M": _gated(LLAMA, 30, 576, 9, 3, 1536, 49152, True),
    "HuggingFaceTB/SmolLM2-360M": _gated(LLAMA, 32, 960, 15, 5, 2560, 49152, True),
    "HuggingFaceTB/SmolLM2-1.7B": _gated(LLAMA, 24, 2048, 32, 32, 8192, 49152, True),
    "TinyLlama/TinyLlama_v1.1": _gated(LLAMA, 22, 2048, 32, 4, 5632, 32000, False),
    "meta-llama/Llama-3.2-1B": _gated(LLAMA, 16, 2048, 32, 8, 8192, 128256, True),
    "meta-llama/Llama-3.2-3B": _gated(LLAMA, 28, 3072, 24, 8, 8192, 128256, True),
    "meta-llama/Llama-3.1-8B": _gated(LLAMA, 32, 4096, 32, 8, 14336, 128256, False),
    "Qwen/Qwen2.5-0.5B": _gated(QWEN2, 24, 896, 14, 2, 4864, 151936, True),
    "Qwen/Qwen2.5-1.5B": _gated(QWEN2, 28, 1536, 12, 2, 8960, 151936, True),
    "Qwen/Qwen2.5-3B": _gated(QWEN2, 36, 2048, 16, 2, 11008, 151936, True),
    "Qwen/Qwen2.5-7B": _gated(QWEN2, 28, 3584, 28, 4, 18944, 152064, False),
    "Qwen/Qwen3-0.6B-Base": _gated(QWEN3, 28, 1024, 16, 8, 3072, 151936, True, head_dim=128),
    "Qwen/Qwen3-1.7B-Base": _gated(QWEN3, 28, 2048, 16, 8, 6144, 151936, True, head_dim=128),
    "Qwen/Qwen3-4B-Base": _gated(QWEN3, 36, 2560, 32, 8, 9728, 151936, True, head_dim=128),
    "Qwen/Qwen3-8B-Base": _gated(QWEN3, 36, 4096, 32, 8, 12288, 151936, False, head_dim=128),
    "google/gemma-2b": _gated("gemma", 18, 2048, 8, 1, 16384, 256000, True, head_dim=256),
    "google/gemma-2-2b": _gated("gemma2", 26, 2304, 8, 4, 9216, 256000, True, head_dim=256),
    "google/gemma-2-9b": _gated("gemma2", 42, 3584, 16, 8, 14336, 256000, True, head_dim=256),
    "google/gemma-3-270m": _gated("gemma3_text", 18, 640, 4, 1, 2048, 262144, True, head_dim=256),
    "google/gemma-3-1b-pt": _gated("gemma3_text", 26, 1152, 4, 1, 6912, 262144, True, head_dim=256),
    "microsoft/phi-1_5": (
        "phi",
        {
            "num_hidden_layers": 24,
            "hidden_size": 2048,
            "num_attention_heads": 32,
            "intermediate_size": 8192,
            "vocab_size": 51200,
        },
    ),
    "microsoft/phi-2": (
        "phi",
        {
            "num_hidden_layers": 32,
            "hidden_size": 2560,
            "num_attention_heads": 32,
            "intermediate_size": 10240,
            "vocab_size": 51200,
        },
    ),
    "microsoft/Phi-3-mini-4k-instruct": _gated("phi3", 32, 3072, 32, 32, 8192, 32064, False),
    "allenai/OLMo-2-0425-1B": _gated("olmo2", 16, 2048, 16, 16, 8192, 100352, False),
    "allenai/OLMo-2-1124-7B": _gated("olmo2", 32, 4096, 32, 32, 11008, 100352, False),
    "mistralai/Mistral-7B-v0.1": _gated("mistral", 32, 4096, 32, 8, 14336, 32000, False),
    "mistralai/Mixtral-8x7B-v0.1": _gated("mixtral", 32, 4096, 32, 8, 14336, 32000, False),
    "bigcode/starcoder2-3b": _gated("starcoder2", 30, 3072, 24, 2, 12288, 49152, True),
    "ibm-granite/granite-3.1-2b-base": _gated("granite", 40, 2048, 32, 8, 8192, 49152, True),
    "stabilityai/stablelm-2-1_6b": _gated(
        "stablelm", 24, 2048, 32, 32, 5632, 100352, False, use_qkv_bias=True
    ),
    "openai/gpt-oss-20b": _gated(
        "gpt_oss", 24, 2880, 64, 8, 2880, 201088, False, head_dim=64, num_local_experts=32
    ),
}
