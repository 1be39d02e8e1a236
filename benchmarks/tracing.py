"""Causal tracing of one prompt against the loop of the ROME code, and how fast.

The loop is reimplemented faithfully: for every token and layer one forward pass of the whole model
on a clean row and the noised rows, hooks on the embedding and on the restored block, all logits.
Only its random numbers are ours, so that both trace the same noise.

Run as `python -m benchmarks.tracing`; see README.md beside this file.
"""

import argparse
import copy
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config

from benchmarks.report import interval, machine, table, write_section
from lens_core import HookedModel
from lens_core.tracing import GaussianNoise, causal_trace
from lens_core.tracing.result import TraceKind

SAMPLES, SIGMAS = 10, 3.0
SUBJECT = (1, 4)
Map = np.ndarray[Any, Any]
PARTS = {"state": None, "mlp": "mlp", "attn": "attn"}


class RomeLoop:
    """`calculate_hidden_flow` of the ROME code: `trace_with_patch` for every token and layer."""

    def __init__(self, model: Any, tokens: Tensor, answer: int, std: float) -> None:
        self.model, self.answer, self.std = model, answer, std
        self.batch = tokens.expand(SAMPLES + 1, -1)
        self.blocks = model.transformer.h

    def trace_with_patch(self, patches: list[tuple[int, Any]]) -> float:
        """One forward pass: row 0 clean, the others noised, and `patches` copied from row 0."""
        first, last = SUBJECT
        generator = torch.Generator().manual_seed(0)

        def noise(module: Any, args: Any, x: Tensor) -> Tensor:
            x = x.clone()
            shape = (SAMPLES, last + 1 - first, x.shape[2])
            x[1:, first : last + 1] += self.std * torch.randn(shape, generator=generator)
            return x

        def restore(token: int) -> Callable[[Any, Any, Any], Any]:
            def hook(module: Any, args: Any, output: Any) -> Any:
                h = output[0] if isinstance(output, tuple) else output
                h[1:, token] = h[0, token]
                return output

            return hook

        with torch.no_grad(), ExitStack() as stack:
            hook = self.model.transformer.wte.register_forward_hook(noise)
            stack.callback(hook.remove)
            for token, module in patches:
                stack.callback(module.register_forward_hook(restore(token)).remove)
            logits = self.model(input_ids=self.batch, use_cache=False).logits
        return float(torch.softmax(logits[1:, -1, :], dim=1).mean(dim=0)[self.answer])

    def trace(self, kind: TraceKind, window: int) -> Map:
        """[layer, position]: `trace_important_states` and `trace_important_window`."""
        n_layers, n_tokens = len(self.blocks), self.batch.shape[1]
        part = PARTS[kind]
        table = []
        for token in range(n_tokens):
            row = []
            for layer in range(n_layers):
                low, high = layer, layer + 1
                if part is not None:
                    low = max(0, layer - window // 2)
                    high = min(n_layers, layer - (-window // 2))
                chosen = self.blocks[low:high]
                modules = [b if part is None else getattr(b, part) for b in chosen]
                row.append(self.trace_with_patch([(token, module) for module in modules]))
            table.append(row)
        return np.array(table).T


HEADER = [
    "map",
    "rounds",
    "lens_core, s",
    "the ROME loop, s",
    "ratio",
    "lens_core, processor s",
    "the loop, processor s",
    "ratio",
    "relative difference",
]


def build(**options: int) -> Any:
    """Random weights of GPT-2-small's shapes, large enough that noise changes the answer."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(GPT2Config(**options)).eval()
    for parameter in model.parameters():
        parameter.mul_(2)
    return model.requires_grad_(False)


def arithmetic(n_layers: int, n_tokens: int, d_model: int, d_vocab: int) -> list[list[str]]:
    """Multiplications of the state map in units of one block at one position, by step."""
    first, block, head = SUBJECT[0], 12 * d_model * d_model, d_model * d_vocab
    cells = n_layers * n_tokens
    whole = (SAMPLES + 1) * cells * n_tokens * (n_layers * block + head)
    rows = [("the loop", whole)]
    rows.append(("no clean row", SAMPLES * cells * n_tokens * (n_layers * block + head)))
    rows.append(("last logits only", SAMPLES * cells * (n_tokens * n_layers * block + head)))
    layers = sum(n_layers - 1 - layer for layer in range(n_layers))
    live = (n_tokens - first) * (n_layers - 1) + 1
    resumed = SAMPLES * (n_tokens * n_tokens * layers * block + live * head)
    rows.append(("resumed at the next layer", resumed))
    positions = sum(n_tokens - p for p in range(first, n_tokens))
    reused = SAMPLES * (positions * layers * block + live * head)
    rows.append(("positions from the restored one, of the subject on", reused))
    return [[name, f"{work / 1e9:.0f}", f"{whole / work:.2f}"] for name, work in rows]


def product_rate(size: int = 1536, rounds: int = 5) -> float:
    """1e9 multiply-adds in a processor second of a large matrix product on the same threads."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    times = []
    for _ in range(rounds):
        start = time.process_time()
        a @ b
        times.append(time.process_time() - start)
    return size**3 / min(times) / 1e9


def compare(
    plain: Any, tokens: Tensor, kinds: Sequence[TraceKind], rounds: int, window: int
) -> tuple[list[list[str]], float]:
    """Times of both in a random order each round, and the largest difference of any cell."""
    ours = HookedModel.from_hf(copy.deepcopy(plain), name="gpt2-shapes")
    ids = tokens[0, SUBJECT[0] : SUBJECT[1] + 1]
    std = SIGMAS * float(plain.transformer.wte.weight[ids].std())
    answer = int(plain(input_ids=tokens).logits[0, -1].argmax())
    loop = RomeLoop(plain, tokens, answer, std)
    noise = GaussianNoise(std=std, samples=SAMPLES)

    def own_map(kind: TraceKind) -> Map:
        found = causal_trace(
            ours, tokens, SUBJECT, answer, kinds=[kind], corruption=noise, window=window
        )
        return np.asarray(found.values[kind].mean(-1))

    rows, state_seconds = [], 0.0
    for kind in kinds:
        own_map(kind)  # what is found out once a model
        found = paired(
            partial(own_map, kind), partial(loop.trace, kind, window), rounds, random.Random(0)
        )
        wall, cpu, worst = found
        medians = [f"{statistics.median(times):.2f}" for pair in (wall, cpu) for times in pair]
        rows.append([kind, str(rounds), *medians[:2], ratio(wall), *medians[2:], ratio(cpu), worst])
        if kind == "state":
            state_seconds = statistics.median(cpu[0])
    return rows, state_seconds


def paired(
    own: Callable[[], Map], theirs: Callable[[], Map], rounds: int, shuffle: random.Random
) -> tuple[list[list[float]], list[list[float]], str]:
    """Wall and processor seconds, ours and theirs, and the largest relative difference."""
    wall: list[list[float]] = [[], []]
    cpu: list[list[float]] = [[], []]
    worst = 0.0
    for _ in range(rounds):
        maps: dict[int, Map] = {}
        for which in shuffle.sample([0, 1], 2):
            start, start_cpu = time.perf_counter(), time.process_time()
            maps[which] = (own, theirs)[which]()
            wall[which].append(time.perf_counter() - start)
            cpu[which].append(time.process_time() - start_cpu)
        worst = max(worst, float(np.abs(maps[0] / maps[1] - 1).max()))
    return wall, cpu, f"{worst:.1e}"


def ratio(times: Sequence[Sequence[float]]) -> str:
    """Theirs over ours: the median over rounds, and its interval."""
    ratios = [theirs / own for own, theirs in zip(*times, strict=True)]
    low, high = interval(ratios)
    return f"{statistics.median(ratios):.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--window", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", default=["state", "mlp", "attn"])
    parser.add_argument("--dry-run", action="store_true", help="print the tables, write no file")
    options = parser.parse_args()

    under = machine("torch", "transformers")
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    plain = build()
    cfg = plain.config
    torch.manual_seed(1)
    tokens = torch.randint(0, cfg.vocab_size, (1, options.tokens))
    rows, seconds = compare(plain, tokens, options.kinds, options.rounds, options.window)
    steps = arithmetic(cfg.n_layer, options.tokens, cfg.n_embd, cfg.vocab_size)
    rate = product_rate()
    achieved = float(steps[-1][1]) / seconds if seconds else 0.0
    text = "\n\n".join(
        [
            "Random GPT-2-small shapes, float32, one prompt of "
            f"{options.tokens} tokens, subject at positions {SUBJECT[0]} to {SUBJECT[1]}, "
            f"{SAMPLES} noise samples, windows of {options.window} layers, {options.threads} "
            "thread(s), interleaved; the difference is the largest of any cell's probability, "
            f"relative to it. {under}",
            table(HEADER, rows),
            "Where the ratio of the state map comes from: 1e9 multiply-adds (attention's own "
            "products left out) after each saving.",
            table(["with", "1e9 multiply-adds", "of the loop's, times fewer"], steps),
            f"Rate of the state map, per processor second: {achieved:.0f}e9 multiply-adds, a "
            f"matrix product of 1536 on the same threads {rate:.0f}e9 ({achieved / rate:.0%}).",
        ]
    )
    print(text)
    if not options.dry_run:
        write_section("Causal tracing", text)


if __name__ == "__main__":
    main()
