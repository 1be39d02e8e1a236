"""Run the replications on a model and store them: ``python -m scripts.replications``.

To be run again whenever the shipped model or its lens changes. What is already in the file for the
same model, lens and settings is kept, so that a run that was stopped goes on; ``--fresh`` begins
anew. The file holds no date: equal results give equal bytes.
"""

import argparse
import hashlib
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lens_core import HookedModel
from lens_core.lens import Transport, TunedLens
from lens_core.lens.corpus import Rows, read_corpus, split_rows
from lens_core.lens.formats import load_lens, shipped_lenses
from lens_core.lens.identity import weights_sha256
from lens_core.lens.replications import Suite
from lens_core.lens.replications.small_lenses import SMALL_RECIPE
from lens_core.lens.replications.stored import (
    StoredReplications,
    load_results,
    save_results,
)

FILE = Path(__file__).resolve().parent.parent / "content" / "results" / "replications.json"
# Text of its own, by a seed that trains no shipped lens.
SOURCE, N_TOKENS, HELD_OUT = "world:303", 160_000, 0.5
SEEDS, SEED = (0, 1, 2), 0


def main() -> None:
    """Run what is missing, and write the file after each."""
    args = _arguments()
    model = HookedModel.from_pretrained(args.model)
    train, held_out = split_rows(
        read_corpus(args.source, model, max_tokens=args.tokens), HELD_OUT, seed=SEED
    )
    lens = _lens(args.lens, model)
    settings = _settings(train, held_out, lens)
    stored = StoredReplications(model.cfg.name, weights_sha256(model), settings)
    if not args.fresh:
        stored = _kept(args.out, stored)
    _say(f"{stored.model_name} {stored.model_sha256[:12]}, seeds {SEEDS}, {settings['lens']}")
    suite = Suite(model, train, held_out, tuned=lens, seeds=SEEDS, seed=SEED)
    began = time.monotonic()
    for key in args.only or suite.keys:
        if stored.get(key) is not None and not args.only:
            _say(f"{key}: kept")
            continue
        replication = suite.run(key)
        stored = stored.with_(replication)
        save_results(stored, args.out)
        _say(f"{key} ({time.monotonic() - began:.0f} s): {replication.verdict}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny-world")
    parser.add_argument("--lens", help="a tuned lens; by default the one shipped for the model")
    parser.add_argument("--source", default=SOURCE, help="text, as `read_corpus` takes it")
    parser.add_argument("--tokens", type=int, default=N_TOKENS)
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--only", nargs="+", help="run these again, whatever is stored")
    parser.add_argument("--fresh", action="store_true", help="keep nothing of the file")
    return parser.parse_args()


def _lens(name: str | None, model: HookedModel) -> Transport | None:
    """None where there is none for the model: one trained here takes its place."""
    shipped = f"{model.cfg.name}/tuned"
    if name is None and shipped not in shipped_lenses():
        return None
    return load_lens(name or shipped, model)


def _settings(train: Rows, held_out: Rows, lens: Transport | None) -> dict[str, Any]:
    name = "a lens trained here"
    if isinstance(lens, TunedLens):
        name = f"tuned lens {hashlib.sha256(lens.bias.numpy().tobytes()).hexdigest()[:12]}"
    return {
        "lens": name,
        "seeds": list(SEEDS),
        "seed": SEED,
        "corpus": train.name,
        "n_train_rows": len(train),
        "n_held_out_rows": len(held_out),
        "train_sha256": train.sha256,
        "held_out_sha256": held_out.sha256,
        "recipe": {k: v for k, v in asdict(SMALL_RECIPE).items() if v is not None},
    }


def _kept(file: Path, wanted: StoredReplications) -> StoredReplications:
    """What the file holds, if it was made of the same things."""
    if not file.exists():
        return wanted
    found = load_results(file)
    same = (found.model_sha256, found.settings) == (wanted.model_sha256, wanted.settings)
    return found if same else wanted


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
