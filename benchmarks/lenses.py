"""Lenses against the `tuned-lens` package: a prompt's trajectory, its memory, training speed.

Run as `python -m benchmarks.lenses`; see README.md beside this file.
"""

import argparse
import ctypes
import gc
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tokenizers import Tokenizer, models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from tuned_lens.nn.lenses import TunedLens as PeerLens
from tuned_lens.plotting import PredictionTrajectory
from tuned_lens.utils import shift_labels, shift_preds

from benchmarks.report import interval, machine, table, write_section
from lens_core import HookedModel
from lens_core.lens import TunedLens, read_lens
from lens_core.lens.corpus import Rows
from lens_core.lens.training import TunedRecipe, train_tuned

BARE = "tuned-lens, log-probabilities alone"
WHOLE = "tuned-lens, with one statistic and the ten best of each cell"
EVERY = "tuned-lens, with the five statistics that both have"
OURS = "lens_core, every statistic and the ten best of each cell"
PEERS = {
    BARE: (),
    WHOLE: ("forward_kl",),
    EVERY: ("forward_kl", "entropy", "cross_entropy", "rank", "max_probability"),
}
PEER_TRAINING, OUR_TRAINING = "tuned-lens, one step", "lens_core, one step"
SEED, N_TOKENS = 0, 64

Reader = Callable[[], Any]


def shared_model() -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
    """GPT-2-small's shape with random weights, and a tokenizer of as many words."""
    torch.manual_seed(SEED)
    model = GPT2LMHeadModel(GPT2Config(architectures=["GPT2LMHeadModel"])).eval()
    model.requires_grad_(False)
    words = {f"w{i}": i for i in range(model.config.vocab_size)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), bos_token="w0"
    )
    return model, tokenizer


def random_tokens(rows: int, length: int) -> torch.Tensor:
    """The same random tokens in every process."""
    return torch.randint(50257, (rows, length), generator=torch.Generator().manual_seed(SEED))


def peer_reader(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, statistics: Sequence[str]
) -> Reader:
    """The prompt's trajectory as the package makes it, and statistics with their hover texts."""
    lens, ids = PeerLens.from_model(model), random_tokens(1, N_TOKENS)[0].tolist()
    targets = [*ids[1:], ids[0]]

    def read() -> object:
        with torch.no_grad():
            found = PredictionTrajectory.from_lens_and_model(
                lens, model, ids, tokenizer=tokenizer, targets=targets
            )
        return [getattr(found, name)() for name in statistics] or found

    return read


def our_reader(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> Reader:
    """The same prompt through a lens of zeros, as the peer's is at the start."""
    hooked = HookedModel.from_hf(model, tokenizer, name="gpt2-shapes")
    n_layers, width = model.config.n_layer, model.config.n_embd
    lens = TunedLens(torch.zeros(n_layers, width, width), torch.zeros(n_layers, width))
    tokens = random_tokens(1, N_TOKENS)
    return lambda: read_lens(hooked, tokens, lens)


def reader(which: str) -> Reader:
    """One contender with a model of its own."""
    model, tokenizer = shared_model()
    if which == OURS:
        return our_reader(model, tokenizer)
    return peer_reader(model, tokenizer, PEERS[which])


def check_equal(made: dict[str, Reader]) -> None:
    """Both give the same divergences, or the times mean nothing."""
    theirs, ours = made[WHOLE]()[0].stats, made[OURS]().kl_nats
    difference = float(abs(theirs - ours).max())
    if difference > 1e-3:
        raise SystemExit(f"The two compute something else (difference {difference:.2g} nats).")


def memory_mb(what: str) -> float:
    """A line of this process's status: what it holds now, or the most it held (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{what}:"))


def peak_extra_mb(which: str) -> float:
    """The most memory that one trajectory takes on top of what a warm process holds."""
    read = reader(which)
    read()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # or what the first one freed would serve the second
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory_mb("VmRSS")
    result = read()
    after = memory_mb("VmHWM")
    del result
    return after - before


def measured_apart(which: str) -> float:
    """`peak_extra_mb` in a process of its own: peaks do not go down."""
    command = [sys.executable, "-m", "benchmarks.lenses", "--peak-of", which]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


def peer_training_step(rows: torch.Tensor) -> Reader:
    """One step of the package's training loop, `tuned_lens.scripts.train_loop`, on one process.

    Written out with the package's own lens and shifts: the command itself wants torchdata.
    """
    model, _ = shared_model()
    lens = PeerLens.from_model(model)
    optimizer = torch.optim.SGD(lens.parameters(), lr=0.1, momentum=0.9, nesterov=True)

    def step() -> object:
        with torch.no_grad():
            output = model(rows, output_hidden_states=True)
        labels = shift_labels(output.logits.float().log_softmax(dim=-1), 0)
        for depth, states in enumerate(output.hidden_states[:-1]):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = shift_preds(lens(states, idx=depth), 0)
                gap = labels - logits.log_softmax(-1)
                loss = torch.sum(labels.exp() * gap, dim=-1).mean()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(lens.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        return None

    return step


def our_training_seconds(rows: torch.Tensor, steps: int) -> list[float]:
    """Seconds of each step but the first; the model runs anew in each, as the peer's does."""
    model, tokenizer = shared_model()
    hooked = HookedModel.from_hf(model, tokenizer, name="gpt2-shapes")
    data = Rows(rows.repeat(2, 1), torch.arange(2 * len(rows)), 1.0, "random", "")
    recipe = TunedRecipe(
        steps=steps + 1, tokens_per_step=rows.numel(), tokens_per_pass=rows.numel(),
        optimizer="sgd", clip_over="all", harvest_gb=0.0, held_out_tokens=rows.shape[1],
    )  # fmt: skip
    ends: list[float] = []
    train_tuned(hooked, data, recipe, on_step=lambda *_: ends.append(time.perf_counter()))
    return [later - sooner for sooner, later in pairwise(ends)]


def paired(made: dict[str, Reader], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round; the order within a round is random."""
    shuffle, names = random.Random(SEED), list(made)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):  # one round to warm up
        shuffle.shuffle(names)
        for name in names:
            start = time.perf_counter()
            made[name]()
            if number >= 0:
                times[name].append(time.perf_counter() - start)
    return times


def training(rounds: int, rows: torch.Tensor) -> dict[str, list[float]]:
    """Seconds a step, one step of each in turn."""
    peer = peer_training_step(rows)
    peer()
    times: dict[str, list[float]] = {PEER_TRAINING: [], OUR_TRAINING: []}
    for _ in range(rounds):
        start = time.perf_counter()
        peer()
        times[PEER_TRAINING].append(time.perf_counter() - start)
        times[OUR_TRAINING] += our_training_seconds(rows, 1)
    return times


def lines(times: dict[str, list[float]], base: str, unit: float) -> list[list[str]]:
    """A table's rows: the median, and how many times faster than `base`, round by round."""
    written = []
    for name, values in times.items():
        ratios = [b / v for v, b in zip(values, times[base], strict=True)]
        low, high = interval(ratios)
        ratio = (
            "1" if name == base else f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"
        )
        written.append([name, f"{unit * statistics.median(values):.1f}", ratio])
    return written


def report(options: argparse.Namespace) -> str:
    """Every table of this section."""
    under = machine("torch", "transformers", "tuned-lens")
    torch.set_num_threads(options.threads)
    made = {which: reader(which) for which in (*PEERS, OURS)}
    check_equal(made)
    times = paired(made, options.rounds)
    memory = {which: measured_apart(which) for which in (*PEERS, OURS)}
    made.clear()
    rows = random_tokens(options.rows, 128)
    steps = training(options.steps, rows)
    return "\n\n".join(
        [
            f"Random GPT-2-small shapes, a prompt of {N_TOKENS} random tokens, {options.threads} "
            f"threads, {options.rounds} paired rounds, seed {SEED}; ratios of paired times, with a "
            f"95% bootstrap interval. {under}",
            table(["trajectory", "median ms", "times faster"], lines(times, BARE, 1000)),
            table(
                ["peak extra memory", "MB", "share of the peer's"],
                [[n, f"{mb:.0f}", f"{mb / memory[BARE]:.3f}"] for n, mb in memory.items()],
            ),
            f"Training (KL, SGD with Nesterov momentum, {rows.numel()} tokens a step, the head's "
            f"products in bf16 in both), {options.steps} pairs of steps.",
            table(["training", "median s a step", "times faster"], lines(steps, PEER_TRAINING, 1)),
        ]
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=8, help="pairs of training steps")
    parser.add_argument("--rows", type=int, default=4, help="rows of 128 tokens in a step")
    parser.add_argument("--dry-run", action="store_true", help="print the tables, write no file")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print(peak_extra_mb(options.peak_of))
        return
    text = report(options)
    print(text)
    if not options.dry_run:
        write_section("Lenses", text)


if __name__ == "__main__":
    main()
