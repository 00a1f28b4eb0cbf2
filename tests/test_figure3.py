"""Figure 3 of the paper is running code: the lines are the paper's, training calls them, and they run wherever arrays live."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import PAIRS, tiny_batch, tiny_clip

from tinymm import Tensor, tasks
from tinymm import losses as clip_losses
from tinymm.arrays.backend import to_backend, to_host
from tinymm.autodiff import gradcheck
from tinymm.tasks import clip
from tinymm.tasks.clip import figure_3

#: Radford et al. 2021, Figure 3, without its comments on what the names mean.
THE_PAPER = """\
    # extract feature representations of each modality
    I_f = image_encoder(I) #[n, d_i]
    T_f = text_encoder(T) #[n, d_t]
    # joint multimodal embedding [n, d_e]
    I_e = l2_normalize(np.dot(I_f, W_i), axis=1)
    T_e = l2_normalize(np.dot(T_f, W_t), axis=1)
    # scaled pairwise cosine similarities [n, n]
    logits = np.dot(I_e, T_e.T) * np.exp(t)
    # symmetric loss function
    labels = np.arange(n)
    loss_i = cross_entropy_loss(logits, labels, axis=0)
    loss_t = cross_entropy_loss(logits, labels, axis=1)
    loss = (loss_i + loss_t)/2
"""


def same(x):
    return x


def drawn(n=5, d=4, seed=0, dtype="float64"):
    """Return features of both kinds, projections of both and t."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(shape) for shape in ((n, d), (n, d + 1), (d, 3), (d + 1, 3))]
    return [a.astype(dtype) for a in (*arrays, np.array(0.7))]


def by_hand(I, T, W_i, W_t, t):
    """Compute the loss by loops over pairs."""
    I_e, T_e = I @ W_i, T @ W_t
    n = len(I)
    cosines = [[a @ b / np.sqrt((a @ a) * (b @ b)) for b in T_e] for a in I_e]
    logits = np.array(cosines) * np.exp(t)
    rows = [np.log(sum(np.exp(logits[i, j]) for j in range(n))) - logits[i, i] for i in range(n)]
    columns = [np.log(sum(np.exp(logits[i, j]) for i in range(n))) - logits[j, j] for j in range(n)]
    return (sum(rows) / n + sum(columns) / n) / 2


def test_the_lines_are_the_paper_s_character_for_character():
    source = inspect.getsource(figure_3)
    assert source.count(THE_PAPER) == 1
    before, after = source.split(THE_PAPER)
    assert before.rstrip().endswith('"""\n    n = len(I)') and after == "    return loss, logits\n"
    assert (
        clip.np is np
        and list(inspect.signature(figure_3).parameters)
        == "image_encoder text_encoder I T W_i W_t t".split()
    )


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 9999))
def test_on_plain_arrays_it_is_the_definition(n, d, seed):
    I, T, W_i, W_t, t = drawn(n, d, seed)
    loss, logits = figure_3(same, same, I, T, W_i, W_t, t)
    assert logits.shape == (n, n)
    assert loss.item() == pytest.approx(by_hand(I, T, W_i, W_t, t), abs=1e-10)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-14), ("float32", 1e-6)])
def test_arrays_and_tensors_of_every_backend_give_one_loss(backend, dtype, tolerance):
    arrays = drawn(dtype=dtype)
    right = figure_3(same, same, *arrays)[0].item()
    on_device = [to_backend(a, backend) for a in arrays]
    bare, _ = figure_3(same, same, *on_device)
    tensors = [Tensor(a, requires_grad=True) for a in on_device]
    recorded, logits = figure_3(same, same, *tensors)
    assert bare.item() == pytest.approx(right, abs=tolerance)
    assert recorded.item() == pytest.approx(right, abs=tolerance)
    assert recorded.dtype == logits.dtype == np.dtype(dtype)
    recorded.backward()
    assert {type(x.grad) for x in tensors} == {type(on_device[0])}


@given(st.integers(2, 5), st.integers(0, 9999))
def test_every_gradient_is_the_measured_slope(n, seed):
    gradcheck(
        lambda *xs: figure_3(same, same, *xs)[0],
        *drawn(n, 3, seed),
        rng=np.random.default_rng(seed),
        directions=1,
    )


@pytest.mark.parametrize("place", range(5))
def test_each_gradient_alone_is_the_measured_slope(place):
    arrays = drawn()

    def loss(x):
        return figure_3(same, same, *arrays[:place], x, *arrays[place + 1 :])[0]

    gradcheck(loss, arrays[place], rng=np.random.default_rng(place))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_equal_scores_cost_the_logarithm_of_the_batch(n):
    I, T, W_i, W_t, t = drawn(1)
    loss, _ = figure_3(same, same, np.repeat(I, n, axis=0), np.repeat(T, n, axis=0), W_i, W_t, t)
    assert loss.item() == pytest.approx(np.log(n), abs=1e-12)


@pytest.mark.parametrize("image, text", PAIRS)
def test_training_calls_these_lines(image, text, monkeypatch):
    model = tiny_clip(image, text, dtype="float64")
    images, ids = tiny_batch(model)
    seen = []

    def spy(image_encoder, text_encoder, I, T, W_i, W_t, t):
        seen.append((I is images, T is ids, W_i is model.W_i, W_t is model.W_t, t is model.t))
        loss, logits = figure_3(image_encoder, text_encoder, I, T, W_i, W_t, t)
        return loss * 3.0, logits

    right = tasks.losses(model, images, ids)["itc"].item()
    monkeypatch.setattr(clip, "figure_3", spy)
    assert tasks.losses(model, images, ids)["itc"].item() == pytest.approx(3 * right, rel=1e-9)
    assert seen == [(True,) * 5]


@pytest.mark.parametrize(
    "name, broken",
    [
        ("l2_normalize", lambda x, axis: x),
        ("cross_entropy_loss", lambda logits, labels, axis: np.mean(logits)),
        (
            "cross_entropy_loss",
            lambda logits, labels, axis: clip_losses.cross_entropy_loss(logits, labels, axis=1),
        ),
    ],
)
def test_a_changed_helper_changes_training(name, broken, monkeypatch):
    model = tiny_clip(dtype="float64")
    images, ids = tiny_batch(model)
    right = tasks.losses(model, images, ids)["itc"]
    right.backward()
    gradient = model.W_t.grad
    model.W_t.grad = None
    monkeypatch.setattr(clip, name, broken)
    wrong = tasks.losses(model, images, ids)["itc"]
    wrong.backward()
    assert abs(wrong.item() - right.item()) > 1e-6 and not np.allclose(model.W_t.grad, gradient)


def test_a_released_resnet_passes_the_identity_for_the_projection_that_it_lacks(backend):
    from dataclasses import replace

    config = tiny_clip("resnet").config
    model = clip.CLIP(
        replace(config, image=replace(config.image, output_width=config.embed_dim)),
        np.random.default_rng(0),
    ).astype("float64")
    assert model.W_i is None and not any("W_i" in name for name in model.state_dict())
    images, ids = tiny_batch(model)
    raw = (
        model.encode_image(images, normalize=False).data,
        model.encode_text(ids, normalize=False).data,
    )
    right = by_hand(*raw, np.eye(16), np.eye(16), model.t.data)
    model.to(backend)
    loss = tasks.losses(model, to_backend(images, backend), ids)["itc"]
    loss.backward()
    assert loss.item() == pytest.approx(right, abs=1e-9)
    assert np.abs(to_host(model.image_encoder.pool.attention.output.weight.grad)).max() > 0


def test_the_model_gives_logits_and_cosines_of_the_figure():
    model = tiny_clip(dtype="float64")
    images, ids = tiny_batch(model)
    _, logits = figure_3(
        model.image_encoder, model.text_encoder, images, ids, model.W_i, model.W_t, model.t
    )
    np.testing.assert_allclose(model.logits(images, ids).data, logits.data, rtol=1e-12)
    np.testing.assert_allclose(model.logits(images, ids[:2]).data, logits.data[:, :2], rtol=1e-12)
    cosines = logits.data / np.exp(model.t.data)
    np.testing.assert_allclose(model(images, ids).data, cosines, rtol=1e-12)
    np.testing.assert_allclose(
        model.similarity(model.encode_image(images), model.encode_text(ids)).data,
        cosines,
        rtol=1e-12,
    )
