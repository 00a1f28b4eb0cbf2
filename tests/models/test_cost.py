"""What a model costs on paper is what it costs: parameters, products and kept arrays are counted on tiny models, and large ones compared."""

from dataclasses import replace

import numpy as np
import pytest
import strict_array
from test_released_sizes import TABLE
from tiny import PAIRS, tiny_batch, tiny_clip

from tinymm import Tensor
from tinymm.arrays.backend import to_backend
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.cost import Cost, image_cost, pair_cost, projection, text_cost
from tinymm.models.vit import ViT, ViTConfig
from tinymm.tasks import losses

#: 10⁹ floating-point operations of a picture and of a text as open_clip publishes them
#: (docs/model_profile.csv), a multiply-add being two.
PUBLISHED = {
    "RN50": (12.22, 5.96),
    "RN101": (19.54, 5.96),
    "RN50x4": (42.56, 9.27),
    "RN50x16": (149.39, 13.3),
    "RN50x64": (529.11, 23.55),
    "ViT-B/32": (8.82, 5.96),
    "ViT-B/16": (35.13, 5.96),
    "ViT-L/14": (162.03, 13.3),
    "ViT-L/14@336px": (381.92, 13.3),
}


def both(model, images, ids):
    """Return (result, cost on paper) of both encoders."""
    config = model.config
    yield lambda: model.image_encoder(images), image_cost(config.image)
    yield lambda: model.text_encoder(ids), text_cost(config.text, ids.shape[1])


# ---------------------------------------------------------------------- parameters
@pytest.mark.parametrize("image, text", PAIRS)
@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_parameters_are_the_models_own(image, text, loss):
    config = replace(tiny_clip(image, text).config, loss=loss)
    assert pair_cost(config).parameters == CLIP(config, np.random.default_rng(0)).count()


@pytest.mark.parametrize("name", TABLE)
def test_parameters_of_the_released_sizes(name):
    assert pair_cost(CLIPConfig.paper(name)).parameters == TABLE[name][0]


@pytest.mark.parametrize(
    "changes", [{}, {"norm_before": True, "norm_after": False, "feed_forward": 40}]
)
def test_a_plain_vit_has_biases_and_norms_of_its_own(changes):
    config = ViTConfig.plain(16, 8, 24, 2, 2, **changes)
    assert image_cost(config).parameters == ViT(config, np.random.default_rng(0)).count()


# ---------------------------------------------------------------------- operations
def done(products):
    """Return the multiply-adds of products of matrices, each given by its shapes."""
    return sum(int(np.prod(out)) * a[-1] for a, _, out in products)


@pytest.mark.parametrize("image, text", PAIRS)
@pytest.mark.parametrize("pairs", [2, 3])
def test_operations_are_those_that_are_done(image, text, pairs):
    model = tiny_clip(image, text)
    images, ids = tiny_batch(model, pairs)
    model.to(strict_array.NAME)
    for forward, cost in both(model, to_backend(images, strict_array.NAME), ids):
        with strict_array.products() as products:
            result = forward()
            assert done(products) == pairs * cost.operations
            result.backward(np.ones_like(result.data))
        assert done(products) == pairs * cost.step


def test_the_whole_step_has_its_projections_and_the_loss_beside():
    model = tiny_clip()
    images, ids = tiny_batch(model, 5)
    model.to(strict_array.NAME)
    with strict_array.products() as products:
        losses(model, to_backend(images, strict_array.NAME), ids)["itc"].backward()
    assert (
        done(products)
        == 5 * pair_cost(model.config, ids.shape[1]).step + 3 * 5 * 5 * model.config.embed_dim
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_operations_of_the_released_sizes_are_those_that_others_publish(name):
    config = CLIPConfig.paper(name)
    towers = image_cost(config.image), text_cost(config.text)
    image, text = (
        (tower + own).operations for tower, own in zip(towers, projection(config), strict=True)
    )
    if name.startswith(
        "RN"
    ):  # open_clip lets all places ask in the attention pool and takes the first answer; here only the first asks
        C, T = config.image.features, config.image.places + 1
        image += (T - 1) * (C * C + 2 * T * C + C * config.embed_dim)
    # they count normalizations too, a thousandth
    assert 2 * image / 1e9 == pytest.approx(
        PUBLISHED[name][0], rel=2e-3
    ) and 2 * text / 1e9 == pytest.approx(PUBLISHED[name][1], rel=2e-3)


# ---------------------------------------------------------------------- what is kept
def root(array):
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


def kept(result, model):
    """Return how many floating-point numbers are alive behind a result, found by walking its links and what their closures hold."""
    own = {id(root(p.data)) for p in model.parameters()}
    arrays, seen, stack = {}, set(), [result]
    while stack:
        x = stack.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, np.ndarray):
            arrays[id(root(x))] = root(x)
        elif isinstance(x, Tensor):
            stack += [x.data, *(x.made_by[1] if x.made_by else ())]
        elif isinstance(x, (tuple, list, dict)):
            stack += x.values() if isinstance(x, dict) else x
        elif getattr(x, "__closure__", None):
            stack += [cell.cell_contents for cell in x.__closure__]
    return sum(a.size for i, a in arrays.items() if i not in own and a.dtype.kind == "f")


@pytest.mark.parametrize("image, text", PAIRS)
def test_what_is_kept_for_the_way_back_is_what_the_kernels_keep(image, text):
    """Within 2 %: twice the pairs less once, so that what a batch keeps whatever its size drops out."""
    model = tiny_clip(image, text)
    few, many = tiny_batch(model, 4), tiny_batch(model, 8)
    for (less, cost), (more, _) in zip(both(model, *few), both(model, *many), strict=True):
        assert (kept(more(), model) - kept(less(), model)) / 4 == pytest.approx(cost.kept, rel=0.02)


@pytest.mark.parametrize("changes", [{}, {"feed_forward": 40, "norm_before": True}])
def test_a_plain_vit_keeps_its_biases_sums(changes):
    model = ViT(ViTConfig.plain(16, 8, 24, 2, 2, **changes), np.random.default_rng(0))
    less, more = (kept(model(np.ones((pairs, 16, 16, 3), np.float32)), model) for pairs in (4, 8))
    assert (more - less) / 4 == pytest.approx(image_cost(model.config).kept, rel=0.02)


def test_costs_add_and_multiply():
    assert (
        Cost(1, 2, 3, 1) + Cost(1, 0, 1, 0) * 2 == Cost(3, 2, 5, 1) and Cost(5, first=2).step == 13
    )
