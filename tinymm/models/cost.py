"""What an encoder costs, from its sizes alone: multiply-adds, parameters, and the activations that training keeps for the backward pass.

Sizes are those of CLIP (Radford et al. 2021, Tables 19 and 20). No array is made, so the largest
model of the paper is counted as fast as the smallest. Costs of parts add up to those of the whole;
the tests count what tiny models really do.
"""

from dataclasses import astuple, dataclass

from .cbow import CBOWConfig
from .clip import CLIPConfig
from .resnet import ResNetConfig
from .text import TextConfig
from .vit import ViTConfig


@dataclass(frozen=True)
class Cost:
    """What one image or one text costs; `a + b` is both, `a * 3` three of them.

    `operations` are the multiply-adds of a forward pass in products of matrices, where nearly all
    the work is; `first` those among them whose input asks for no gradient, such as the patches'
    own; `parameters` what is trained; `kept` the numbers that stay in memory until the backward
    pass has used them.

    >>> Cost(operations=6, kept=2) + Cost(operations=1) * 2
    Cost(operations=8, parameters=0, kept=2, first=0)
    """

    operations: int = 0
    parameters: int = 0
    kept: int = 0
    first: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: int) -> "Cost":
        return Cost(*(a * times for a in astuple(self)))

    @property
    def step(self) -> int:
        """Multiply-adds of forward and backward: each product has a gradient for either side, each as dear as itself."""
        return 3 * self.operations - self.first


# ---------------------------------------------------------------------- the parts, for T rows
def linear(T: int, n: int, m: int, bias: bool = True) -> Cost:
    """Return the cost of a linear map of T rows from n to m numbers.

    >>> linear(2, 3, 4)
    Cost(operations=24, parameters=16, kept=8, first=0)
    """
    return Cost(T * n * m, n * m + bias * m, T * m)


def norm(T: int, D: int) -> Cost:
    """Return the cost of layer normalization, which keeps the unit rows, the result and a scale for each row."""
    return Cost(parameters=2 * D, kept=T * (2 * D + 1))


def attention(T: int, D: int, heads: int) -> Cost:
    """Return the cost of self-attention: two projections, scores and mixing, T² · D multiply-adds each; weights and row sums are kept.

    A causal mask saves nothing here: what is hidden is computed and dropped.
    """
    return (
        linear(T, D, 3 * D)
        + Cost(2 * T * T * D, kept=heads * T * (T + 1) + T * D)
        + linear(T, D, D)
    )


def mlp(T: int, D: int, F: int) -> Cost:
    """Return the cost of the feed-forward: of the wide middle, its input to the activation and a helper are kept."""
    return Cost(2 * T * D * F, 2 * D * F + F + D, T * (2 * F + D))


def block(T: int, D: int, heads: int, F: int) -> Cost:
    """Return the cost of a transformer block: two norms, attention, feed-forward, and two sums."""
    return norm(T, D) * 2 + attention(T, D, heads) + mlp(T, D, F) + added(T, D) * 2


def added(T: int, D: int) -> Cost:
    """Return the cost of a sum of T rows, or of another step from number to number: the result is kept."""
    return Cost(kept=T * D)


def conv(side: int, size: int, channels: int, channels_out: int, stride: int = 1) -> Cost:
    """Return the cost of a convolution of a square image, padded so that only the stride makes it smaller; its windows are kept as rows."""
    places = (side // stride) ** 2
    rows = (
        0 if size == stride == 1 else places * size * size * channels
    )  # a window of one place is a view
    return linear(places, size * size * channels, channels_out, bias=False) + Cost(kept=rows)


# ---------------------------------------------------------------------- the encoders
def image_cost(config: ViTConfig | ResNetConfig) -> Cost:
    """Return what the image encoder costs an image, without the projection into the shared embedding space.

    >>> round(image_cost(CLIPConfig.paper("ViT-B/32").image).operations / 1e9, 2)
    4.41
    """
    return _vit(config) if isinstance(config, ViTConfig) else _resnet(config)


def text_cost(config: TextConfig | CBOWConfig, length: int | None = None) -> Cost:
    """Return what the text encoder costs a text of `length` tokens (the whole context), without the projection into the shared embedding space.

    >>> round(text_cost(CLIPConfig.paper("ViT-B/32").text).operations / 1e9, 2)
    2.98
    """
    T, D = length or config.context, config.width
    words = Cost(parameters=config.vocabulary * D, kept=T * D)
    if isinstance(config, CBOWConfig):
        return words + Cost(T * D, first=T * D, kept=T + D) + norm(1, D)
    whole = words + Cost(parameters=config.context * D) + added(T, D) + norm(T, D) + added(1, D)
    return whole + block(T, D, config.heads, config.feed_forward or 4 * D) * config.layers


def projection(config: CLIPConfig) -> tuple[Cost, Cost]:
    """Return what the projection into the shared embedding space costs for an image and a text: W_i or W_t, and the division by the length."""
    image, E = config.image, config.embed_dim
    width = (
        image.width
        if isinstance(image, ViTConfig)
        else None
        if image.output_width
        else image.features
    )
    own = Cost() if width is None else linear(1, width, E, bias=False)
    return own + added(1, E) + Cost(kept=1), linear(1, config.text.width, E, bias=False) + added(
        1, E
    ) + Cost(kept=1)


def pair_cost(config: CLIPConfig, length: int | None = None) -> Cost:
    """Return what an image with its text costs both encoders and their projections: all but the loss; the scale t is counted.

    >>> pair_cost(CLIPConfig.paper("RN50")).parameters
    102007137
    """
    image, text = projection(config)
    scalars = Cost(parameters=2 if config.loss == "sigmoid" else 1)
    return image_cost(config.image) + image + text_cost(config.text, length) + text + scalars


def _vit(config: ViTConfig) -> Cost:
    P, D, patch = config.patches, config.width, config.patch
    patches = conv(config.resolution, patch, config.channels, D, patch)
    whole = (
        patches + Cost(parameters=D + (P + 1) * D, first=patches.operations) + added(P + 1, D) * 2
    )
    if config.patch_bias:
        whole += Cost(parameters=D) + added(P, D)
    if config.norm_before:
        whole += norm(P + 1, D)
    if config.norm_after:
        whole += norm(1, D)
    return whole + block(P + 1, D, config.heads, config.feed_forward or 4 * D) * config.layers


def _conv_norm(side: int, size: int, channels: int, channels_out: int, stride: int = 1) -> Cost:
    """Return the cost of a convolution with its batch normalization, which in small ops keeps five arrays of the map."""
    places = (side // stride) ** 2
    return (
        conv(side, size, channels, channels_out, stride)
        + added(places, channels_out) * 5
        + Cost(parameters=2 * channels_out)
    )


def _bottleneck(side: int, channels: int, narrow: int, stride: int) -> Cost:
    small, wide = side // stride, 4 * narrow
    relus = (
        added(side * side, narrow) * 2 + added(small * small, wide) * 2
    )  # and the sum of both ways
    branch = (
        _conv_norm(side, 1, channels, narrow)
        + _conv_norm(side, 3, narrow, narrow)
        + _conv_norm(small, 1, narrow, wide)
    )
    pooled = added(small * small, narrow) if stride > 1 else Cost()
    if stride == 1 and channels == wide:
        return branch + relus
    shortcut = _conv_norm(small, 1, channels, wide) + (
        added(small * small, channels) if stride > 1 else Cost()
    )
    return branch + relus + pooled + shortcut


def _resnet(config: ResNetConfig) -> Cost:
    w, side, channels = config.width, config.resolution // 2, config.width
    stem = [
        _conv_norm(config.resolution, 3, config.channels, w // 2, 2),
        _conv_norm(side, 3, w // 2, w // 2),
        _conv_norm(side, 3, w // 2, w),
    ]
    relus = added(side * side, w // 2) * 2 + added(side * side, w)
    side //= 2
    whole = sum(stem, Cost(first=stem[0].operations) + relus + added(side * side, w))
    for stage, depth in enumerate(config.layers):
        narrow = w * 2**stage
        for i in range(depth):
            stride = 2 if stage and not i else 1
            whole += _bottleneck(side, channels, narrow, stride)
            side, channels = side // stride, 4 * narrow
    return whole + _attention_pool(
        config.places + 1, channels, config.heads, config.output_width or channels
    )


def _attention_pool(T: int, C: int, heads: int, out: int) -> Cost:
    """Return the cost of pooling T places, the mean among them, by one query."""
    scores = Cost(2 * T * C, kept=3 * heads * T + C)  # product, scaled, softmax; mixed
    return (
        Cost(parameters=T * C)
        + added(T, C) * 2
        + added(1, C)
        + linear(1, C, C)
        + linear(T, C, C) * 2
        + scores
        + linear(1, C, out)
    )
