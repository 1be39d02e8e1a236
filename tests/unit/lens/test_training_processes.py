"""Two processes train the lens that one process trains."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.unit.lens.training_worker import lenses

ROOT = Path(__file__).parents[3]
# Of the norm. Gradients are summed in another order, which is some 1e-6 of them in fp32;
# Muon's orthogonalisation runs in bf16, where one rounding is 4e-3 of an entry.
TOLERANCE = {"sgd": 1e-5, "muon": 2e-2}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_two(folder: Path, *arguments: str) -> list[dict[str, torch.Tensor]]:
    """What each of two processes found, started with the variables that torchrun sets."""
    port = str(free_port())
    common = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.unit.lens.training_worker", str(folder), *arguments]
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            said, _ = process.communicate(timeout=240)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize(("optimizer", "model"), [("sgd", ""), ("muon", ""), ("sgd", "sharded")])
def test_two_processes_train_the_lens_of_one(tmp_path: Path, optimizer: str, model: str) -> None:
    """Forbids gradients that are averaged twice or not at all, rows that both processes see,
    processes that drift apart, and a model whose blocks are sharded (FSDP) that is read in part."""
    alone = lenses(optimizer, None)
    first, second = run_two(tmp_path, optimizer, model)
    for name, wanted in alone.items():
        assert torch.equal(first[name], second[name]), name
        error = ((first[name] - wanted).norm() / wanted.norm()).item()
        assert error < TOLERANCE[optimizer], (name, error)
    assert (tmp_path / "run" / "checkpoint.pt").exists()
