"""The published properties of SigLIP's loss, of the momentum twin and its queue, and of hidden words, asked of ours and of PyTorch's."""

import numpy as np
import pytest
from tiny_arrays import OfArrays

from tinymm.autodiff import ops
from tinymm.losses import (
    contrastive,
    itc_with_queue,
    mask_words,
    masked,
    masked_language_loss,
    sigmoid_loss,
    soft_targets,
)
from tinymm.models import momentum
from tinymm.models.momentum import FeatureQueue, moving_average
from tinymm.testing import PropertyFailed, check, on_torch

DTYPES = ["float64", "float32"]
EXAMPLES = ["ci", pytest.param("deep", marks=pytest.mark.slow)]


def itc(*given):
    """Return the loss alone; the twin's features and the queues come with a graph here, and get no gradient."""
    return itc_with_queue(*given)[0]


class OneSide:
    """Our queue of pairs as a queue of the rows of one side."""

    def __init__(self, side, K, E):
        self.side, self.queue = side, FeatureQueue(K, E, np.random.default_rng(0))

    rows = property(lambda self: getattr(self.queue, self.side).data)
    pointer = property(lambda self: self.queue.pointer)

    def push(self, rows):
        self.queue.push(*((rows, 0 * rows) if self.side == "images" else (0 * rows, rows)))


def images(K, E):
    return OneSide("images", K, E)


def texts(K, E):
    return OneSide("texts", K, E)


# ---------------------------------------------------------------------- ours
@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_our_sigmoid_loss_keeps_every_property(dtype, examples):
    report = check.sigmoid_loss(OfArrays(sigmoid_loss), dtype=dtype, examples=examples)
    assert set(report.not_run) == {"G08a", "G08b"}  # of blocks, which ours has not


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_our_targets_keep_every_property(dtype, examples):
    assert not check.soft_targets(
        soft_targets, by_ids=soft_targets, dtype=dtype, examples=examples
    ).not_run


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_our_contrast_with_a_queue_keeps_every_property(dtype, examples):
    assert not check.itc_queue(OfArrays(itc), dtype=dtype, examples=examples).not_run


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_our_hidden_words_keep_every_property(dtype, examples):
    assert not check.mlm_masking(
        mask_words, loss=OfArrays(masked_language_loss), dtype=dtype, examples=examples
    ).not_run


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_our_twin_keeps_every_property(dtype, examples):
    assert not check.ema(moving_average, dtype=dtype, examples=examples).not_run


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("side", [images, texts])
def test_our_queue_keeps_every_property_on_both_sides(side, examples):
    """The queue keeps float32, as the models compute."""
    assert not check.queue(side, dtype="float32", examples=examples).not_run


# ---------------------------------------------------------------------- ours, broken
def squared(S, alpha, *ids):
    return soft_targets(S, alpha**2, *ids)


@pytest.mark.parametrize(
    "suite, fn, module, name, broken, caught",
    [
        (
            "sigmoid_loss",
            OfArrays(sigmoid_loss),
            ops,
            "softplus",
            lambda x: np.log(1 + np.exp(x)),
            "G06",
        ),
        ("sigmoid_loss", OfArrays(sigmoid_loss), ops, "softplus", ops.relu, "G01"),
        (
            "sigmoid_loss",
            OfArrays(sigmoid_loss),
            ops,
            "softplus",
            lambda x: ops.softplus(x - 10),
            "G05",
        ),
        ("itc_queue", OfArrays(itc), contrastive, "soft_targets", squared, "I08b"),
        (
            "itc_queue",
            OfArrays(itc),
            contrastive,
            "soft_targets",
            lambda S, alpha, *ids: soft_targets(S, 1 - alpha, *ids),
            "I08a",
        ),
        (
            "itc_queue",
            OfArrays(itc),
            contrastive,
            "_stacked",
            lambda own, queue: np.concatenate([queue, own]),
            "I07b",
        ),
        ("itc_queue", OfArrays(itc), contrastive, "_stacked", lambda own, queue: own, "I06"),
        (
            "itc_queue",
            OfArrays(itc),
            contrastive,
            "_stacked",
            lambda own, queue: np.concatenate([own, queue, own]),
            "I06",
        ),
        ("mlm_masking", mask_words, masked, "NOT_ASKED", 0, "K01a"),
        ("queue", images, FeatureQueue, "check_batch", lambda self, rows: None, "U02"),
        ("queue", texts, momentum, "l2_normalize", lambda x: x, "U05"),
        ("queue", texts, momentum, "to_device_like", lambda x, _: x[::-1], "U03"),
    ],
)
def test_breaking_a_part_breaks_a_property(suite, fn, module, name, broken, caught, monkeypatch):
    monkeypatch.setattr(module, name, broken)
    with pytest.raises(PropertyFailed) as failure:
        check.CHECKS[suite](fn, dtype="float32", examples="quick")
    assert caught in failure.value.failed


@pytest.mark.parametrize(
    "suite, broken, caught",
    [
        ("sigmoid_loss", OfArrays(lambda S: sigmoid_loss(S) / len(S)), "G01"),
        (
            "soft_targets",
            lambda S, alpha: (
                soft_targets(S.T, alpha).T if len(S) == len(S.T) else soft_targets(S, alpha)
            ),
            "I03",
        ),
        ("itc_queue", OfArrays(lambda I, T, I_m, T_m, *rest: itc(I, T, I, T, *rest)), "I08b"),
        ("itc_queue", OfArrays(lambda *given: itc(*given[:6], 1 / given[6], given[7])), "I10"),
        ("mlm_masking", lambda ids, special, *rest: mask_words(ids, ~special, *rest), "K02"),
        ("mlm_masking", lambda *given: mask_words(*given[:5], np.random.default_rng(0)), "K07b"),
        ("mlm_masking", lambda *given: mask_words(*given[:4], given[4] / 2, given[5]), "K06a"),
        ("ema", lambda twin, online, m: moving_average(online, twin, m), "E01"),
        ("ema", lambda twin, online, m: moving_average(online, online, m), "E03"),
    ],
)
def test_calling_them_wrongly_breaks_a_property(suite, broken, caught):
    with pytest.raises(PropertyFailed) as failure:
        check.CHECKS[suite](broken, examples="quick")
    assert caught in failure.value.failed


# ---------------------------------------------------------------------- PyTorch's
@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_losses_of_torch_pass(torch, dtype):
    def loss(S):
        return -torch.nn.functional.logsigmoid((2 * torch.eye(len(S)) - 1).to(S) * S).sum() / len(S)

    def block(S, offset):
        own = torch.arange(S.shape[1]) == torch.arange(len(S))[:, None] + offset
        return torch.nn.functional.softplus(torch.where(own, -S, S)).sum()

    def mean(S):
        return torch.nn.functional.binary_cross_entropy_with_logits(
            S, torch.eye(len(S), dtype=S.dtype)
        )

    assert not check.sigmoid_loss(
        on_torch(loss), block=on_torch(block), dtype=dtype, examples="quick"
    ).not_run
    assert (
        "G07b"
        in check.sigmoid_loss(
            on_torch(mean), reduction="mean", dtype=dtype, examples="quick"
        ).passed
    )


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
def test_targets_of_torch_pass(torch, dtype):
    def targets(S, alpha):
        return alpha * S.softmax(dim=1) + (1 - alpha) * torch.eye(*S.shape, dtype=S.dtype)

    def by_ids(S, alpha, row_ids, column_ids):
        same = (row_ids[:, None] == column_ids).to(S)
        return alpha * S.softmax(dim=1) + (1 - alpha) * same / same.sum(dim=1, keepdim=True)

    assert not check.soft_targets(
        on_torch(targets), by_ids=on_torch(by_ids), dtype=dtype, examples="quick"
    ).not_run


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
def test_contrast_with_a_queue_of_torch_passes_and_without_detach_it_trains_the_twin(torch, dtype):
    def loss(I, T, I_m, T_m, image_queue, text_queue, temperature, alpha):
        halves = []
        for rows, twin, columns in (
            (I, I_m, torch.cat([T_m, text_queue])),
            (T, T_m, torch.cat([I_m, image_queue])),
        ):
            own = torch.eye(len(rows), len(columns), dtype=rows.dtype)
            answers = alpha * (twin @ columns.T / temperature).softmax(dim=1) + (1 - alpha) * own
            halves.append(
                torch.nn.functional.cross_entropy(rows @ columns.T / temperature, answers)
            )
        return sum(halves) / 2

    def detached(I, T, *rest):
        return loss(I, T, *(x.detach() for x in rest[:4]), *rest[4:])

    assert not check.itc_queue(on_torch(detached), dtype=dtype, examples="quick").not_run
    with pytest.raises(PropertyFailed) as failure:
        check.itc_queue(on_torch(loss), dtype=dtype, examples="quick")
    assert failure.value.failed == ("I12a",)


@pytest.mark.parity
def test_words_hidden_by_torch_pass_and_its_mean_over_nothing_does_not(torch):
    def hidden(ids, special, V, mask_id, p, rng):
        dice = torch.Generator().manual_seed(int(rng.integers(2**31)))

        def coin(share):
            return torch.bernoulli(torch.full(ids.shape, share), generator=dice).bool()

        selected = coin(p) & ~special
        masked = selected & coin(0.8)
        random = selected & ~masked & coin(0.5)
        inputs = torch.where(masked, mask_id, ids)
        inputs[random] = torch.randint(V, ids.shape, generator=dice)[random]
        return inputs, ids.masked_fill(~selected, -100)

    def loss(logits, labels):
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

    assert not check.mlm_masking(
        on_torch(hidden), loss=on_torch(lambda *given: loss(*given).nan_to_num()), examples="quick"
    ).not_run
    with pytest.raises(PropertyFailed) as failure:
        check.mlm_masking(on_torch(hidden), loss=on_torch(loss), examples="quick")
    assert failure.value.failed == ("K08b",)


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
def test_averages_of_torch_pass(torch, dtype):
    check.ema(on_torch(lambda twin, online, m: online.lerp(twin, m)), dtype=dtype, examples="quick")
    check.ema(
        on_torch(lambda twin, online, m: twin.mul_(m).add_(online, alpha=1 - m)),
        dtype=dtype,
        examples="quick",
    )


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_queue_of_columns_in_a_buffer_of_torch_passes(torch, dtype):
    class Buffered(torch.nn.Module):
        def __init__(self, K, E):
            super().__init__()
            rows = torch.randn(
                E, K, dtype=getattr(torch, dtype), generator=torch.Generator().manual_seed(0)
            )
            self.register_buffer("rows", torch.nn.functional.normalize(rows, dim=0))
            self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

        def push(self, columns):
            (K, B), at = (self.rows.shape[1], columns.shape[1]), int(self.pointer)
            if K % B:
                raise ValueError(f"{K} is no multiple of {B}")
            self.rows[:, at : at + B] = torch.tensor(columns)
            self.pointer = (self.pointer + B) % K

    assert not check.queue(Buffered, axis=1, dtype=dtype, examples="quick").not_run
