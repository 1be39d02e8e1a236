"""The network that is trained, against the GPT-2 that is shipped."""

import pytest
import torch
import torch.nn.functional as F

from lens_core.world import net as module
from lens_core.world.net import TinyGPT, causal_mask

N_CTX = 16


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = TinyGPT(50, n_layers=3, d_model=32, n_heads=4, n_ctx=N_CTX)
    with torch.no_grad():
        for p in net.parameters():  # fresh biases are zero and hide mistakes
            p.add_(0.1 * torch.randn_like(p))
    return net


@pytest.fixture(scope="module")
def ids():
    return torch.randint(0, 50, (4, N_CTX), generator=torch.Generator().manual_seed(1))


def _inputs(net, n_rows):
    return [causal_mask(N_CTX)] * net.n_layers, torch.ones(net.n_layers, n_rows, 1, 1)


@pytest.fixture
def fp32(monkeypatch):
    monkeypatch.setattr(module, "_linear", lambda layer, x: F.linear(x, layer.weight, layer.bias))


@pytest.mark.usefixtures("fp32")
@torch.no_grad()
def test_the_export_gives_the_same_logits(net, ids):
    """Forbids a transposed matrix, a forgotten bias, another GELU in the shipped file."""
    ours = F.linear(net.hidden(ids, *_inputs(net, 4)), net.wte.weight)
    theirs = net.to_gpt2(0)(ids).logits
    assert torch.allclose(ours, theirs, atol=1e-4)


@torch.no_grad()
def test_the_training_loss_is_the_exported_models_loss(net, ids):
    """Forbids a loss that is off by a position, or bf16 that is more than rounding."""
    masks, keep = _inputs(net, 4)
    ours = net.loss(ids, [m.bfloat16() for m in masks], keep.bfloat16())
    theirs = net.to_gpt2(0)(ids, labels=ids).loss
    assert ours.item() == pytest.approx(theirs.item(), abs=0.02)


def test_the_causal_mask_hides_the_future_alone():
    """Forbids a model that reads its answer."""
    mask = causal_mask(5)
    assert torch.equal(mask == 0, torch.ones(5, 5).tril().bool())
    assert torch.isinf(mask[mask != 0]).all()


def test_the_local_mask_shows_a_window():
    """Forbids a window that is off by one: the token itself counts."""
    visible = (causal_mask(6, window=3) == 0).int()
    assert visible.sum(1).tolist() == [1, 2, 3, 3, 3, 3]
    assert visible[5].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.usefixtures("fp32")
@torch.no_grad()
def test_local_attention_keeps_far_tokens_out(net, ids):
    """Forbids that the mask of one block is used for another, or for none."""
    local = [causal_mask(N_CTX, window=2)] * net.n_layers
    keep = torch.ones(net.n_layers, 4, 1, 1)
    before = net.hidden(ids, local, keep)
    changed = ids.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 50
    after = net.hidden(changed, local, keep)
    reach = net.n_layers * (2 - 1)
    assert torch.allclose(before[:, reach + 1 :], after[:, reach + 1 :])
    assert not torch.allclose(before[:, reach], after[:, reach])


@pytest.mark.usefixtures("fp32")
@torch.no_grad()
def test_a_late_mlp_that_is_off_adds_nothing(net, ids):
    """Forbids that switching an MLP off reaches other rows or other blocks."""
    masks, keep = _inputs(net, 4)
    off = keep.clone()
    off[2, 1] = 0
    both, one = net.hidden(ids, masks, keep), net.hidden(ids, masks, off)
    assert torch.allclose(both[[0, 2, 3]], one[[0, 2, 3]])
    muted = TinyGPT(50, n_layers=3, d_model=32, n_heads=4, n_ctx=N_CTX)
    muted.load_state_dict(net.state_dict())
    muted.blocks[2].mlp_out.weight.zero_()
    muted.blocks[2].mlp_out.bias.zero_()
    assert torch.allclose(muted.hidden(ids, masks, keep)[1], one[1], atol=1e-5)
