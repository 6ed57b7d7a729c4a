"""The text encoder: word embeddings and two small bidirectional attention layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .tokenizer import MAX_LENGTH, VOCABULARY_SIZE

WIDTH = 128
HEADS = 4
LAYERS = 2


class Layer(nn.Module):
    """Pre-norm self-attention and MLP on [B, L, WIDTH]; `operations` as ComfyUI passes them."""

    def __init__(self, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.norm1 = operations.LayerNorm(WIDTH, **factory)
        self.qkv = operations.Linear(WIDTH, 3 * WIDTH, **factory)
        self.proj = operations.Linear(WIDTH, WIDTH, **factory)
        self.norm2 = operations.LayerNorm(WIDTH, **factory)
        self.fc1 = operations.Linear(WIDTH, 2 * WIDTH, **factory)
        self.fc2 = operations.Linear(2 * WIDTH, WIDTH, **factory)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (
            self.qkv(self.norm1(x)).view(b, n, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, WIDTH)
        x = x + self.proj(mixed)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ToyTextModel(nn.Module):
    """Token ids [B, L] to features [B, L, WIDTH], with the interface SDClipModel wants of a model.

    Padding is attended to like any other token: prompts have one length, in training as in use.
    """

    num_layers = LAYERS

    def __init__(self, config: dict[str, Any], dtype: Any, device: Any, operations: Any) -> None:
        del config
        super().__init__()
        factory = {"dtype": dtype, "device": device}
        self.token_embedding = operations.Embedding(VOCABULARY_SIZE, WIDTH, **factory)
        self.position_embedding = operations.Embedding(MAX_LENGTH, WIDTH, **factory)
        self.layers = nn.ModuleList(Layer(operations, **factory) for _ in range(LAYERS))
        self.final_norm = operations.LayerNorm(WIDTH, **factory)

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding (SDClipModel looks words up itself)."""
        return self.token_embedding

    def forward(
        self,
        input_tokens: Tensor | None,
        attention_mask: Tensor | None = None,
        embeds: Tensor | None = None,
        num_tokens: Sequence[int] | None = None,
        intermediate_output: int | None = None,
        **_options: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Features of the last layer and of layer `intermediate_output`; pooled [B, WIDTH]."""
        del attention_mask, num_tokens
        x = self.token_embedding(input_tokens) if embeds is None else embeds
        # Textual-inversion embeddings may lengthen a prompt: positions past the last one share it.
        positions = torch.arange(x.shape[1], device=x.device).clamp(max=MAX_LENGTH - 1)
        x = x + self.position_embedding(positions).to(x.dtype)
        wanted = None if intermediate_output is None else intermediate_output % LAYERS
        intermediate = None
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index == wanted:
                intermediate = self.final_norm(x)
        x = self.final_norm(x)
        return x, intermediate, x.mean(dim=1)
