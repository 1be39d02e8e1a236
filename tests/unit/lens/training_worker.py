"""One of several processes that train one lens; started by the test of several processes."""

import dataclasses
import sys
from pathlib import Path

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from lens_core.lens.training import JacobianRecipe, TunedRecipe, fit_jacobian, train_tuned
from tests.unit.lens.training_helpers import N_CTX, drifted_model, random_rows

RECIPE = TunedRecipe(
    steps=4,
    tokens_per_step=8 * N_CTX,
    dtype="float32",
    harvest_gb=0.0,
    held_out_tokens=64,
    checkpoint_every=2,
)
JACOBIAN = JacobianRecipe(prompts=3, skip_first=2)


def lenses(optimizer: str, out: Path | None, *, sharded: bool = False) -> dict[str, torch.Tensor]:
    """Everything that the processes must agree on."""
    model, rows = drifted_model(), random_rows(20)
    if sharded:
        mesh = init_device_mesh("cpu", (2,))
        for block in model.hf_model.transformer.h:
            fully_shard(block, mesh=mesh)
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer)
    training = train_tuned(model, rows, recipe, held_out=random_rows(8, seed=1), out=out)
    jacobian = fit_jacobian(drifted_model(), random_rows(3, n_ctx=8), JACOBIAN)
    assert training.lens.weight is not None
    return {
        "weight": training.lens.weight,
        "bias": training.lens.bias,
        "losses": torch.tensor(training.losses),
        "jacobian": torch.stack(list(jacobian.jacobians.values())),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    found = lenses(sys.argv[2], folder / "run", sharded="sharded" in sys.argv)
    rank = torch.distributed.get_rank()
    torch.save(found, folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()
