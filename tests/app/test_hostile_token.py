"""A token that is markup: shown as text wherever page, figures and exports show it."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from app.components.circuitsvis import TokenLogProbs, token_log_probs_html
from app.components.lens_grid import Chosen, GridView, grid_data
from app.errors import plain
from app.lens_lab.prompt_tokens import expected_table, expected_tokens
from app.lens_lab.words import column_line, token
from app.lesson import load_lesson
from app.lesson.notebook import notebook_json
from lens_core import HookedModel
from lens_core.lens import read_lens
from lens_core.plots import QUANTITIES, lens_heatmap, top_k_bars, trajectories

ROOT = Path(__file__).resolve().parents[2]
EVIL = "</script><img src=x onerror=alert(1)>".replace(" ", "\N{NO-BREAK SPACE}")
WORDS = ["<eos>", EVIL, "<b>bold</b>", "plain", "&lt;", "a\u2028b"]


@pytest.fixture(scope="module")
def lens():
    """A random model whose vocabulary is mostly markup, reading some of it."""
    words = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<eos>"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>")
    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=len(WORDS), n_positions=16)
    model = HookedModel.from_hf(GPT2LMHeadModel(config).eval(), tokenizer, name="hostile")
    return read_lens(model, torch.tensor([[1, 2, 3, 4, 5, 1]]), top_k=3)


class Elements(HTMLParser):
    """Every element of a page, its attributes, and the scripts' text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.handlers, self.sources, self.scripts = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script" and data.strip():
            self.scripts.append(data)


def test_the_circuitsvis_page_holds_no_element_from_a_token(lens):
    """Forbids a token that ends the script, and one that CircuitsVis would set as HTML."""
    page = token_log_probs_html(expected_tokens(lens, 0))
    seen = Elements(page)
    assert " ".join(seen.tags) == "html head meta meta title style body div script script"
    assert not seen.handlers
    props = json.loads(re.search(r"TokenLogProbs, (\{.*\})\);", seen.scripts[-1])[1])
    shown = [*props["prompt"], *(t for place in props["topKTokens"] for t in place)]
    assert len(set(shown)) > 2
    assert not any("<" in text or ">" in text for text in shown)
    assert "&lt;/script&gt;&lt;img" in props["prompt"][0]
    assert props["prompt"][3] == "&amp;lt;"
    assert "\u2028" not in page


def test_the_circuitsvis_page_asks_no_other_host(lens):
    """Forbids a CDN, the package's own default, and a frame that may fetch or run what it likes."""
    page = token_log_probs_html(expected_tokens(lens, 0))
    assert not Elements(page).sources
    assert "unpkg" not in page
    assert "sourceMappingURL" not in page
    assert "default-src 'none'; script-src 'sha256-" in page


def test_the_table_says_what_the_picture_says(lens):
    """Forbids a loss that is off by one token, or of another row."""
    data = expected_tokens(lens, 1)
    table = expected_table(data)
    assert table["token"].tolist() == list(data.tokens[1:])
    loss = -lens.next_logprobs[1, :-1]
    assert table["cross-entropy (nats)"].tolist() == pytest.approx(loss.tolist(), abs=6e-4)
    assert table["rank"].tolist() == lens.next_ranks[1, :-1].tolist()


def test_a_token_that_cannot_follow_still_makes_valid_json():
    """Forbids `Infinity` in a script, which leaves the frame empty."""

    data = TokenLogProbs(["a", "b"], [float("-inf")], [9], [["c"]], [[0.0]])
    page = token_log_probs_html(data)
    assert "Infinity" not in page.rpartition("CircuitsVis.render")[2]


def test_grid_payload_and_hover_hold_it_as_data(lens):
    """Forbids a payload that is changed or lost on its way; the browser sets it as text."""
    view = GridView(
        lens=lens, quantity=QUANTITIES["probability"], prompt=EVIL, title="t",
        has_bos=False, rows=(0, 1, 2),
    )  # fmt: skip
    data = json.loads(json.dumps(grid_data(view, Chosen(row=0, column=0))))
    assert any("</script><img" in text for text in data["vocab"])
    assert "</script><img" in data["tokens"][0]
    assert data["prompt"] == EVIL


def test_the_components_never_set_html():
    """Forbids the one way by which a token in grid, hover or SVG export could become an element."""
    scripts = sorted((ROOT / "app" / "components").glob("*.js"))
    assert scripts
    for file in scripts:
        source = file.read_text(encoding="utf-8")
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert way not in source, f"{way} in {file.name}"


def test_sentences_show_it_as_text(lens):
    """Forbids markup and Markdown that a token brings into a sentence."""
    line = column_line(lens, 0, 1.0)
    assert token(lens.tokens[0]) in line
    assert not re.search(r"(?<!\\)<", line)
    assert not re.search(r"(?<!\\)<", plain(EVIL))


def test_figures_show_it_as_text(lens):
    """Forbids plotly's own small HTML, in labels and hover, from a token."""
    for figure in (
        lens_heatmap(lens, "probability"), top_k_bars(lens, 0, 0), trajectories(lens, 0),
    ):  # fmt: skip
        text = json.dumps(json.loads(figure.to_json()))
        assert "<img" not in text
        assert "<b>bold" not in text
        page = figure.to_html(include_plotlyjs=False)
        assert "img" not in Elements(page).tags


def test_a_notebook_holds_it_as_a_quoted_string():
    """Forbids a setting that becomes code or markup in the exported notebook."""
    lesson = load_lesson("logit-lens")
    hostile = dataclasses.replace(lesson, settings={**lesson.settings, "prompt": EVIL})
    cells = json.loads(notebook_json(hostile, "tiny-world"))["cells"]
    holding = [cell for cell in cells if "onerror" in "".join(cell["source"])]
    assert holding
    assert all(cell["cell_type"] == "code" for cell in holding)
    assert repr(EVIL) in "".join(holding[0]["source"])


def test_the_prompt_s_tokens_open_on_the_page(open_page):
    """Forbids a view that fails when unfolded, or that is made while it is folded."""
    at = open_page("logit_lens", prompt="Paris is the capital of")
    assert not at.get("iframe")
    at.session_state["tokens_open"] = True
    at.run()
    assert not at.exception
    assert len(at.get("iframe")) == 1
    assert any("cross-entropy (nats)" in frame.value.columns for frame in at.dataframe)
