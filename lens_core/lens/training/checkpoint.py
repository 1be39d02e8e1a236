"""One file that a killed run goes on from; written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from lens_core.lens.training.recipe import RecipeError


class Checkpoint:
    """``checkpoint.pt`` in the folder of a run, which belongs to one recipe, model and corpus."""

    def __init__(self, folder: str | Path, identity: dict[str, Any]) -> None:
        self.path = Path(folder) / "checkpoint.pt"
        self.identity = identity

    def read(self) -> dict[str, Any] | None:
        """The state that was saved last, None if there is none.

        Raises:
            RecipeError: the folder holds another run.
        """
        if not self.path.exists():
            return None
        saved: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, value in self.identity.items():
            if saved["identity"].get(name) != value:
                raise RecipeError(
                    f"{self.path.parent} holds a run with another {name}; give that run's {name} "
                    "to go on with it, or another folder to begin anew."
                )
        state: dict[str, Any] = saved["state"]
        return state

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file in one move, after its bytes are on the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save({"identity": self.identity, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.path)
