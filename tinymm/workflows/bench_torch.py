"""The other side of the benchmark: the same CLIP, the same sizes, in PyTorch's own idiom; prints the same lines.

Run by `bench --against torch`, or alone: `python -m tinymm.workflows.bench_torch W1 W2 --workers 2`. Nothing else in tinymm imports torch.
"""

import argparse
import gc
import time

import torch
import torch.nn.functional as F  # noqa: N812 (its users' name for it)
from torch import nn

from .bench_memory import forget_peak, peak_mb, resident_mb

BATCH = 64
#: picture, patch, width, layers, heads, context, vocabulary (performance workloads W1 and W2)
WORKLOADS = {"W1": (32, 4, 128, 4, 4, 16, 1000), "W2": (64, 8, 256, 6, 4, 32, 2000)}


class Block(nn.Module):
    """A pre-norm transformer block with QuickGELU."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, causal):
        """Map (B, T, D) to (B, T, D)."""
        B, T, D = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x + self.output(mixed.transpose(1, 2).reshape(B, T, D))
        h = self.expand(self.norm_2(x))
        return x + self.contract(h * torch.sigmoid(1.702 * h))


class TorchCLIP(nn.Module):
    """The CLIP of the workloads: a ViT and a causal text transformer of one width."""

    def __init__(self, side, patch, width, layers, heads, context, vocabulary):
        super().__init__()
        places = (side // patch) ** 2
        self.patches = nn.Conv2d(3, width, patch, patch, bias=False)
        self.first, self.places = nn.Parameter(torch.randn(width) * 0.02), nn.Parameter(torch.randn(places + 1, width) * 0.02)
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.image_blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Parameter(torch.randn(context, width) * 0.01)
        self.text_blocks, self.text_after = nn.ModuleList(Block(width, heads) for _ in range(layers)), nn.LayerNorm(width)
        self.W_i, self.W_t = (nn.Parameter(torch.randn(width, width) * width**-0.5) for _ in range(2))
        self.t = nn.Parameter(torch.tensor(2.659))

    def forward(self, images, ids):
        """Return the logits (B, B) of pictures (B, 3, h, w) and ids (B, T)."""
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = self.before(torch.cat([self.first.expand(len(x), 1, -1), x], 1) + self.places)
        for block in self.image_blocks:
            x = block(x, False)
        y = self.tokens(ids) + self.positions
        for block in self.text_blocks:
            y = block(y, True)
        y = self.text_after(y)[torch.arange(len(ids)), ids.argmax(-1)]
        return F.normalize(self.after(x[:, 0]) @ self.W_i, dim=-1) @ F.normalize(y @ self.W_t, dim=-1).T * self.t.exp()


def measure(name: str, device: str) -> None:
    """Print the time of a training step and of a forward pass, and the peak memory above what imports took."""
    sizes = WORKLOADS[name]
    gc.collect()
    before = resident_mb()
    forget_peak()
    model = TorchCLIP(*sizes).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    images = torch.randn(BATCH, 3, sizes[0], sizes[0], device=device)
    ids = torch.randint(1, sizes[6], (BATCH, sizes[5]), device=device)
    labels = torch.arange(BATCH, device=device)

    def step():
        logits = model(images, ids)
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def forward():
        with torch.no_grad():
            logits = model(images, ids)
            (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2

    for what, run in (("step", step), ("fwd", forward)):
        for _ in range(3):
            run()
        times = []
        for _ in range(20):
            began = time.perf_counter()
            run()
            if device != "cpu":
                torch.cuda.synchronize()
            times.append((time.perf_counter() - began) * 1e3)
        print(f"{name} torch {what} ms min {min(times):.1f} med {sorted(times)[10]:.1f}", flush=True)
    print(f"{name} torch peak MB {peak_mb() - before:.0f}", flush=True)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.workers)
    for name in options.workloads:
        measure(name, options.device)


if __name__ == "__main__":
    main()
