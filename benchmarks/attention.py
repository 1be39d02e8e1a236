"""Head scores and composition scores: lens_core and TransformerLens on the same random weights.

Run as `python -m benchmarks.attention`; see README.md beside this file.
"""

import argparse
import copy
import ctypes
import gc
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformer_lens.FactoredMatrix import FactoredMatrix as PeerFactored
from transformer_lens.head_detector import detect_head
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from benchmarks.report import interval, machine, table, write_section
from lens_core import HookedModel
from lens_core.attention import (
    PATTERN_SCORES,
    composition_scores,
    copying_eigenvalues,
    head_scores,
    read_attention,
    repeated_random_tokens,
)

N_SEQUENCES, HALF = 32, 25
# Our score, their detector, and how many of the 1 + 2 * 25 queries our mean is over: theirs divides
# by all of them.
DETECTORS = (
    ("previous_token", "previous_token_head", 2 * HALF),
    ("duplicate_token", "duplicate_token_head", HALF),
    ("induction", "induction_head", HALF),
)
EACH = "TransformerLens, detect_head for each of its three detectors"
SHARED = "TransformerLens, the same with one cached run a sequence"
OURS_SAME = "lens_core, the same three scores"
OURS_PATTERNS = "lens_core, all eight scores of patterns"
OURS_ALL = "lens_core, all ten scores, copying read from W_E"
PEER_COMPOSITION = "TransformerLens, all_composition_scores for Q, K and V"
OUR_COMPOSITION = "lens_core, composition_scores, the random baseline included"
ROLES = (PEER_COMPOSITION, OUR_COMPOSITION)

Contender = Callable[[], Any]


def random_model() -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
    """GPT-2-small's shape with random weights, norms and biases too, and a tokenizer of words."""
    torch.manual_seed(0)
    config = GPT2Config(architectures=["GPT2LMHeadModel"], bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:  # norms of 1 and biases of 0 would hide what is not folded in
            parameter.add_(0.1 * torch.randn_like(parameter))
        elif "c_attn" in name:  # patterns that are not all but even
            parameter.mul_(4.0)
    words = {"<bos>": 0} | {f"w{i}": i for i in range(1, config.vocab_size)}
    made = Tokenizer(models.WordLevel(words, unk_token="<bos>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return model, PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", eos_token="<bos>"
    )


def peer(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> TransformerBridge:
    """TransformerLens around a copy of the model; it reads its tokenizer from a folder."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        read = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return TransformerBridge.boot_transformers(
            "gpt2", hf_model=copy.deepcopy(model), tokenizer=read, device="cpu"
        )


def ours(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> HookedModel:
    """This library around a copy of the model."""
    return HookedModel.from_hf(
        copy.deepcopy(model), tokenizer, name="gpt2-shapes", prepend_bos=True
    )


def detected(bridge: TransformerBridge, texts: list[str], shared: bool) -> dict[str, torch.Tensor]:
    """Their three scores of all heads, over all sequences."""
    if not shared:
        return {name: detect_head(bridge, texts, detector) for name, detector, _ in DETECTORS}
    sums: dict[str, list[torch.Tensor]] = {name: [] for name, _, _ in DETECTORS}
    for text in texts:
        _, cache = bridge.run_with_cache(text, remove_batch_dim=True)
        for name, detector, _ in DETECTORS:
            sums[name].append(detect_head(bridge, text, detector, cache=cache))
    return {name: torch.stack(parts).mean(0) for name, parts in sums.items()}


def score_contenders(hooked: HookedModel, bridge: TransformerBridge) -> dict[str, Contender]:
    """What is timed, after a check that both compute the same."""
    tokens = repeated_random_tokens(hooked, n_sequences=N_SEQUENCES, half=HALF)
    texts = [" ".join(f"w{i}" for i in row[1:].tolist()) for row in tokens]
    if not torch.equal(bridge.to_tokens(texts), tokens):
        raise SystemExit("The two read different tokens.")
    same = [name for name, _, _ in DETECTORS]

    def score(names: Any) -> Contender:
        return lambda: head_scores(hooked, tokens, names=names, embedding="W_E", control=False)

    everything = (*PATTERN_SCORES, "copying_eigen", "copying_direct")
    made: dict[str, Contender] = {
        EACH: lambda: detected(bridge, texts, shared=False),
        SHARED: lambda: detected(bridge, texts, shared=True),
        OURS_SAME: score(same),
        OURS_PATTERNS: score(PATTERN_SCORES),
        OURS_ALL: score(everything),
    }
    found = made[OURS_SAME]()
    theirs = made[EACH]()
    for name, _, counted in DETECTORS:
        rescaled = found[name].value * counted / tokens.shape[1]
        agree(f"{name} scores", rescaled, theirs[name].numpy())
    return made


def agree(what: str, here: Any, there: Any) -> None:
    """Print the largest difference, and end if it is no rounding."""
    difference = float(np.abs(np.asarray(here) - np.asarray(there)).max())
    print(f"largest difference of {what}: {difference:.1e}", flush=True)
    if not difference < 1e-4:
        raise SystemExit(f"The two compute something else: {what}.")


def peer_composition(bridge: TransformerBridge) -> dict[str, torch.Tensor]:
    return {kind: bridge.all_composition_scores(kind.upper()).scores for kind in "qkv"}


def check_weights(hooked: HookedModel, bridge: TransformerBridge) -> None:
    """Patterns, composition and copying, theirs with norms folded in as ours always are."""
    tokens = repeated_random_tokens(hooked, n_sequences=1, half=HALF)
    _, cache = bridge.run_with_cache(tokens)
    found = read_attention(hooked, tokens)
    theirs = torch.stack([cache["pattern", layer][0] for layer in range(hooked.cfg.n_layers)])
    agree("patterns", found.pattern, theirs)
    bridge.enable_compatibility_mode(disable_warnings=True)
    composition = composition_scores(hooked).scores
    for kind, scores in peer_composition(bridge).items():
        agree(f"{kind.upper()}-composition", composition[kind], scores)  # type: ignore[index]
    copying = copying_eigenvalues(hooked, embedding="W_E").score
    heads = [(layer, layer % hooked.cfg.n_heads) for layer in range(0, hooked.cfg.n_layers, 3)]
    expected = []
    for layer, head in heads:
        values = bridge.W_E @ bridge.W_V[layer, head]
        outputs = bridge.W_O[layer, head] @ bridge.W_U
        eigenvalues = PeerFactored(values, outputs).eigenvalues
        expected.append(float(eigenvalues.sum().real / eigenvalues.abs().sum()))
    agree("copying by eigenvalues (four heads)", [copying[head] for head in heads], expected)


def measure(made: dict[str, Contender], rounds: int, seed: int) -> dict[str, list[float]]:
    """Milliseconds of each contender in each round; the order within a round is random."""
    shuffle, names = random.Random(seed), list(made)
    times: dict[str, list[float]] = {name: [] for name in made}
    for number in range(-1, rounds):  # one round to warm up
        shuffle.shuffle(names)
        for name in names:
            gc.collect()
            start = time.perf_counter()
            result = made[name]()
            elapsed_ms = 1000 * (time.perf_counter() - start)
            del result
            if number >= 0:
                times[name].append(elapsed_ms)
    return times


def rows(times: dict[str, list[float]], base: str) -> list[list[str]]:
    written = []
    for name, values in times.items():
        ratios = [slow / fast for slow, fast in zip(times[base], values, strict=True)]
        low, high = interval(ratios)
        ratio = (
            "1" if name == base else f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"
        )
        written.append([name, f"{statistics.median(values):.0f}", ratio])
    return written


def memory_mb(what: str) -> float:
    """A line of this process's status: what it holds now, or the most it held (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{what}:"))


def peak_mb(which: str) -> tuple[float, float]:
    """The most memory that composition takes on top of the loaded model, and in all."""
    model, tokenizer = random_model()
    compose = (
        partial(composition_scores, HookedModel.from_hf(model, tokenizer))
        if which == OUR_COMPOSITION
        else partial(peer_composition, peer(model, tokenizer))
    )
    del model
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # or what loading freed would serve the scores
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of loading
    before = memory_mb("VmRSS")
    with torch.no_grad():
        compose()
    return memory_mb("VmHWM") - before, memory_mb("VmHWM")


def peaks() -> dict[str, tuple[float, float]]:
    """`peak_mb` of both, each in a process of its own."""
    found = {}
    for which in ROLES:
        command = [sys.executable, "-m", "benchmarks.attention", "--memory-of", which]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        extra, whole = done.stdout.split()[-2:]
        found[which] = (float(extra), float(whole))
    return found


def report(options: argparse.Namespace) -> str:
    under = machine("torch", "transformers", "transformer-lens")
    model, tokenizer = random_model()
    hooked, bridge = ours(model, tokenizer), peer(model, tokenizer)
    scores = measure(score_contenders(hooked, bridge), options.rounds, seed=0)
    check_weights(hooked, bridge)
    composing = {
        PEER_COMPOSITION: lambda: peer_composition(bridge),
        OUR_COMPOSITION: lambda: composition_scores(hooked),
    }
    composition = measure(composing, options.rounds, seed=1)
    memory = [[name, f"{extra:.0f}", f"{whole:.0f}"] for name, (extra, whole) in peaks().items()]
    return "\n\n".join(
        [
            f"GPT-2-small's shape, random weights, float32, {options.threads} thread(s), "
            f"{options.rounds} paired rounds; ratios of paired times, with a 95% bootstrap "
            "interval. Before, patterns, the three scores that both have, composition and copying "
            f"by eigenvalues were compared; they agree to 1e-4. {under}",
            table(
                [f"scores of all heads, {N_SEQUENCES} sequences", "median ms", "times faster"],
                rows(scores, EACH),
            ),
            table(
                ["composition of all pairs of heads", "median ms", "times faster"],
                rows(composition, PEER_COMPOSITION),
            ),
            table(["composition: memory", "peak extra MB", "peak of the process MB"], memory),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry-run", action="store_true", help="print the tables, write no file")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(*peak_mb(options.memory_of))
        return
    with torch.no_grad():
        text = report(options)
    print(text)
    if not options.dry_run:
        write_section("Attention heads", text)


if __name__ == "__main__":
    main()
