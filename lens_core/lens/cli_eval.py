"""``python -m lens_core lens eval``."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from lens_core.lens.cli_common import is_first_process, load_model, read_rows
from lens_core.lens.errors import LensFileError
from lens_core.lens.evaluate import MODEL, LensEvaluation, evaluate_lenses, layer_transfer
from lens_core.lens.formats import load_lens
from lens_core.lens.formats.files import write_json, write_whole
from lens_core.lens.transports import LogitLens, Transport

if TYPE_CHECKING:
    from lens_core import HookedModel

# Their names of the figures that they report.
_METRICS = {"ce": "ce_nats", "entropy": "entropy_nats", "kl": "kl_nats"}
Nested = dict[str, Any]


def run_eval(options: argparse.Namespace) -> None:
    """Evaluate lenses; write ``aggregate_metrics.json``, ``batches.jsonl``, ``evaluation.csv``.

    Files and structure are those of the `tuned-lens` command, in bits per UTF-8 byte:
    ``{lens: {ce, entropy, kl: {layer_i}}, baseline: {ce, entropy: {final}}}``. Beside them:
    ``marginal_bias`` and its floors, in bits; one line a row in ``batches.jsonl``; every figure
    with its interval in ``evaluation.csv``.
    """
    if not is_first_process():
        return  # one process has the whole of it in memory that does not grow
    model = load_model(options)
    lenses = _lenses(options, model)
    rows = read_rows(options, model, options.tokens)
    shift = 1 if options.token_shift is None else options.token_shift
    how: Any = {
        "token_shift": shift,
        "positions": "all" if options.all_positions else "text",
        "rows_at_once": options.per_gpu_batch_size,
    }
    with tqdm(total=len(rows), desc="Evaluating", unit="row") as bar:
        found = evaluate_lenses(
            model,
            lenses,
            rows,
            seed=options.seed,
            on_step=partial(_move, bar),
            **how,
        )
    metrics = _aggregate(found)
    if options.layer_transfer:
        for name, lens in lenses.items():
            if not _can_exchange(lens, model):
                continue
            with tqdm(total=len(rows), desc=f"Layer transfer, {name}", unit="row") as bar:
                moved = layer_transfer(model, lens, rows, on_step=partial(_move, bar), **how)
            metrics[name]["layer_transfer"] = {
                metric: _matrix(values * rows.nats_to_bits_per_byte)
                for metric, values in (("ce", moved.ce_nats), ("kl", moved.kl_nats))
            }
    _write(Path(options.output), found, metrics, with_stats=options.record_logit_stats)


def _can_exchange(lens: Transport, model: HookedModel) -> bool:
    """Whether the lens has a translator of its own for every layer."""
    n_layers = model.cfg.n_layers
    has_own = not isinstance(lens, LogitLens)
    return has_own and all(lens.reads(depth, n_layers) for depth in range(n_layers))


def _move(bar: Any, done: int, total: int) -> None:
    bar.update(done - bar.n)


def _lenses(options: argparse.Namespace, model: HookedModel) -> dict[str, Transport]:
    lenses: dict[str, Transport] = {"logit": LogitLens()}
    for path in options.lens_name:
        lens = load_lens(path, model, hub=True)
        name = lens.name if lens.name not in lenses else path
        lenses[name] = lens
    if options.lens_types is None:
        return lenses
    missing = [kind for kind in options.lens_types if kind not in lenses]
    if missing:
        raise LensFileError(f"No {missing[0]} lens was given; name one with --lens_name.")
    return {kind: lenses[kind] for kind in options.lens_types}


def _aggregate(found: LensEvaluation) -> Nested:
    ratio = found.nats_to_bits_per_byte
    metrics: Nested = {
        lens: {
            metric: _layers(found.estimate(lens, figure).mean * ratio)
            for metric, figure in _METRICS.items()
        }
        for lens in found.lens_names
    }
    for lens in found.lens_names:
        metrics[lens]["marginal_bias"] = _layers(found.marginal_bias_nats(lens) / math.log(2))
    metrics["baseline"] = {
        metric: {"final": float(found.estimate(MODEL, _METRICS[metric]).mean[0] * ratio)}
        for metric in ("ce", "entropy")
    }
    metrics["baseline"]["marginal_bias_floor"] = {
        "unigram": found.unigram_floor_nats / math.log(2),
        "halves": found.halves_floor_nats / math.log(2),
    }
    return metrics


def _write(output: Path, found: LensEvaluation, metrics: Nested, *, with_stats: bool) -> None:
    write_json(output / "aggregate_metrics.json", _no_nan(metrics))
    frame = found.to_frame()
    write_whole(output / "evaluation.csv", lambda partial: frame.to_csv(partial, index=False))
    lines = (json.dumps(_no_nan(row)) + "\n" for row in _rows(found))
    write_whole(output / "batches.jsonl", lambda partial: _write_lines(partial, lines))
    if with_stats:
        stats: Nested = {
            lens: {"logit_stats": _layers(found.marginals[lens])} for lens in found.lens_names
        }
        stats["baseline"] = {"logit_stats": {"final": found.marginals[MODEL][0].tolist()}}
        write_json(output / "logit_stats.json", _no_nan(stats))
    shown = frame[["lens", "depth", "ce_bits_per_byte", "kl_bits_per_byte", "agreement"]]
    tqdm.write(shown.to_string(index=False, float_format=lambda x: f"{x:.4f}"))
    tqdm.write(f"{found.n_tokens} tokens of {found.n_documents} documents; written to {output}")


def _rows(found: LensEvaluation) -> Iterable[Nested]:
    """The figures of each row of the corpus, in bits per byte."""
    ratio = found.nats_to_bits_per_byte
    for number in range(len(found.documents)):
        row: Nested = {"row": number, "document": int(found.documents[number])}
        for lens in (*found.lens_names, MODEL):
            means = {
                metric: found.row_sums[lens][figure][number]
                / max(found.row_counts[figure][number], 1)
                * ratio
                for metric, figure in _METRICS.items()
            }
            if lens == MODEL:
                row["baseline"] = {m: {"final": float(means[m][0])} for m in ("ce", "entropy")}
            else:
                row[lens] = {metric: _layers(values) for metric, values in means.items()}
        yield row


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines)


def _layers(values: np.ndarray) -> Nested:
    """By their names of the layers; the first axis is the depth."""
    return {f"layer_{depth}": value for depth, value in enumerate(values.tolist())}


def _matrix(values: np.ndarray) -> Nested:
    """``{layer of the translator: {layer of the states: value}}``."""
    return {f"layer_{i}": _layers(row) for i, row in enumerate(values)}


def _no_nan(tree: Any) -> Any:
    """Without the layers that a lens does not read, which JSON has no number for."""
    if isinstance(tree, Mapping):
        return {k: _no_nan(v) for k, v in tree.items() if not _is_nan(v)}
    return tree


def _is_nan(value: Any) -> bool:
    first = value[0] if isinstance(value, list) else value
    return isinstance(first, float) and math.isnan(first)
