"""The record of a training run, for the model card: recipe, tokens, time, curve."""

import json
from pathlib import Path
from typing import Any


def training_record(out: Path, *, points: int = 20) -> dict[str, Any]:
    """What ``recipe.json`` and ``log.jsonl`` of a run say, with the curve thinned to ``points``.

    Times are added over the sittings: the log's seconds start anew each time a run is resumed.
    """
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    recipes = json.loads((out / "recipe.json").read_text())
    seconds, previous = 0.0, 0.0
    for row in rows:
        seconds += row["seconds"] - (previous if row["seconds"] >= previous else 0.0)
        previous = row["seconds"]
    probed = [row for row in rows if "facts_held" in row]
    every = max(1, -(-len(probed) // points))
    return {
        "tokens": rows[-1]["tokens"],
        "seconds": round(seconds),
        "recipes": recipes,
        "curve": probed[::-1][::every][::-1],
    }
