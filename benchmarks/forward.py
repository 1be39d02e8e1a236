"""Forward pass, bare and with everything cached: lens_core, plain transformers and TransformerLens.

Run as `python -m benchmarks.forward`; see README.md beside this file.
"""

import argparse
import copy
import gc
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from benchmarks.report import interval, machine, table, write_section
from lens_core import HookedModel

PLAIN = "plain transformers, eager"
OURS, OURS_CACHED = "lens_core, taps idle", "lens_core, every site cached"
PEER, PEER_CACHED = "TransformerLens, no hooks", "TransformerLens, every hook cached"

Contender = Callable[[], object]


def peer(hf_model: GPT2LMHeadModel) -> TransformerBridge:
    """TransformerLens around a model that is there already, without asking the hub for anything.

    It reads its tokenizer from a folder a second time; no text goes through it here.
    """
    words = Tokenizer(models.WordLevel({"<bos>": 0, "word": 1}, unk_token="word"))
    made = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<bos>", eos_token="<bos>")
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return TransformerBridge.boot_transformers(
            "gpt2", hf_model=hf_model, tokenizer=tokenizer, device="cpu"
        )


def contenders(tokens: torch.Tensor) -> dict[str, Contender]:
    """One thunk a contender, over copies of one random model, checked to give the same logits."""
    torch.manual_seed(0)
    config = GPT2Config(architectures=["GPT2LMHeadModel"])
    plain = GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()
    plain.requires_grad_(False)
    ours = HookedModel.from_hf(copy.deepcopy(plain), name="gpt2-shapes")
    bridge = peer(copy.deepcopy(plain))
    made: dict[str, Contender] = {
        PLAIN: lambda: plain(tokens, use_cache=False).logits,
        OURS: lambda: ours.run(tokens),
        OURS_CACHED: lambda: ours.run_with_cache(tokens),
        PEER: lambda: bridge(tokens),
        PEER_CACHED: lambda: bridge.run_with_cache(tokens),
    }
    expected = plain(tokens, use_cache=False).logits
    for name, contender in made.items():
        result = contender()
        logits = result[0] if isinstance(result, tuple) else result
        difference = float((logits - expected).abs().max())
        if difference > 1e-3:
            raise SystemExit(f"{name} computes something else (difference {difference:.2g}).")
    return made


def measure(made: dict[str, Contender], rounds: int, seed: int) -> dict[str, list[float]]:
    """Milliseconds of each contender in each round; the order within a round is random."""
    shuffle = random.Random(seed)
    names = list(made)
    times: dict[str, list[float]] = {name: [] for name in made}
    for number in range(-3, rounds):  # three rounds to warm up
        shuffle.shuffle(names)
        for name in names:
            start = time.perf_counter()
            result = made[name]()
            elapsed_ms = 1000 * (time.perf_counter() - start)
            del result
            if number >= 0:
                times[name].append(elapsed_ms)
    return times


def rows(times: dict[str, list[float]], threads: int) -> list[list[str]]:
    written = []
    for name, values in times.items():
        ratios = [value / base for value, base in zip(values, times[PLAIN], strict=True)]
        low, high = interval(ratios)
        ratio = (
            "1" if name == PLAIN else f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"
        )
        written.append([str(threads), name, f"{statistics.median(values):.1f}", ratio])
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--dry-run", action="store_true", help="print the table, write no file")
    options = parser.parse_args()

    under = machine("torch", "transformers", "transformer-lens")
    torch.manual_seed(1)
    tokens = torch.randint(0, GPT2Config().vocab_size, (1, options.tokens))
    collected: list[list[str]] = []
    with torch.no_grad():
        made = contenders(tokens)
        gc.collect()
        gc.freeze()  # a collection in the middle of one contender's turn is not its own cost
        for threads in options.threads:
            torch.set_num_threads(threads)
            collected += rows(measure(made, options.rounds, seed=threads), threads)
    text = "\n\n".join(
        [
            f"GPT-2-small shapes, random weights, float32, {options.tokens} tokens, "
            f"{options.rounds} rounds, interleaved. {under}",
            table(
                ["threads", "contender", "median ms", "ratio to plain (95% interval)"], collected
            ),
        ]
    )
    print(text)
    if not options.dry_run:
        write_section("Forward pass", text)


if __name__ == "__main__":
    main()
