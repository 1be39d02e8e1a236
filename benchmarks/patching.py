"""Activation and path patching: the same values as TransformerLens, and how much faster.

Run as `python -m benchmarks.patching`; see README.md beside this file.
"""

import argparse
import contextlib
import copy
import io
import logging
import os
import random
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformer_lens import patching as peer_patching
from transformer_lens.model_bridge import TransformerBridge

from benchmarks.attribution_parity import build, peer
from benchmarks.report import interval, machine, table, write_section
from lens_core import HookedModel
from lens_core.patching import PromptPair, path_patching, sweep
from lens_core.patching.schedule import plan_chunks

ANSWER, FOIL = 5, 7
N_LAYERS, N_HEADS = 12, 12
SENDER = 8  # the layer whose head speaks to all later queries
Values = np.ndarray[Any, Any]
Cells = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Task:
    """One piece of work for both sides.

    Attributes:
        ours: every value, flat; peer: the values of chosen ones.
        n_cells: how many values; peer_share: of them TransformerLens computes one in so many, and
            its time is multiplied.
        arithmetic: multiply-adds with weights, ours and one full run a cell, in units of 1e9.
    """

    name: str
    ours: Callable[[HookedModel], Values]
    peer: Callable[[TransformerBridge, Cells], Values]
    n_cells: int
    peer_share: int = 1
    arithmetic: tuple[float, float] | None = None


def prompts(n_tokens: int) -> Tensor:
    """A clean and a corrupted prompt of random tokens."""
    return torch.randint(1, 50000, (2, n_tokens), generator=torch.Generator().manual_seed(1))


def our_pair(n_tokens: int) -> PromptPair:
    """The same as a pair of ours."""
    clean, corrupted = prompts(n_tokens)
    matches = torch.arange(n_tokens)[:, None].expand(-1, 2)
    return PromptPair(clean, corrupted, ANSWER, FOIL, matches)


def difference(logits: Tensor) -> Tensor:
    """What both sides measure."""
    return logits[0, -1, ANSWER] - logits[0, -1, FOIL]


def sweep_task(
    name: str,
    model: HookedModel,
    n_tokens: int,
    site: str,
    setter: Callable[..., Tensor],
    *,
    by_position: bool,
    by_head: bool,
    share: int = 1,
) -> Task:
    """A sweep over layers, and over positions and heads as asked for."""
    sizes = {"layer": N_LAYERS}
    sizes |= {"pos": n_tokens} if by_position else {}
    sizes |= {"head": N_HEADS} if by_head else {}
    grid = np.indices(tuple(sizes.values())).reshape(len(sizes), -1)
    frame = pd.DataFrame(dict(zip(sizes, grid, strict=True)))

    def ours(model: HookedModel) -> Values:
        positions: Literal["each", "all"] = "each" if by_position else "all"
        return sweep(model, our_pair(n_tokens), site, positions=positions).values.ravel()

    def theirs(bridge: TransformerBridge, cells: Cells) -> Values:
        clean, corrupted = prompts(n_tokens)[:, None]
        _, cache = bridge.run_with_cache(clean)
        found = peer_patching.generic_activation_patch(
            bridge,
            corrupted,
            cache,
            difference,
            setter,
            site,
            index_df=frame.iloc[cells].reset_index(drop=True),
        )
        return found.numpy()

    position = frame["pos"] if by_position else pd.Series(0, frame.index)
    starts = {i: (int(frame["layer"][i]), int(position[i])) for i in frame.index}
    return Task(name, ours, theirs, len(frame), share, _arithmetic(model, starts, n_tokens))


def _arithmetic(
    model: HookedModel, starts: dict[int, tuple[int, int]], n_tokens: int
) -> tuple[float, float]:
    d = model.cfg.d_model
    layer, mlp = 12 * d * d, 8 * d * d
    ours = 0
    chunks = plan_chunks(model.cfg, starts, n_tokens, grows=True, resumes=True, memory_gb=None)
    for chunk in chunks:
        width = n_tokens - chunk.first
        # Of the last layer's MLP one position is computed.
        ours += sum((N_LAYERS - at) * width * layer - (width - 1) * mlp for at in chunk.layers)
    full = len(starts) * n_tokens * (N_LAYERS * layer + d * model.cfg.d_vocab)
    return ours / 1e9, full / 1e9


def direct_paths_to_queries(n_tokens: int) -> Task:
    """From one head into the query of every later head, the direct edge alone."""
    receivers = [
        f"{layer}.{head}.q" for layer in range(SENDER + 1, N_LAYERS) for head in range(N_HEADS)
    ]

    def ours(model: HookedModel) -> Values:
        pair = our_pair(n_tokens)
        found = path_patching(
            model, pair, [f"{SENDER}.0"], receivers, through_mlps=False, direction="denoise"
        )
        return found.values.ravel()

    def theirs(bridge: TransformerBridge, cells: Cells) -> Values:
        clean, corrupted = prompts(n_tokens)[:, None]
        _, clean_cache = bridge.run_with_cache(clean)
        _, corrupted_cache = bridge.run_with_cache(corrupted)
        found = peer_patching.get_act_patch_direct_path(
            bridge,
            corrupted,
            clean_cache,
            corrupted_cache,
            difference,
            SENDER,
            0,
            "q",
            verbose=False,
        )
        return found[SENDER + 1 :].flatten().numpy()

    name = f"direct path, one head to {len(receivers)} queries, {n_tokens} tokens"
    return Task(name, ours, theirs, len(receivers))


def direct_paths_to_logits(n_tokens: int) -> Task:
    """From every head to the logits; TransformerLens adds what the head wrote to the last residual.

    It has no such function: this is the shortest way to the same numbers with its hooks.
    """
    senders = [f"{layer}.{head}" for layer in range(N_LAYERS) for head in range(N_HEADS)]

    def ours(model: HookedModel) -> Values:
        pair = our_pair(n_tokens)
        found = path_patching(model, pair, senders, through_mlps=False, direction="denoise")
        return found.values.ravel()

    def theirs(bridge: TransformerBridge, cells: Cells) -> Values:
        clean, corrupted = prompts(n_tokens)[:, None]
        caches = [bridge.run_with_cache(tokens)[1] for tokens in (clean, corrupted)]
        found = []
        for layer, head in np.ndindex(N_LAYERS, N_HEADS):
            name = f"blocks.{layer}.attn.hook_z"
            change = caches[0][name][:, :, head] - caches[1][name][:, :, head]
            written = change @ bridge.blocks[layer].attn.W_O[head]

            def add(resid: Tensor, hook: object, written: Tensor = written) -> Tensor:
                return resid + written

            last = [(f"blocks.{N_LAYERS - 1}.hook_resid_post", add)]
            found.append(float(difference(bridge.run_with_hooks(corrupted, fwd_hooks=last))))
        return np.array(found)

    return Task(f"direct path, 144 heads to the logits, {n_tokens} tokens", ours, theirs, 144)


def all_tasks(model: HookedModel) -> list[Task]:
    """Every row of the table."""
    by_position = peer_patching.layer_pos_patch_setter
    by_head = peer_patching.layer_head_vector_patch_setter
    by_both = peer_patching.layer_pos_head_vector_patch_setter
    where = {"by_position": True, "by_head": False}
    heads = {"by_position": False, "by_head": True}
    both = {"by_position": True, "by_head": True}
    return [
        sweep_task("resid_pre, 12 x 16 positions", model, 16, "resid_pre", by_position, **where),
        sweep_task(
            "resid_pre, 12 x 64 positions", model, 64, "resid_pre", by_position, share=24, **where
        ),
        sweep_task("heads, 12 x 12, 16 tokens", model, 16, "z", by_head, **heads),
        sweep_task("heads x positions, 12 x 12 x 16", model, 16, "z", by_both, share=24, **both),
        direct_paths_to_logits(16),
        direct_paths_to_queries(16),
    ]


def product_rate() -> float:
    """1e9 multiply-adds a second of processor time, in a large matrix product."""
    a, b = torch.randn(2048, 768), torch.randn(768, 3072)
    a @ b
    start = time.process_time()
    for _ in range(4):
        a @ b
    return 4 * 2048 * 768 * 3072 / (time.process_time() - start) / 1e9


def measure(task: Task, model: HookedModel, bridge: TransformerBridge, rounds: int) -> list[str]:
    """Both sides in every round, in a random order; times by the clock and of the processor."""
    draw = np.random.default_rng(0)
    cells = np.sort(draw.choice(task.n_cells, task.n_cells // task.peer_share, replace=False))
    sides = (lambda: task.ours(model), lambda: task.peer(bridge, cells))
    values, shuffle, rates = {}, random.Random(0), []
    seconds: dict[str, list[list[float]]] = {"clock": [[], []], "processor": [[], []]}
    for _ in range(rounds):
        order = [0, 1]
        shuffle.shuffle(order)
        rates.append(product_rate())
        for side in order:
            clock, processor = time.perf_counter(), time.process_time()
            with contextlib.redirect_stderr(io.StringIO()):
                values[side] = sides[side]()
            share = task.peer_share if side else 1
            seconds["clock"][side].append(share * (time.perf_counter() - clock))
            seconds["processor"][side].append(share * (time.process_time() - processor))
    medians = [statistics.median(times) for times in seconds["processor"]]
    saved, rate = "", ""
    if task.arithmetic is not None:
        ours, full = task.arithmetic
        saved = f"{full / ours:.1f}"
        rate = f"{100 * ours / medians[0] / statistics.median(rates):.0f}%"
    return [
        task.name,
        str(rounds),
        *(f"{median:.2f}" for median in medians),
        _ratio(*seconds["processor"]),
        _ratio(*seconds["clock"]),
        saved,
        rate,
        f"{np.abs(values[0][cells] - values[1]).max():.0e}",
    ]


def _ratio(ours: list[float], theirs: list[float]) -> str:
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    low, high = interval(ratios)
    return f"{statistics.median(ratios):.1f} ({low:.1f} to {high:.1f})"


HEADER = (
    "work",
    "rounds",
    "lens_core, s",
    "TransformerLens, s",
    "ratio, processor",
    "ratio, clock",
    "arithmetic saved",
    "our rate, of a large product's",
    "largest difference, logits",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tasks", type=int, nargs="*", help="numbers of rows; all by default")
    parser.add_argument("--dry-run", action="store_true", help="print the table, write no file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    under = machine("torch", "transformers", "transformer-lens")
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    plain = build("gpt2", {})
    model = HookedModel.from_hf(copy.deepcopy(plain), name="gpt2-shapes")
    bridge = peer(plain, "gpt2")
    sweep(model, our_pair(4), "resid_pre")  # what the model's code allows is found out once
    rows = []
    for number, task in enumerate(all_tasks(model)):
        if options.tasks is None or number in options.tasks:
            rows.append(measure(task, model, bridge, options.rounds))
            print(rows[-1], flush=True)
    text = "\n\n".join(
        [
            "GPT-2-small shapes, random weights, float32, "
            f"{options.threads} thread(s), interleaved. Seconds are of the processor, which counts "
            "what the run itself used and is the fairer measure on a busy machine; ratios are "
            f"medians over rounds with 95% intervals. {under}",
            table(HEADER, rows),
            "Of resid_pre with 64 positions and of heads x positions TransformerLens ran one cell "
            "in 24, drawn at random, and its time is multiplied. Arithmetic is multiply-adds with "
            "weights, the unembedding of every position included on its side.",
        ]
    )
    print(text)
    if not options.dry_run:
        write_section("Patching", text)


if __name__ == "__main__":
    main()
