"""Direct logit attribution and head ablation: the same values as TransformerLens, and how fast.

Run as `python -m benchmarks.attribution_parity`; see README.md beside this file.
"""

import argparse
import copy
import logging
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    PreTrainedTokenizerFast,
)

from benchmarks.report import interval, machine, table, write_section
from lens_core import HookedModel
from lens_core.attribution import DirectAttribution, ablate_each_head, direct_logit_attribution

TARGET, FOIL = 5, 7
_SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 200,
    "max_position_embeddings": 64,
}
_GROUPED = {**_SMALL, "num_key_value_heads": 2}
_GPT2 = {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 200, "n_positions": 64}
# Model type, the name under which TransformerLens knows the family, and a small config.
FAMILIES: dict[str, tuple[str, dict[str, int]]] = {
    "gpt2": ("gpt2", _GPT2),
    "llama": ("meta-llama/Llama-3.2-1B", _GROUPED),
    "gpt_neox": ("EleutherAI/pythia-70m", _SMALL),
    "phi": ("microsoft/phi-1", _SMALL),
    "qwen3": ("Qwen/Qwen3-0.6B", {**_GROUPED, "head_dim": 16}),
    "gemma2": ("google/gemma-2-2b", {**_GROUPED, "head_dim": 16}),
}
Values = np.ndarray[Any, Any]


def build(model_type: str, options: dict[str, Any]) -> Any:
    """A random model whose biases and norms are not trivial, so that a lost one shows."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **options)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    model.config.architectures = [type(model).__name__]
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model.requires_grad_(False)


def peer(hf_model: Any, name: str) -> TransformerBridge:
    """TransformerLens, its norms folded as its attribution needs them, its value biases kept."""
    words = Tokenizer(models.WordLevel({"<bos>": 0, "word": 1}, unk_token="word"))
    made = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<bos>", eos_token="<bos>")
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        bridge = TransformerBridge.boot_transformers(
            name, hf_model=hf_model, tokenizer=tokenizer, device="cpu"
        )
    bridge.enable_compatibility_mode(disable_warnings=True, fold_value_biases=False)
    return bridge


def peer_attribution(bridge: TransformerBridge, tokens: torch.Tensor) -> tuple[Values, Values]:
    """By head [layer, head], and by component in the order of the network."""
    _, cache = bridge.run_with_cache(tokens)
    ids = {"tokens": torch.tensor(TARGET), "incorrect_tokens": torch.tensor(FOIL)}
    heads = cache.logit_attrs(cache.stack_head_results(pos_slice=-1), pos_slice=-1, **ids)
    parts = cache.logit_attrs(cache.decompose_resid(pos_slice=-1), pos_slice=-1, **ids)
    shape = (bridge.cfg.n_layers, bridge.cfg.n_heads)
    return heads.reshape(shape).numpy(), parts.flatten().numpy()


def peer_ablation(bridge: TransformerBridge, tokens: torch.Tensor) -> Values:
    """The change of the logit difference when each head's z is zeroed, one run a head."""

    def value(hooks: list[Any]) -> float:
        logits = bridge.run_with_hooks(tokens, fwd_hooks=hooks)[0, -1]
        return float(logits[TARGET] - logits[FOIL])

    def zeroed(head: int) -> Callable[..., torch.Tensor]:
        def hook(z: torch.Tensor, hook: object) -> torch.Tensor:
            z = z.clone()
            z[:, :, head] = 0
            return z

        return hook

    before = value([])
    return np.array(
        [
            [value([(f"blocks.{n}.attn.hook_z", zeroed(h))]) for h in range(bridge.cfg.n_heads)]
            for n in range(bridge.cfg.n_layers)
        ]
    ) - np.float64(before)


def components(found: DirectAttribution) -> Values:
    """Without the constants, which TransformerLens's decomposition leaves out."""
    constants = ("norm bias", "unembed bias", "soft cap")
    return np.array([v for name, v in found.by_component.items() if name not in constants])


def unexplained(heads: Values, attention: Values, found: DirectAttribution) -> float:
    """How far the heads of a layer and its bias are from what its attention adds."""
    bias = [part.value for part in found.parts if part.kind == "attn_bias"]
    return float(np.abs(heads.sum(1) + bias - attention).max())


def parity_rows() -> list[list[str]]:
    """The largest differences in each family."""
    written = []
    tokens = torch.randint(2, 200, (1, 12), generator=torch.Generator().manual_seed(1))
    for model_type, (name, options) in FAMILIES.items():
        plain = build(model_type, options)
        ours = HookedModel.from_hf(copy.deepcopy(plain), name=model_type)
        bridge = peer(copy.deepcopy(plain), name)
        found = direct_logit_attribution(ours, tokens, TARGET, FOIL)
        heads, parts = peer_attribution(bridge, tokens)
        effects = ablate_each_head(ours, tokens, TARGET, FOIL).total_effect
        attention = parts[-2 * found.n_layers :: 2]
        figures = [
            np.abs(heads - found.by_head).max(),
            np.abs(parts - components(found)).max(),
            np.abs(peer_ablation(bridge, tokens) - effects).max(),
            found.relative_residual,
            unexplained(found.by_head, attention, found),
            unexplained(heads, attention, found),
        ]
        written.append([model_type, *(f"{figure:.1e}" for figure in figures)])
    return written


def timing_rows(rounds: int, ablation_rounds: int, n_tokens: int) -> list[list[str]]:
    """Both on GPT-2-small shapes; every round times both, in a random order."""
    plain = build("gpt2", {})
    ours = HookedModel.from_hf(copy.deepcopy(plain), name="gpt2-shapes")
    bridge = peer(plain, "gpt2")
    torch.manual_seed(1)
    tokens = torch.randint(0, GPT2Config().vocab_size, (1, n_tokens))
    tasks: dict[str, tuple[int, Callable[[], object], Callable[[], object]]] = {
        "every head and component attributed": (
            rounds,
            lambda: direct_logit_attribution(ours, tokens, TARGET, FOIL),
            lambda: peer_attribution(bridge, tokens),
        ),
        "each of 144 heads zero-ablated": (
            ablation_rounds,
            lambda: ablate_each_head(ours, tokens, TARGET, FOIL),
            lambda: peer_ablation(bridge, tokens),
        ),
    }
    return [[task, *_paired(*options)] for task, options in tasks.items()]


def _paired(rounds: int, ours: Callable[[], object], theirs: Callable[[], object]) -> list[str]:
    shuffle = random.Random(0)
    times: dict[int, list[float]] = {0: [], 1: []}
    order = [0, 1]
    for number in range(-1, rounds):  # one round to warm up
        shuffle.shuffle(order)
        for which in order:
            start = time.perf_counter()
            (ours, theirs)[which]()
            if number >= 0:
                times[which].append(1000 * (time.perf_counter() - start))
    ratios = [peer_ms / own_ms for own_ms, peer_ms in zip(times[0], times[1], strict=True)]
    low, high = interval(ratios)
    medians = [f"{statistics.median(times[which]):.0f}" for which in (0, 1)]
    return [str(rounds), *medians, f"{statistics.median(ratios):.1f} ({low:.1f} to {high:.1f})"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--ablation-rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--dry-run", action="store_true", help="print the tables, write no file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    under = machine("torch", "transformers", "transformer-lens")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    text = "\n\n".join(
        [
            "Small random models, float32, one logit difference; the largest difference of any "
            f"head, component or effect, in logits. {under}",
            table(
                [
                    "family",
                    "per head",
                    "per component",
                    "zero ablation of each head",
                    "our residual, relative",
                    "our heads + bias less what attention adds",
                    "TransformerLens's heads + bias less that",
                ],
                parity_rows(),
            ),
            "Gemma 2 has a norm between its heads and the residual stream. Ours are what is added; "
            "TransformerLens takes heads from before that norm, so they differ and do not add up.",
            f"GPT-2-small shapes, random weights, float32, {options.tokens} tokens, one thread, "
            "interleaved:",
            table(
                ["task", "rounds", "lens_core, median ms", "TransformerLens, median ms", "ratio"],
                timing_rows(options.rounds, options.ablation_rounds, options.tokens),
            ),
        ]
    )
    print(text)
    if not options.dry_run:
        write_section("Attribution", text)


if __name__ == "__main__":
    main()
