import importlib.util
import json
import os
import pickle
import socket

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from lens_core.model import errors, sizing
from lens_core.model.loading import load, load_config

BERT = {
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 260,
}
LLAMA = {**BERT, "num_key_value_heads": 1}


def is_one_sentence(error: pytest.ExceptionInfo[errors.LensError]) -> bool:
    text = str(error.value)
    return text.endswith(".") and "\n" not in text and "Traceback" not in text and ". " not in text


def rewrite(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def as_pickle(folder, content, **options):
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin", **options)


class Runs:
    """Unpickling this would make the folder that it names."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_loads_a_folder_ready_for_analysis(save, gpt2):
    """Forbids dropout, gradients on weights, fused attention, or a changed tensor."""
    loaded = load(save())
    model = loaded.hf_model
    assert (loaded.name, loaded.source) == ("model", "folder")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.config._attn_implementation == "eager"
    for key, value in gpt2.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    assert loaded.tokenizer.decode(loaded.tokenizer("A cat.").input_ids) == "A cat."


def test_asks_the_network_for_nothing(save, monkeypatch):
    """Forbids a look-up on the hub for a local model, which hangs a lab without network."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    load(str(save()))


def test_half_precision_files_are_float32_on_the_cpu(save, gpt2):
    """Forbids fp16 arithmetic on the CPU, which is slow and rounds what the labs compare."""
    halved = type(gpt2)(gpt2.config).half()
    folder = save(model=halved)
    assert load(folder).hf_model.dtype == torch.float32
    assert load(folder, dtype="float16").hf_model.dtype == torch.float16
    assert load(folder, dtype=torch.bfloat16).hf_model.dtype == torch.bfloat16


def test_shards_and_weights_only_pickles_load(save, gpt2):
    """Forbids refusing the older, still safe ways in which checkpoints are kept."""
    sharded = save("sharded", max_shard_size="8KB")
    assert len(list(sharded.glob("model-*.safetensors"))) > 1
    old = save("old")
    as_pickle(old, gpt2.state_dict())
    for folder in (sharded, old):
        weight = load(folder).hf_model.transformer.h[1].mlp.c_fc.weight
        assert torch.equal(weight, gpt2.transformer.h[1].mlp.c_fc.weight)


def test_shipped_names_and_their_checkpoints(save, monkeypatch, tmp_path):
    """Forbids a shipped name sought on the hub, and a checkpoint that is silently the last."""
    shipped = tmp_path / "shipped"
    early = save("checkpoints/step10", root=shipped / "toy", with_tokenizer=False)
    rewrite(early, lambda tensors: tensors["transformer.ln_f.bias"].fill_(7.0))
    save("toy", root=shipped)
    monkeypatch.setattr("lens_core.model.sources.SHIPPED_ROOTS", (shipped,))
    assert load("toy").source == "shipped"
    step = load("toy", revision="step10")
    assert step.hf_model.transformer.ln_f.bias.eq(7.0).all()
    assert len(step.tokenizer) > 200
    for bad in ("step11", "../toy"):
        with pytest.raises(errors.UnknownModelError, match="step10") as error:
            load("toy", revision=bad)
        assert is_one_sentence(error)


def test_device_map_goes_through_accelerate(save, gpt2):
    """Forbids a device_map that is not used, and a check that trips over offloaded weights."""
    pytest.importorskip("accelerate")
    modules = ("wte", "wpe", "drop", "h.0", "h.1", "ln_f")
    spread = {"lm_head": "cpu", **{f"transformer.{name}": "cpu" for name in modules}}
    model = load(save(), device_map=spread | {"transformer.h.1": "disk"}).hf_model
    assert model.transformer.h[1].mlp.c_fc.weight.is_meta
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.allclose(model(tokens).logits, gpt2.eval()(tokens).logits, atol=1e-6)


@pytest.mark.parametrize("device_map", ["sideways", {"": "cuda:99"}])
def test_device_map_that_cannot_be(save, device_map):
    """Forbids blaming the weights for a device map that this machine cannot follow."""
    pytest.importorskip("accelerate")
    with pytest.raises(errors.DeviceError, match="device_map='auto'") as error:
        load(save(), device_map=device_map)
    assert is_one_sentence(error)


def test_device_map_without_accelerate_says_what_to_install(save, monkeypatch):
    """Forbids transformers' own ImportError where a learner reads it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.MissingDependencyError, match="pip install accelerate") as error:
        load(save(), device_map="auto")
    assert is_one_sentence(error)


@pytest.mark.parametrize("device", ["cuda:99", "mps", "toaster"])
def test_absent_device_is_named(save, device):
    """Forbids torch's assertion about drivers as the answer to a wrong device."""
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has mps")
    with pytest.raises(errors.DeviceError, match="cpu") as error:
        load(save(), device=device)
    assert is_one_sentence(error)


def test_unknown_dtype_is_named(save):
    """Forbids an AttributeError for a mistyped dtype, or torch's functions taken for one."""
    for dtype in ("float33", "softmax"):
        with pytest.raises(errors.DeviceError, match=dtype):
            load(save(), dtype=dtype)


def test_folder_without_tokenizer(save):
    """Forbids the tokenizer of one token that transformers makes up when there is none."""
    with pytest.raises(errors.MissingTokenizerError, match="no tokenizer") as error:
        load(save(with_tokenizer=False))
    assert is_one_sentence(error)
    llama = save("llama", model=LlamaForCausalLM(LlamaConfig(**LLAMA)), with_tokenizer=False)
    with pytest.raises(errors.MissingTokenizerError):
        load(llama)


def test_unreadable_tokenizer(save):
    """Forbids a parser's error for a damaged tokenizer file."""
    folder = save()
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(errors.MissingTokenizerError) as error:
        load(folder)
    assert is_one_sentence(error)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "truncated": lambda folder: cut(folder / "model.safetensors"),
    "no safetensors": lambda folder: (folder / "model.safetensors").write_bytes(b"hello" * 99),
    "empty file": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "no file": lambda folder: (folder / "model.safetensors").unlink(),
    "wrong shape": lambda folder: rewrite(
        folder, lambda t: t.update({"transformer.ln_f.bias": torch.zeros(3)})
    ),
    "cut pickle": lambda folder: (as_pickle(folder, {}), cut(folder / "pytorch_model.bin")),
    "empty pickle": lambda folder: (
        as_pickle(folder, {}),
        (folder / "pytorch_model.bin").write_bytes(b""),
    ),
    "a list": lambda folder: as_pickle(folder, [1, 2]),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_weights(save, kind):
    """Forbids a reader's own error, or a model, from a file that was cut off or overwritten."""
    folder = save()
    DAMAGE[kind](folder)
    with pytest.raises(errors.CorruptWeightsError, match="again") as error:
        load(folder)
    assert is_one_sentence(error)


def test_missing_shard(save):
    """Forbids a model of which one file of several did not arrive."""
    folder = save(max_shard_size="8KB")
    sorted(folder.glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(errors.CorruptWeightsError):
        load(folder)


def test_missing_tensor_is_refused(save):
    """Forbids the random tensor that transformers puts in for one that is not in the file."""
    folder = save()
    rewrite(folder, lambda tensors: tensors.pop("transformer.h.1.mlp.c_fc.weight"))
    with pytest.raises(errors.CorruptWeightsError, match=r"lack 1 tensors .*c_fc\.weight") as error:
        load(folder)
    assert is_one_sentence(error)


def test_checkpoint_of_another_task_is_refused(save):
    """Forbids reading a random unembedding out of a classifier's checkpoint."""
    classifier = LlamaForSequenceClassification(LlamaConfig(**LLAMA, pad_token_id=0))
    with pytest.raises(errors.CorruptWeightsError, match="lm_head"):
        load(save(model=classifier))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinite_weights(save, bad):
    """Forbids grids of NaN, and their blank plots, from a broken training run."""
    folder = save()
    rewrite(folder, lambda tensors: tensors["transformer.h.0.ln_1.weight"].__setitem__(3, bad))
    with pytest.raises(errors.NaNWeightsError, match=r"h\.0\.ln_1\.weight"):
        load(folder)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "no pickle"])
def test_pickles_that_could_run_code(save, tmp_path, gpt2, form):
    """Forbids code in a checkpoint: it must neither run nor be reported as a mere read error."""
    folder, target = save(), tmp_path / "code-ran"
    content = {"first": Runs(target), **gpt2.state_dict()}
    as_pickle(folder, content, _use_new_zipfile_serialization=form != "legacy")
    if form == "bare pickle":
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"first": Runs(target)}))
    elif form == "no pickle":
        (folder / "pytorch_model.bin").write_bytes(b"garbage, garbage")
    with pytest.raises(errors.UnsafeCheckpointError, match="safetensors") as error:
        load(folder)
    assert is_one_sentence(error)
    assert not target.exists()


def test_encoders_are_refused_and_decoders_of_their_families_are_not(save):
    """Forbids BERT with attention in both directions, which transformers only logs."""
    with pytest.raises(errors.UnsupportedModelError, match="encoder-only") as error:
        load(save("bert", model=BertForMaskedLM(BertConfig(**BERT))))
    assert is_one_sentence(error)
    bart = BartConfig(
        vocab_size=260, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16,
    )  # fmt: skip
    with pytest.raises(errors.UnsupportedModelError, match="encoder-decoder"):
        load(save("bart", model=BartForConditionalGeneration(bart)))
    decoder = BertLMHeadModel(BertConfig(**BERT, is_decoder=True))
    assert load(save("decoder", model=decoder)).hf_model.config.is_decoder


CONFIGS = {
    "remote code": ({"model_type": "odd", "auto_map": {"AutoConfig": "odd.Odd"}}, "never run here"),
    "unknown type": ({"model_type": "odd"}, "does not know"),
    "no type": ({}, "does not know"),
    "a list": ([], "does not know"),
    "vision": ({"model_type": "vit"}, "no causal language model"),
    "wrong value": ({"model_type": "gpt2", "n_layer": "many"}, "cannot have"),
    "sizes that do not fit": ({"model_type": "gpt2", "n_embd": 33, "n_head": 4}, "do not make"),
    "a million layers": ({"model_type": "gpt2", "n_layer": 10**6}, "1000000 layers"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_configs_that_make_no_model(save, kind):
    """Forbids code from a repository, an endless build, or a validator's error for a bad config."""
    folder = save()
    content, sentence = CONFIGS[kind]
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(errors.UnsupportedModelError, match=sentence) as error:
        load(folder)
    assert is_one_sentence(error)


def test_config_that_is_no_json(save):
    """Forbids a JSON parser's error for a damaged config."""
    folder = save()
    (folder / "config.json").write_text("{")
    with pytest.raises(errors.UnsupportedModelError):
        load(folder)


def test_too_large_is_known_before_weights_are_read(save, monkeypatch):
    """Forbids fetching gigabytes to find that they do not fit: no weights are there at all."""
    folder = save()
    (folder / "model.safetensors").unlink()
    with pytest.raises(errors.ModelTooLargeError, match=r"0\.00 GB .* 1e-06 GB") as error:
        load(folder, limit_gb=1e-6)
    assert "million parameters" in str(error.value)
    monkeypatch.setenv("LENS_LAB_MAX_MODEL_GB", "0.000001")
    with pytest.raises(errors.ModelTooLargeError):
        load(folder)
    monkeypatch.setenv("LENS_LAB_MAX_MODEL_GB", "plenty")
    with pytest.raises(errors.LensError, match="number of gigabytes"):
        load(folder)


def test_load_config_needs_no_weights(save, gpt2):
    """Forbids a size estimate that has to read the model first."""
    folder = save(with_tokenizer=False)
    (folder / "model.safetensors").unlink()
    assert sizing.estimate(load_config(folder)).n_params == gpt2.num_parameters()
