"""The command line: flags, files and units of the `tuned-lens` command, and polite refusals."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from lens_core import HookedModel
from lens_core.lens import JacobianLens, LogitLens, TunedLens
from lens_core.lens.cli import main
from lens_core.lens.corpus import read_corpus
from lens_core.lens.evaluate import evaluate_lens
from lens_core.lens.formats import load_lens, save_lens
from lens_core.lens.training.held_out import held_out_kl

Nested = dict[str, Any]
LAYERS, WIDTH = 3, 32


@pytest.fixture(scope="module")
def folder(random_model, tmp_path_factory) -> Path:
    """A model's folder and a text."""
    path = tmp_path_factory.mktemp("cli")
    model = random_model("gpt2")
    model.hf_model.save_pretrained(path / "model")
    model.tokenizer.save_pretrained(path / "model")
    texts = [f"{i} is the number, {i * i} its square; " * 3 for i in range(60)]
    lines = [json.dumps({"body": text}) + "\n" for text in texts]
    (path / "text.jsonl").write_text("".join(lines))
    return path


@pytest.fixture
def base(folder: Path) -> list[str]:
    """The flags that both commands need."""
    return [
        *("--model.name", str(folder / "model"), "--data.name", str(folder / "text.jsonl")),
        *("--text_column", "body", "--max_seq_len", "32", "--device", "cpu"),
    ]


@pytest.fixture
def model(folder: Path) -> HookedModel:
    """The same model, as the command loads it."""
    return HookedModel.from_pretrained(folder / "model")


def steps(n: int) -> list[str]:
    return ["--num_steps", str(n), "--tokens_per_step", "256", "--checkpoint_freq", "2"]


def run(*arguments: str) -> int:
    return main(["lens", *arguments])


def test_train_writes_what_the_package_writes(
    base: list[str], model: HookedModel, folder: Path, tmp_path: Path
) -> None:
    """Forbids a run whose lens only this library reads, or that did not learn anything."""
    assert run("train", *base, *steps(8), "--lr_scale", "3", "-o", str(tmp_path)) == 0
    assert {"config.json", "params.pt", "lens.safetensors", "training.csv"} <= {
        path.name for path in tmp_path.iterdir()
    }
    published, own = load_lens(tmp_path / "params.pt", model), load_lens(tmp_path, model)
    assert isinstance(published, TunedLens)
    assert isinstance(own, TunedLens)
    torch.testing.assert_close(published.weight, own.weight)
    assert own.provenance["corpus"] == "text.jsonl"
    rows = read_corpus(folder / "text.jsonl", model, n_ctx=32, text_column="body")
    lens_kl, logit_kl = (held_out_kl(model, lens, rows, 2048) for lens in (own, LogitLens()))
    assert all(a < b for a, b in zip(lens_kl, logit_kl, strict=True))


def test_training_goes_on_after_it_was_stopped(base: list[str], tmp_path: Path) -> None:
    """Forbids a killed run from beginning anew, or from ending elsewhere."""

    def losses(folder: str) -> list[float]:
        return pd.read_csv(tmp_path / folder / "training.csv")["loss_nats"].dropna().tolist()

    assert run("train", *base, *steps(4), "--bias_only", "-o", str(tmp_path / "a")) == 0
    (tmp_path / "a" / "params.pt").unlink()
    assert run("train", *base, *steps(4), "--bias_only", "-o", str(tmp_path / "a")) == 0
    assert (tmp_path / "a" / "params.pt").exists()
    assert len(losses("a")) == 4 * LAYERS
    start = ["-l", str(tmp_path / "a"), "--optimizer", "sgd", "--loss", "ce"]
    assert run("train", *base, *steps(1), "--bias_only", *start, "-o", str(tmp_path / "b")) == 0
    lens = load_lens(tmp_path / "b")
    assert lens.name == "bias-only"
    assert lens.provenance["recipe"]["loss"] == "ce"


def test_eval_files(base: list[str], model: HookedModel, folder: Path, tmp_path: Path) -> None:
    """Forbids other names, other units, or layers that JSON cannot hold."""
    torch.manual_seed(0)
    tuned = TunedLens(0.1 * torch.randn(LAYERS, WIDTH, WIDTH), torch.randn(LAYERS, WIDTH), "x")
    save_lens(tuned, tmp_path / "t")
    save_lens(JacobianLens({2: torch.eye(WIDTH)}, LAYERS, "x"), tmp_path / "j")
    flags = ["--tokens", "320", "--layer_transfer", "--record_logit_stats", "--all_positions"]
    out = tmp_path / "out"
    lens = ["-l", str(tmp_path / "t")]
    assert run("eval", *base, *flags, *lens, "-o", str(out)) == 0
    found: Nested = json.loads((out / "aggregate_metrics.json").read_text())
    assert set(found) == {"logit", "tuned", "baseline"}
    rows = read_corpus(folder / "text.jsonl", model, n_ctx=32, max_tokens=320, text_column="body")
    expected = evaluate_lens(model, tuned, rows, positions="all")
    bits_per_byte = expected.estimate("tuned", "kl_nats").mean[1] * rows.nats_to_bits_per_byte
    assert found["tuned"]["kl"]["layer_1"] == pytest.approx(bits_per_byte, rel=1e-4)
    assert found["baseline"]["ce"]["final"] > 0
    transfer = found["tuned"]["layer_transfer"]
    assert transfer["ce"]["layer_2"]["layer_2"] == pytest.approx(
        found["tuned"]["ce"]["layer_2"], rel=1e-4
    )
    assert transfer["kl"]["layer_0"]["layer_2"] > transfer["kl"]["layer_2"]["layer_2"]
    lines = [json.loads(line) for line in (out / "batches.jsonl").read_text().splitlines()]
    assert len(lines) == 10
    mean = sum(line["tuned"]["kl"]["layer_1"] for line in lines) / 10
    assert mean == pytest.approx(bits_per_byte, rel=1e-4)
    stats = json.loads((out / "logit_stats.json").read_text())
    p = torch.tensor(stats["baseline"]["logit_stats"]["final"])
    q = torch.tensor(stats["logit"]["logit_stats"]["layer_0"])
    bias_bits = float((p * (p / q).log()).sum()) / math.log(2)
    assert found["logit"]["marginal_bias"]["layer_0"] == pytest.approx(bias_bits, rel=1e-3)
    assert len(pd.read_csv(out / "evaluation.csv")) == 2 * LAYERS + 1

    jacobian = ["-l", str(tmp_path / "j"), "--lens_types", "jacobian"]
    assert run("eval", *base, "--tokens", "64", *jacobian, "-o", str(out)) == 0
    text = (out / "aggregate_metrics.json").read_text()
    assert "NaN" not in text
    assert list(json.loads(text)["jacobian"]["kl"]) == ["layer_2"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--data.name", "nowhere.jsonl"], "no file"),
        (["--text_column", "text"], "body"),
        (["--model.name", "./nowhere"], "no folder"),
        (["--lens_types", "tuned"], "No tuned lens"),
        (["-l", "./nowhere"], "no lens at"),
        (["--token_shift", "99"], "smaller shift"),
    ],
)
def test_bad_input_is_one_sentence(
    base: list[str], tmp_path: Path, capsys, change: list[str], says: str
) -> None:
    """Forbids tracebacks, and exit codes that a script takes for success."""
    assert run("eval", *base, "-o", str(tmp_path), *change) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


def test_a_file_where_the_folder_should_be(base: list[str], tmp_path: Path, capsys) -> None:
    """Forbids a traceback after minutes of work that cannot be written."""
    (tmp_path / "file").write_text("")
    assert run("eval", *base, "--tokens", "64", "-o", str(tmp_path / "file")) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["train"],
        ["train", "--num_steps", "0"],
        ["eval", "--tokens", "many"],
        ["eval", "--model.nam", "x"],
    ],
)
def test_mistyped_flags_end_with_two(arguments: list[str], capsys) -> None:
    """Forbids a guess at what a flag that does not exist may mean."""
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err
