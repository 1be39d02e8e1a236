"""*Show the code*: the page's figures as a short script for ``lens_core``, settings included."""

_LOGIT_LENS = """\
from lens_core import HookedModel
from lens_core.lens import read_lens
from lens_core.plots import lens_heatmap, top_k_bars, trajectories

model = HookedModel.from_pretrained({model!r})
tokens = model.to_tokens({prompt!r}, prepend_bos={prepend_bos!r})

# By hand, for the last token: the model's own last step, applied after every block.
_, cache = model.run_with_cache(tokens, names=["resid_post"])
for layer in range(model.cfg.n_layers):
    state = cache["resid_post", layer][:, -1:]
    logits = model.unembed(model.ln_final(state))[0, -1]
    best = logits.softmax(-1).topk(5)
    print(layer, model.to_str_tokens(best.indices), best.values.tolist())

# The whole grid, reduced row by row, and the page's three figures.
lens = read_lens(model, tokens, site={site!r}, targets={targets!r})
print(lens.to_frame().to_string(max_rows=20, max_cols=12))
print("largest difference from the model's own logits:", lens.parity.max_abs)
lens_heatmap(lens, {quantity!r}).write_html("grid.html")
top_k_bars(lens, row={row}, position={position}).write_html("best_guesses.html")
trajectories(lens, position={position}).write_html("trajectories.html")
"""


def logit_lens_code(
    *,
    model: str,
    prompt: str,
    prepend_bos: bool | None,
    site: str,
    quantity: str,
    row: int,
    position: int,
    targets: tuple[int, ...] = (),
) -> str:
    """A script that redraws the page's figures outside Streamlit. Texts are quoted by ``repr``."""
    return _LOGIT_LENS.format(
        model=model,
        prompt=prompt,
        prepend_bos=prepend_bos,
        site=site,
        quantity=quantity,
        row=row,
        position=position,
        targets=targets,
    )
