"""PyTorch's side of the benchmark: the same models and sizes in its own idiom, in eager mode; prints the same lines.

Run by `bench --against torch`, or alone: `python -m tinymm.workflows.bench.torch_side W1 W2
--workers 2`. Nothing else in tinymm imports torch.
"""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its users' name for it)
from torch import nn

from .cases import Case, Contrast, Decode, Loss
from .timing import main


class Block(nn.Module):
    """A pre-norm transformer block with QuickGELU, or ReLU where it decodes over remembered keys and values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def mixed(self, x, causal, cache=None):
        """Map (B, T, D) to (B, T, D) by attention, over what `cache` [keys, values] remembers as well."""
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = (
                (torch.cat([old, new], dim=2) for old, new in zip(cache, (k, v), strict=True))
                if cache
                else (k, v)
            )
            cache[:] = [k, v]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.output(y.transpose(1, 2).reshape(B, T, D))

    def forward(self, x, causal):
        """Map (B, T, D) to (B, T, D)."""
        x = x + self.mixed(self.norm_1(x), causal)
        h = self.expand(self.norm_2(x))
        return x + self.contract(h * torch.sigmoid(1.702 * h))

    def decode(self, x, cache):
        """Map new positions (B, T, D) to (B, T, D) behind those that the cache remembers; T is 1 but for the prompt."""
        x = x + self.mixed(self.norm_1(x), x.shape[1] > 1, cache)
        return x + self.contract(F.relu(self.expand(self.norm_2(x))))


class TorchCLIP(nn.Module):
    """The CLIP of the workloads: a ViT and a causal text transformer of one width."""

    def __init__(self, case: Contrast):
        super().__init__()
        D, places = case.width, (case.side // case.patch) ** 2
        self.patches = nn.Conv2d(3, D, case.patch, case.patch, bias=False)
        self.first, self.places = (
            nn.Parameter(torch.randn(D) * 0.02),
            nn.Parameter(torch.randn(places + 1, D) * 0.02),
        )
        self.before, self.after = nn.LayerNorm(D), nn.LayerNorm(D)
        self.image_blocks = nn.ModuleList(Block(D, case.heads) for _ in range(case.layers))
        self.tokens, self.positions = (
            nn.Embedding(case.vocabulary, D),
            nn.Parameter(torch.randn(case.context, D) * 0.01),
        )
        self.text_blocks = nn.ModuleList(Block(D, case.heads) for _ in range(case.layers))
        self.text_after = nn.LayerNorm(D)
        self.W_i, self.W_t = (nn.Parameter(torch.randn(D, D) * D**-0.5) for _ in range(2))
        self.t = nn.Parameter(torch.tensor(2.659))

    def image(self, images):
        """Return the features (B, E) of pictures (B, 3, h, w)."""
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = self.before(torch.cat([self.first.expand(len(x), 1, -1), x], 1) + self.places)
        for block in self.image_blocks:
            x = block(x, False)
        return self.after(x[:, 0]) @ self.W_i

    def forward(self, images, ids):
        """Return the loss of pictures (B, 3, h, w) and ids (B, T)."""
        y = self.tokens(ids) + self.positions
        for block in self.text_blocks:
            y = block(y, True)
        y = self.text_after(y)[torch.arange(len(ids)), ids.argmax(-1)]
        return symmetric_loss(self.image(images), y @ self.W_t, self.t)


def symmetric_loss(image, text, t: torch.Tensor):
    """Return the symmetric contrastive loss of features (n, E)."""
    logits = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T * torch.exp(t)
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


class TorchDecoder(nn.Module):
    """A language model that remembers keys and values."""

    def __init__(self, case: Decode):
        super().__init__()
        self.tokens = nn.Embedding(case.vocabulary, case.width)
        self.positions = nn.Parameter(torch.randn(case.prompt + case.new, case.width) * 0.02)
        self.blocks = nn.ModuleList(Block(case.width, case.heads) for _ in range(case.layers))
        self.after = nn.LayerNorm(case.width)

    @torch.no_grad()
    def generate(self, ids, new: int) -> list[list[int]]:
        """Return the likeliest `new` tokens after each prompt, one after the other."""
        caches: list[list] = [[] for _ in self.blocks]
        past, texts = 0, []
        for _ in range(new):
            x: Any = self.tokens(ids) + self.positions[past : past + ids.shape[1]]
            past += ids.shape[1]
            for block, cache in zip(self.blocks, caches, strict=True):
                x = block.decode(x, cache)  # type: ignore[operator]
            ids = (self.after(x[:, -1]) @ self.tokens.weight.T).argmax(-1, keepdim=True)
            texts.append(ids)
        return torch.cat(texts, dim=1).tolist()


@contextlib.contextmanager
def prepare(
    case: Case, options: argparse.Namespace
) -> Iterator[tuple[dict[str, Callable[[], object]], int]]:
    """Give what to time of a case."""
    torch.manual_seed(options.seed)
    device = "cuda" if options.backend == "cupy" else "cpu"

    def awaited(run):
        def waiting():
            run()
            torch.cuda.synchronize()

        return run if device == "cpu" else waiting

    if isinstance(case, Contrast):
        runs, units = contrast(case, device), 1
    elif isinstance(case, Loss):
        runs, units = loss(case, device), 1
    else:
        model = TorchDecoder(case).to(device)
        ids = torch.randint(5, case.vocabulary, (case.batch, case.prompt), device=device)
        runs, units = {"word": lambda: model.generate(ids, case.new)}, case.new
    yield {what: awaited(run) for what, run in runs.items()}, units


def contrast(case: Contrast, device: str) -> dict[str, Callable[[], object]]:
    """Return a training step, the forward pass with its loss, and the image encoder alone."""
    model = TorchCLIP(case).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    images = torch.randn(case.batch, 3, case.side, case.side, device=device)
    ids = torch.randint(1, case.vocabulary, (case.batch, case.context), device=device)

    def step():
        optimizer.zero_grad()
        model(images, ids).backward()
        optimizer.step()

    runs = {
        "step": step,
        "fwd": torch.no_grad()(lambda: model(images, ids)),
        "image": torch.no_grad()(lambda: model.image(images)),
    }
    return {what: runs[what] for what in case.what}


def loss(case: Loss, device: str) -> dict[str, Callable[[], object]]:
    """Return the contrastive loss of given features with its gradient, the projections included."""
    I, T = (torch.randn(case.n, case.width, device=device, requires_grad=True) for _ in range(2))
    W, t = (
        torch.eye(case.width, device=device),
        torch.tensor(2.659, device=device, requires_grad=True),
    )

    def step():
        torch.autograd.grad(symmetric_loss(I @ W, T @ W, t), (I, T, t))

    return {"step": step}


if __name__ == "__main__":
    main("torch", prepare, torch.set_num_threads)
