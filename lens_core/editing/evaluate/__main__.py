"""Evaluate editing methods: ``python -m lens_core.editing.evaluate``.

    python -m lens_core.editing.evaluate --methods r-rome ft memit:10 --split test --n 200

``memit:10`` makes ten edits at once and scores each under all ten; ``ft:1:50`` takes the first 50
records only. Each method leaves a file in ``--output`` and is done once: the same command goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch

from lens_core import HookedModel
from lens_core.editing.errors import EditingError
from lens_core.editing.evaluate.checkpoint import Checkpoint
from lens_core.editing.evaluate.evaluation import Evaluation
from lens_core.editing.evaluate.files import load_counterfact, load_ripple_edits, load_zsre
from lens_core.editing.evaluate.methods import METHOD_NAMES, method_of
from lens_core.editing.evaluate.over_records import evaluate
from lens_core.editing.evaluate.record import EvaluationRecord
from lens_core.editing.evaluate.scores import Baseline
from lens_core.editing.evaluate.table import as_json, document, markdown
from lens_core.editing.evaluate.unrelated import UnrelatedText
from lens_core.editing.evaluate.world_records import records
from lens_core.lens.identity import weights_sha256
from lens_core.model.errors import LensError

_LOADERS = {"counterfact": load_counterfact, "zsre": load_zsre, "ripple": load_ripple_edits}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 is success, 2 is bad input with one sentence on standard error."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        _run(options)
    except LensError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. The same command goes on from here.\n")
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    model = HookedModel.from_pretrained(options.model)
    asked = _records(options, model)
    text = UnrelatedText.of(model, n_rows=options.text_rows)
    known = _Baselines(options, model, asked)
    done: list[Evaluation] = []
    for wanted in options.methods:
        name, batch, n = _wanted(wanted, len(asked))
        method = method_of(model, name)
        label = f"{name}-{batch}" if batch > 1 else name
        kept = asked[: n // batch * batch or n]
        found = evaluate(
            model,
            method,
            kept,
            batch=batch,
            unrelated=text,
            generate=options.generate,
            baselines=known,
            checkpoint=options.checkpoints / f"{options.split}-{len(kept)}-{label}.jsonl",
            on_step=_Printed(label),
        )
        provenance = {
            "command": " ".join(["python -m lens_core.editing.evaluate", *sys.argv[1:]]),
            "weights_sha256": weights_sha256(model),
            "split": options.split,
            "seed": options.seed,
            "date": date.today().isoformat(),
            "torch": torch.__version__,
        }
        options.output.mkdir(parents=True, exist_ok=True)
        path = options.output / f"{options.split}-{label}.json"
        path.write_text(as_json(found, provenance), encoding="utf-8")
        done.append(found)
        if options.table:
            options.table.write_text(document(done, provenance), encoding="utf-8")
    print(markdown(done))


def _wanted(text: str, n: int) -> tuple[str, int, int]:
    """Name, batch and number of records of one of ``--methods``."""
    name, *numbers = text.split(":")
    if len(numbers) > 2 or not all(x.isdecimal() and int(x) > 0 for x in numbers):
        raise EditingError(f"{text!r:.40} is not METHOD, METHOD:BATCH or METHOD:BATCH:RECORDS.")
    batch, wanted = (*map(int, numbers), *(1, n)[len(numbers) :])
    return name, batch, min(wanted, n)


class _Baselines(dict[str, Baseline]):
    """What the unedited model says of each case, kept beside the checkpoints."""

    def __init__(
        self,
        options: argparse.Namespace,
        model: HookedModel,
        asked: Sequence[EvaluationRecord],
    ) -> None:
        super().__init__()
        text = json.dumps([r.to_json() for r in asked], sort_keys=True)
        work = {
            "weights_sha256": weights_sha256(model),
            "records_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "generate": options.generate,
        }
        path = options.checkpoints / f"{options.split}-{len(asked)}-unedited.jsonl"
        self.log = Checkpoint(path, work)
        for piece in self.log.pieces:
            super().__setitem__(piece["case_id"], Baseline.from_json(piece))

    def __setitem__(self, case: str, found: Baseline) -> None:
        super().__setitem__(case, found)
        self.log.add({"case_id": case, **found.to_json()})


class _Printed:
    """Says how far a method is, every twentieth of the way."""

    def __init__(self, label: str) -> None:
        self.label = label

    def __call__(self, done: int, total: int) -> None:
        if done == total or done % max(1, total // 20) == 0:
            print(f"{self.label}: {done} of {total}", flush=True)


def _records(options: argparse.Namespace, model: HookedModel) -> tuple[EvaluationRecord, ...]:
    if options.file is None:
        return records(model, options.n, options.seed, options.split)
    loaded = _LOADERS[options.format](options.file, options.n)
    for number, why in loaded.bad:
        print(f"record {number} left out: {why}")
    return loaded.records


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lens_core.editing.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="tiny-world", help="shipped model, folder or hub id")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["r-rome"],
        metavar="METHOD[:BATCH[:RECORDS]]",
        help=f"of {', '.join(METHOD_NAMES)}",
    )
    parser.add_argument("--n", type=int, default=200, help="records (%(default)s)")
    parser.add_argument("--split", choices=("development", "test"), default="development")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", type=Path, help="a published data set instead of the world")
    parser.add_argument("--format", choices=tuple(_LOADERS), default="counterfact")
    parser.add_argument("--output", type=Path, default=Path("content/results/editing"))
    parser.add_argument("--table", type=Path, help="a markdown file for the page")
    parser.add_argument(
        "--checkpoints", type=Path, default=Path("build/editing"), help="for work that is going on"
    )
    parser.add_argument(
        "--text_rows", type=int, default=32, help="rows of 64 tokens for the perplexity"
    )
    parser.add_argument(
        "--generate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let both models write, for fluency and consistency",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser


if __name__ == "__main__":
    sys.exit(main())
