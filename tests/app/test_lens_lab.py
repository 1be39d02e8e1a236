"""The lens lab's own parts: settings, what is computed, the code, stored results, measures."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch

from app.components.lens_grid import GridView, grid_data
from app.jobs import Job
from app.lens_cache import Question, ask, fingerprint, tokens_of
from app.lens_lab.lenses import keep_trained, lens_key
from app.lens_lab.reading import only_rows, read, shown_rows
from app.lens_lab.request import request
from app.lens_lab.settings import OTHER_LENS, OTHER_PROMPT, SITES, Settings
from app.lens_lab.words import cautions, column_line, is_undertrained
from app.lesson.measures import measures
from app.models import load_model
from app.presets import PRESETS
from app.snippets import MOST_LINES, lens_code
from app.stored_results import FILE, read_results
from lens_core.lens import LogitLens, TunedLens, read_lens
from lens_core.lens.arithmetic import cell_arithmetic
from lens_core.plots import QUANTITIES, Aim

PROMPT = "The Eiffel Tower is in the city of"
EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-world")


def grids(at):
    return [json.loads(element.proto.json) for element in at.get("bidi_component")]


# What is computed


def test_a_target_and_a_foil_are_words(model):
    """Forbids a rank of the final answer under the name of the word that was asked for."""
    wanted = request(model, Settings(prompt=PROMPT, target="London", foil="Rome"))
    london, rome = model.to_single_token(" London"), model.to_single_token(" Rome")
    assert wanted.aim == Aim(london, foil=rome)
    assert wanted.first.targets == (london, rome)
    assert not wanted.notes


def test_what_cannot_be_had_is_replaced_and_said(model):
    """Forbids a silent logit lens under another name, and a traceback for a word of two tokens."""
    wanted = request(model, Settings(prompt=PROMPT, target="Zqxwvk", lens="trained here"))
    assert wanted.aim == Aim("final")
    assert wanted.first.lens_key == "logit"
    assert len(wanted.notes) == 2
    assert "trained" in wanted.notes[1]


def test_without_a_foil_the_runner_up_is_one(model):
    """Forbids an empty grid for *target minus foil*."""
    wanted = request(model, Settings(prompt=PROMPT, color="target minus foil"))
    lens = ask(model, wanted.first).lens
    assert wanted.aim.foil == int(read_lens(model, PROMPT).top_ids[-1, -1, 1])
    assert np.isfinite(QUANTITIES["target minus foil"].of(lens, wanted.aim)).all()


def test_prompts_of_other_length_are_refused_with_the_reason(model):
    """Forbids a difference of tokens that do not stand in the same place."""
    both = Settings(prompt=PROMPT, compare=OTHER_PROMPT, other_prompt="Paris is")
    reading = read(model, request(model, both))
    assert reading.second is None
    assert "tokens" in str(reading.refused)


def test_two_lenses_have_the_same_rows(model):
    """Forbids a difference of unlike rows."""
    settings = Settings(prompt=PROMPT, compare=OTHER_LENS, other_lens="last blocks", blocks=2)
    reading = read(model, request(model, settings))
    assert reading.second is not None
    assert reading.lens.row_layers == reading.second.lens.row_layers
    cut = only_rows(reading.lens, [0, 3])
    assert cut.top_ids.shape[0] == 2
    assert (cut.kl_nats[1] == reading.lens.kl_nats[4]).all()
    assert shown_rows(reading.lens, 3) == (2, 5, 8)


def test_settings_come_from_texts():
    """Forbids a lesson's settings that differ from the same ones in the URL."""
    assert Settings.of({"blocks": "2", "flip": "true", "position": "3", "step": "x"}) == Settings(
        blocks=2, flip=True, position=3
    )
    with pytest.raises(ValueError):
        Settings.of({"lens": "magnifying glass"})


# The arithmetic


@pytest.mark.parametrize("layer", [-1, 3, 7])
def test_the_arithmetic_sums_to_the_printed_probability(model, layer):
    """Forbids steps that do not lead to the number in the grid."""
    lens = read_lens(model, PROMPT)
    work = cell_arithmetic(model, PROMPT, layer=layer, position=-1)
    assert work.dot + work.bias + work.further == pytest.approx(work.logit, abs=1e-3)
    row = lens.row_layers.index(layer)
    assert work.probability == pytest.approx(np.exp(lens.final_logprobs[row, -1]), rel=1e-3)
    assert work.dot == pytest.approx(work.normed_norm * work.row_norm * work.cosine, rel=1e-4)


def test_the_arithmetic_shows_what_a_tuned_lens_changes(model):
    """Forbids a translator's step that is left out, or shown for the logit lens."""
    n, width = model.cfg.n_layers, model.cfg.d_model
    lens = TunedLens(None, torch.ones(n, width), "tiny-world")
    work = cell_arithmetic(model, PROMPT, lens, layer=2)
    assert work.change_norm == pytest.approx(width**0.5, rel=1e-4)
    assert "|h'|" in list(work.to_frame()["formula"])
    assert "|h'|" not in list(
        cell_arithmetic(model, PROMPT, LogitLens(), layer=2).to_frame()["formula"]
    )


# The code

VARIANTS = [
    Settings(prompt=PROMPT),
    *(
        Settings(prompt="Paris is", site=site, color="rank")
        for site in SITES
        if site != "resid_post"
    ),
    Settings(prompt=PROMPT, lens="last blocks", blocks=2, color="KL"),
    Settings(prompt=PROMPT, lens="tuned"),
    Settings(prompt=PROMPT, lens="jacobian"),
    Settings(prompt=PROMPT, lens="bias-only"),
    Settings(prompt=PROMPT, target="next token", color="cross-entropy", bos=False),
    Settings(prompt=PROMPT, target="London", foil="Rome", color="target minus foil"),
    Settings(prompt=PROMPT, follow="Rome, London", close=0.5, stride=2),
    Settings(prompt=PROMPT, compare=OTHER_LENS, other_lens="last blocks", blocks=3),
    Settings(prompt=PROMPT, compare=OTHER_LENS, other_lens="tuned"),
    Settings(prompt="London is in", compare=OTHER_PROMPT, other_prompt="Paris is in"),
    Settings(prompt="London is in", compare=OTHER_PROMPT, other_prompt="Of another length"),
    Settings(prompt=f'{EVIL} """ \' \\ {{x}}'),
]


@pytest.mark.parametrize("settings", VARIANTS)
def test_the_code_gives_the_page_s_numbers(model, settings, tmp_path, monkeypatch):
    """Forbids *Show the code* that is long, does not run, or computes something else."""
    wanted = request(model, settings)
    reading = read(model, wanted)
    cell = {"row": len(reading.lens.row_layers) - 2, "column": 1}
    code = lens_code(model, wanted, settings, reading, cell)
    assert len(code.splitlines()) <= MOST_LINES
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lens_core.HookedModel.from_pretrained", lambda name: model)
    made: dict = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, "code", "exec"), made)
    pairs = [(made["lens"], ask(model, wanted.first).lens)]
    if reading.second is not None:
        pairs.append((made["second"], ask(model, wanted.second).lens))
        assert (made["both"].js_nats == reading.comparison.js_nats).all()
    for ours, shown in pairs:
        assert (ours.top_ids == shown.top_ids).all()
        assert np.allclose(ours.kl_nats, shown.kl_nats, atol=1e-5)
        assert np.allclose(ours.target_logprobs, shown.target_logprobs, atol=1e-4)
    assert (tmp_path / "grid.html").is_file()


# Stored results


def test_stored_results_equal_a_live_run(model):
    """Forbids presets that show what the shipped model no longer says."""
    stored = read_results(FILE)
    weights = fingerprint(model)
    assert {w for w, _, _ in stored} == {weights}, "run: python -m scripts.store_presets"
    kept = {question: lens for _, question, lens in stored}
    for preset in PRESETS:
        question = Question("tiny-world", tokens_of(model, preset.prompt))
        live = read_lens(model, preset.prompt)
        assert (kept[question].final_ids == live.final_ids).all()
        assert np.allclose(kept[question].kl_nats, live.kl_nats, atol=1e-3)
        assert np.allclose(kept[question].top_logprobs, live.top_logprobs, atol=1e-3)
        assert kept[question].texts == live.texts
    assert FILE.stat().st_size < 1_000_000


# The grid


def view(lens, **changes):
    plain = {
        "lens": lens, "quantity": QUANTITIES["probability"], "prompt": PROMPT, "title": "t",
        "has_bos": True, "rows": tuple(range(len(lens.row_layers))),
    }  # fmt: skip
    return GridView(**{**plain, **changes})


def test_a_grid_of_32_tokens_is_small(model):
    """Forbids a payload above 200 kB for every change of a control."""
    lens = read_lens(model, torch.tensor([tokens_of(model, " ".join([PROMPT] * 4))[:32]]))
    data = grid_data(view(lens), {"row": 8, "column": 31})
    assert len(lens.token_ids) == 32
    assert len(json.dumps(data)) < 200_000


def test_the_grid_marks_hits_echoes_and_differences(model):
    """Forbids a tick on a wrong guess, and a difference that is not second minus first."""
    lens = read_lens(model, PROMPT)
    data = grid_data(view(lens, rows=(0, 4, 8)), {"row": 4, "column": 2})
    assert data["selected"] == {"row": 1, "column": 2}
    assert data["rows"][1]["row"] == 4
    assert [data["vocab"][i] for i in data["read"]] == data["tokens"]
    assert data["strip"][0]["values"][-1] == str(lens.first_hit())
    same = grid_data(view(lens, first=lens), {"row": 0, "column": 0})
    assert set(same["shade"]) == {0.5}
    assert same["quantity"]["diverging"]
    assert same["strip"] == []


def test_the_last_column_has_no_cross_entropy(model):
    """Forbids a colour for a number that does not exist, and NaN in JSON."""
    shown = view(read_lens(model, PROMPT), quantity=QUANTITIES["cross-entropy"])
    data = grid_data(shown, {"row": 0, "column": 0})
    last = len(data["tokens"]) - 1
    assert data["shade"][last] is None
    assert data["value"][last] == "–"
    json.dumps(data, allow_nan=False)


# Words


def test_the_column_is_read_out_and_the_cautions_are_found(model):
    """Forbids a sentence that does not say what the strip says, and a silent echo."""
    lens = read_lens(model, PROMPT)
    assert f"block {lens.first_hit()}" in column_line(lens, len(lens.token_ids) - 1, 1.0)
    assert any("Echo" in caution for caution in cautions(lens))
    assert is_undertrained({"held_out_kl_before_nats": [1.0], "held_out_kl_nats": [0.95]})
    assert not is_undertrained({"held_out_kl_before_nats": [1.0], "held_out_kl_nats": [0.3]})


def test_every_measure_runs(model):
    """Forbids a measure that a lesson may name and that fails."""
    settings = {"prompt": PROMPT, "lens": "logit", "site": "resid_post"}
    needs = {"log_odds": {"target": "Paris", "foil": "London"}, "kl_drop": {"layer": 6}}
    mine = {n: m for n, m in measures().items() if m.fn.__module__ == "app.lens_lab.measures"}
    assert len(mine) >= 20
    for name, measure in mine.items():
        assert measure.fn(model, settings, **needs.get(name, {})) is not None, name
    assert mine["first_hit"].fn(model, settings) == read_lens(model, PROMPT).first_hit()


# The page


def test_a_shared_link_restores_every_control(open_page):
    """Forbids a setting that is lost on the way to another browser."""
    link = {
        "prompt": PROMPT, "lens": "last blocks", "blocks": "2", "color": "target minus foil",
        "site": "resid_pre", "target": "London", "foil": "Rome", "follow": "Paris", "stride": "2",
        "flip": "true", "close": "0.5", "layer": "4", "position": "3",
        "compare": OTHER_PROMPT, "other_prompt": "The Brandenburg Gate is in the city of",
    }  # fmt: skip
    at = open_page("logit_lens", **link)
    assert not at.exception
    assert not at.error
    assert at.selectbox(key="target").value == "London"
    assert at.selectbox(key="lens").value == "last blocks"
    assert at.number_input(key="blocks").value == 2
    assert at.number_input(key="close").value == 0.5
    first = grids(at)[0]
    assert first["flip"]
    assert len(first["rows"]) == 4
    assert first["quantity"]["diverging"]
    assert first["selected"]["column"] == 3


@pytest.mark.parametrize(
    "nonsense",
    [{"lens": "x"}, {"stride": "0"}, {"blocks": "many"}, {"close": "-1"}, {"compare": "y"},
     {"target": "<img src=x>"}, {"foil": "a b c d"}, {"stride": "99"}],
)  # fmt: skip
def test_nonsense_in_the_address_breaks_nothing(open_page, nonsense):
    """Forbids a traceback because of a mistyped or hostile address."""
    at = open_page("logit_lens", **nonsense)
    assert not at.exception
    assert not at.error
    assert grids(at)


def test_hostile_tokens_reach_the_page_as_text(open_page):
    """Forbids markup from a prompt, a target or a second prompt in anything but data and code."""
    at = open_page("logit_lens", prompt=EVIL, target=EVIL, follow=EVIL, compare=OTHER_PROMPT,
                   other_prompt=EVIL)  # fmt: skip
    assert not at.exception
    for element in [*at.markdown, *at.caption, *at.error, *at.warning]:
        assert "<img" not in element.value.replace("\\<", "")


# Training


def test_a_job_can_be_cancelled_and_hands_over_its_error():
    """Forbids work that goes on after *Cancel*, and a failure that nobody is told of."""

    def endless(job):
        n = 0
        while True:
            n += 1
            job.step(n, 10**9, 0.0)

    job = Job(endless).start()
    job.cancel()
    assert job.finished.wait(10)
    assert job.result is None
    assert job.error is None
    broken = Job(lambda job: 1 / 0).start()
    assert broken.finished.wait(10)
    assert isinstance(broken.error, ZeroDivisionError)


def test_a_trained_lens_is_offered_for_its_model(model):
    """Forbids a lens of one model read through another, and one that outlives a new training."""
    n, width = model.cfg.n_layers, model.cfg.d_model
    keep_trained(model, TunedLens(None, torch.zeros(n, width), "tiny-world"))
    first = lens_key(model, "trained here", 1)
    keep_trained(model, TunedLens(None, torch.ones(n, width), "tiny-world"))
    assert first != lens_key(model, "trained here", 1)
