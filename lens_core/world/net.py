"""The network that is trained: GPT-2 written for fast training, exported as plain GPT-2.

Two things exist in training alone and leave no trace in the file: *local attention* in the early
blocks (a mask) and *late MLPs off* (a factor). Together with the cards they make facts live where
large models keep them: at the last token of the subject, in the early and middle MLPs (see the
model card).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block


def causal_mask(n_ctx: int, window: int | None = None) -> Tensor:
    """Additive mask [n_ctx, n_ctx]: -inf on the future, and beyond ``window`` tokens back."""
    i = torch.arange(n_ctx)
    hidden = i[None, :] > i[:, None]
    if window is not None:
        hidden |= i[:, None] - i[None, :] >= window
    return torch.zeros(n_ctx, n_ctx).masked_fill(hidden, float("-inf"))


class Block(nn.Module):
    """One transformer block, pre-norm, as GPT-2's."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.ln_1 = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.attn_out = nn.Linear(d_model, d_model)
        self.ln_2 = nn.LayerNorm(d_model)
        self.mlp_in = nn.Linear(d_model, 4 * d_model)
        self.mlp_out = nn.Linear(4 * d_model, d_model)

    def forward(self, x: Tensor, mask: Tensor, keep_mlp: Tensor) -> Tensor:
        """x [batch, pos, d_model] fp32; mask [pos, pos]; keep_mlp [batch, 1, 1], zeros and ones."""
        batch, pos, d_model = x.shape
        d_head = d_model // self.n_heads
        qkv = _linear(self.qkv, self.ln_1(x)).view(batch, pos, 3, self.n_heads, d_head)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = torch.matmul(q * d_head**-0.5, k.transpose(-1, -2)) + mask
        # Written out: the fused attention's backward takes 45% of a training step on a CPU.
        z = torch.matmul(torch.softmax(scores, -1), v).transpose(1, 2).reshape(batch, pos, d_model)
        x = x + _linear(self.attn_out, z)
        hidden = F.gelu(_linear(self.mlp_in, self.ln_2(x)), approximate="tanh")
        return x + _linear(self.mlp_out, hidden) * keep_mlp


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """The layer in bf16: 1.3 to 1.8 times as fast as fp32 on a CPU with AMX, the same loss."""
    return F.linear(x.bfloat16(), layer.weight.bfloat16(), layer.bias.bfloat16())


class TinyGPT(nn.Module):
    """GPT-2 with tied embeddings. ``loss(ids, ...)`` trains, ``to_gpt2()`` exports."""

    def __init__(
        self, d_vocab: int, *, n_layers: int, d_model: int, n_heads: int, n_ctx: int
    ) -> None:
        super().__init__()
        self.n_layers, self.n_heads, self.n_ctx = n_layers, n_heads, n_ctx
        self.wte = nn.Embedding(d_vocab, d_model)
        self.wpe = nn.Embedding(n_ctx, d_model)
        self.blocks = nn.ModuleList(Block(d_model, n_heads) for _ in range(n_layers))
        self.ln_f = nn.LayerNorm(d_model)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                into_residual = name.endswith(("attn_out.weight", "mlp_out.weight"))
                nn.init.normal_(p, 0, 0.02 / (math.sqrt(2 * n_layers) if into_residual else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def hidden(self, ids: Tensor, masks: list[Tensor], keep_mlp: Tensor) -> Tensor:
        """The final norm's output [batch, pos, d_model].

        ids [batch, pos]; one mask [pos, pos] a block; keep_mlp [layer, batch, 1, 1].
        """
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        for i, block in enumerate(self.blocks):
            x = block(x, masks[i], keep_mlp[i])
        return self.ln_f(x)

    def loss(self, ids: Tensor, masks: list[Tensor], keep_mlp: Tensor) -> Tensor:
        """Mean cross-entropy of the next token in nats; the arguments are those of `hidden`."""
        hidden = self.hidden(ids, masks, keep_mlp)[:, :-1].reshape(-1, self.wte.embedding_dim)
        logits = F.linear(hidden.bfloat16(), self.wte.weight.bfloat16())
        return F.cross_entropy(logits.float(), ids[:, 1:].reshape(-1))

    def to_gpt2(self, bos_id: int) -> GPT2LMHeadModel:
        """The same weights as a plain ``GPT2LMHeadModel`` in fp32."""
        config = GPT2Config(
            vocab_size=self.wte.num_embeddings,
            n_positions=self.n_ctx,
            n_embd=self.wte.embedding_dim,
            n_layer=self.n_layers,
            n_head=self.n_heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=bos_id,
            eos_token_id=bos_id,
        )
        model = GPT2LMHeadModel(config)
        with torch.no_grad():
            body = model.transformer
            body.wte.weight.copy_(self.wte.weight)
            body.wpe.weight.copy_(self.wpe.weight)
            _copy_norm(body.ln_f, self.ln_f)
            for theirs, ours in zip(body.h, self.blocks, strict=True):
                assert isinstance(ours, Block)
                _copy_block(theirs, ours)
        return model.eval()


def _copy_block(target: GPT2Block, source: Block) -> None:
    """GPT-2 keeps its matrices transposed."""
    _copy_norm(target.ln_1, source.ln_1)
    _copy_norm(target.ln_2, source.ln_2)
    for conv, linear in (
        (target.attn.c_attn, source.qkv),
        (target.attn.c_proj, source.attn_out),
        (target.mlp.c_fc, source.mlp_in),
        (target.mlp.c_proj, source.mlp_out),
    ):
        conv.weight.copy_(linear.weight.T)
        conv.bias.copy_(linear.bias)


def _copy_norm(target: nn.LayerNorm, source: nn.LayerNorm) -> None:
    target.weight.copy_(source.weight)
    target.bias.copy_(source.bias)
