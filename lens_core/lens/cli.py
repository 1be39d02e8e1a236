"""``python -m lens_core lens train|eval``, for those who know the `tuned-lens` command.

    python -m lens_core lens train --model.name gpt2 --data.name pile.jsonl.zst --output my-lens
    python -m lens_core lens eval --model.name gpt2 --data.name test.jsonl -l my-lens -o results

Flags, units and files are that command's (Belrose et al. 2023). What differs: the optimiser is Muon
unless said otherwise; BOS and the first position of a row are left out unless ``--all_positions``
is given; figures come with intervals in ``evaluation.csv``; data may be ``.jsonl.zst`` or ``.txt``;
a training run that was killed goes on when it is started again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lens_core.model.errors import LensError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 is success, 2 is bad input with one sentence on standard error."""
    options = _parser().parse_args(arguments)
    # torch and transformers take seconds to import: --help and a mistyped flag must not wait.
    run: Callable[[argparse.Namespace], None]
    if options.action == "train":
        from lens_core.lens.cli_train import run_train as run
    else:
        from lens_core.lens.cli_eval import run_eval as run
    try:
        # Before the work, so that nothing is done that cannot be written.
        Path(options.output).mkdir(parents=True, exist_ok=True)
        run(options)
    except LensError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"{error.filename or options.output}: {error.strerror or error}.\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. A training run goes on when it is started again.\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lens_core", allow_abbrev=False)
    areas = parser.add_subparsers(dest="area", required=True)
    lens = areas.add_parser("lens", help="train or evaluate a tuned lens")
    actions = lens.add_subparsers(dest="action", required=True)
    _add_train(actions.add_parser("train", help="train a tuned lens", allow_abbrev=False))
    _add_eval(actions.add_parser("eval", help="evaluate lenses", allow_abbrev=False))
    return parser


def _add_model_and_data(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model.name",
        dest="model_name",
        required=True,
        help="shipped model, local folder or hub id",
    )
    model.add_argument(
        "--precision",
        "--model.precision",
        default="auto",
        choices=("auto", "bfloat16", "float16", "float32"),
        help="of the model's weights; auto is that of the file, fp32 on a CPU",
    )
    model.add_argument("--model.revision", dest="model_revision", help="branch, tag or commit")
    model.add_argument("--device", help="cpu, cuda, cuda:1, ...; a GPU if there is one")
    model.add_argument(
        "--device_map", choices=("auto",), help="lay a large model over all devices of the machine"
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data.name",
        dest="data_name",
        nargs="+",
        required=True,
        help="a .jsonl, .jsonl.zst or .txt file; a hub dataset and its config; or 'world', text "
        "that is generated as the shipped model's was",
    )
    data.add_argument("--split", "--data.split", default="validation", help="of a hub dataset")
    data.add_argument("--text_column", "--data.text_column", default="text")
    data.add_argument("--data.revision", dest="data_revision", help="of a hub dataset")
    data.add_argument(
        "--max_seq_len",
        "--max_length",
        "--data.max_length",
        type=_positive,
        default=2048,
        help="tokens a row, at most the model's context (%(default)s)",
    )
    parser.add_argument(
        "--token_shift",
        type=int,
        help="how far on the compared token is: 1 the next, 0 this one, -1 the one before",
    )
    parser.add_argument(
        "--per_gpu_batch_size", type=_positive, help="rows that go through the model at once"
    )
    parser.add_argument("--seed", type=int, default=42)


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_model_and_data(parser)
    parser.add_argument("--output", "-o", required=True, help="folder for the lens")
    parser.add_argument("--lens_name_or_path", "-l", help="go on from this lens")
    parser.add_argument("--bias_only", action="store_true", help="train only the biases")
    parser.add_argument("--num_steps", type=_positive, default=250)
    parser.add_argument("--tokens_per_step", type=_positive, default=2**18)
    parser.add_argument("--loss", choices=("kl", "ce"), default="kl", help="(%(default)s)")
    parser.add_argument(
        "--checkpoint_freq", type=_positive, help="steps between checkpoints (25)", default=25
    )
    parser.add_argument("--checkpoint_dir", help="(<output>/checkpoints)")
    parser.add_argument(
        "--max_tokens",
        type=_positive,
        help="read no more text than this; several passes over little text do too",
    )
    group = parser.add_argument_group("optimiser")
    group.add_argument(
        "--optimizer",
        choices=("muon", "adam", "adamw", "sgd"),
        default="muon",
        help="sgd with Nesterov momentum is what the published lenses had (%(default)s)",
    )
    group.add_argument("--lr_scale", type=float, default=1.0)
    group.add_argument("--momentum", type=float, default=0.9)
    group.add_argument("--weight_decay", type=float, default=1e-3)
    group.add_argument("--warmup_steps", type=int)
    group.add_argument(
        "--joint_clip",
        action="store_true",
        help="clip the gradient of all translators together, as the published lenses had",
    )


def _add_eval(parser: argparse.ArgumentParser) -> None:
    _add_model_and_data(parser)
    parser.add_argument("--output", "-o", required=True, help="folder for the results")
    parser.add_argument(
        "--lens_name",
        "--lens",
        "-l",
        nargs="+",
        default=[],
        help="files, folders or names of lenses, of any kind that is read here",
    )
    parser.add_argument(
        "--lens_types",
        nargs="+",
        choices=("logit", "tuned", "bias-only", "jacobian"),
        help="which to evaluate (logit, and every lens given)",
    )
    parser.add_argument("--tokens", type=_positive, help="how many tokens (all)")
    parser.add_argument(
        "--layer_transfer", action="store_true", help="each translator on each other layer's states"
    )
    parser.add_argument(
        "--record_logit_stats", action="store_true", help="write the mean distributions"
    )
    parser.add_argument(
        "--all_positions",
        action="store_true",
        help="count BOS and the first position of rows too, as the tuned-lens command does",
    )


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return value
