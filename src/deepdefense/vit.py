"""A vision transformer small enough for images of 32×32 pixels, in plain layers: every weight layer is a module that can be tapped.

PyTorch's and torchvision's attention multiply with weights of layers that are never called, and through kernels without a second
derivative; regularisers of the input gradient need both.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

PATCH, DEPTH, HEADS, HIDDEN = 4, 6, 3, 2  # pixels a side; blocks; heads of each; hidden units of a block, in channels


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017) of tokens (B, T, D)."""

    def __init__(self, channels: int):
        super().__init__()
        self.to_qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        b, t, d = tokens.shape
        q, k, v = self.to_qkv(tokens).view(b, t, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * (d // HEADS) ** -0.5).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(b, t, d))


class Block(nn.Module):
    """Attention and two linear layers, each behind a layer normalisation and added to what comes in."""

    def __init__(self, channels: int, activation: Callable[[], nn.Module]):
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(channels), Attention(channels), nn.LayerNorm(channels)
        self.fc1, self.act, self.fc2 = nn.Linear(channels, HIDDEN * channels), activation(), nn.Linear(HIDDEN * channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.fc2(self.act(self.fc1(self.norm2(tokens))))


class VisionTransformer(nn.Module):
    """Images (B, C, H, W), padded to sides that are multiples of 4, to logits (B, K): patches, learnt positions, blocks, the
    mean over tokens (Dosovitskiy et al. 2021, without the class token). channels: of a token, a multiple of 3."""

    def __init__(self, in_shape: Sequence[int], classes: int, *, channels: int, activation: Callable[[], nn.Module]):
        super().__init__()
        inputs, height, width = in_shape
        self.pad = nn.ZeroPad2d((0, -width % PATCH, 0, -height % PATCH))
        self.patches = nn.Conv2d(inputs, channels, PATCH, stride=PATCH)
        self.positions = nn.Parameter(0.02 * torch.randn(1, -(-height // PATCH) * -(-width // PATCH), channels))
        self.blocks = nn.Sequential(*(Block(channels, activation) for _ in range(DEPTH)))
        self.norm, self.head = nn.LayerNorm(channels), nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(self.pad(x)).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(tokens)).mean(1))
