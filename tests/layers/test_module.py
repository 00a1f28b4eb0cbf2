"""How parameters are found, named, saved, moved and loaded: all of it or nothing."""

from collections import OrderedDict, deque
from types import MappingProxyType

import numpy as np
import pytest
from tiny import PAIRS, tiny_batch, tiny_clip

from tinymm import Tensor
from tinymm.arrays.backend import to_host
from tinymm.arrays.errors import CheckpointError, UsageError
from tinymm.layers import (
    BatchNorm2d,
    Buffer,
    Dropout,
    Embedding,
    Linear,
    Module,
    MultiHeadAttention,
    Parameter,
)
from tinymm.training.optimizers import AdamW


class Model(Module):
    """A bit of everything: lists in lists, a missing part, a number, a tie, a buffer."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.first = Linear(2, 3, rng=rng)
        self.size = 3
        self.missing = None
        self.stages = [[Linear(3, 3, rng=rng), BatchNorm2d(3)], (Parameter(np.ones(2)),)]
        self.tied = self.first.weight
        self.count = Buffer(np.zeros((), np.int64))

    def forward(self, x):
        return self.first(x)


NAMES = [
    "first.weight",
    "first.bias",
    "stages.0.0.weight",
    "stages.0.0.bias",
    "stages.0.1.weight",
    "stages.0.1.bias",
    "stages.1.0",
]
BUFFERS = [
    "stages.0.1.running_mean",
    "stages.0.1.running_variance",
    "stages.0.1.batches_seen",
    "count",
]


def test_names_are_attribute_paths_in_the_order_of_assignment_and_a_tied_parameter_comes_once():
    model = Model()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert len(model.parameters()) == len({id(p) for p in model.parameters()}) == len(NAMES)
    assert sorted(model.state_dict()) == sorted([*NAMES, *BUFFERS, "tied"])
    assert Module.count(model) == sum(p.size for p in model.parameters())


def test_train_and_eval_reach_every_module():
    model = Model()
    assert model.eval() is model and not any(module.training for module in model.modules())
    model.train()
    assert all(module.training for module in model.modules())
    assert len(list(model.modules())) == 4


def test_loading_what_was_saved_gives_the_same_model_and_shares_no_memory():
    source, target = Model(), Model()
    for parameter in source.parameters():
        parameter.data = parameter.data + 1
    state = source.state_dict()
    target.load_state_dict(state)
    for name, array in target.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
        assert array.dtype == state[name].dtype and not np.shares_memory(array, state[name])
    assert target.tied is target.first.weight


def test_loading_keeps_the_models_own_dtype():
    model = Model().astype("float64")
    model.load_state_dict(Model().state_dict())
    assert model.first.weight.dtype == np.float64 and model.count.data.dtype == np.int64


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda s: s.pop("stages.0.1.running_mean"),
            r"missing \['stages.0.1.running_mean'\], unexpected nothing",
        ),
        (lambda s: s.update(extra=np.ones(2)), r"missing nothing, unexpected \['extra'\]"),
        (
            lambda s: s.update({"first.weight": np.ones((3, 2))}),
            r"first.weight \(3, 2\) for \(2, 3\)",
        ),
        (lambda s: s.update({"first.weight": np.full((2, 3), "a")}), r"first.weight of <U1"),
        (lambda s: s.update({"first.weight": np.full((2, 3), 1j)}), r"first.weight of complex128"),
    ],
)
def test_loading_is_all_or_nothing(spoil, message):
    model = Model()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    spoil(state)
    with pytest.raises(CheckpointError, match=message):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_kinds_and_places_change_for_numbers_only(backend):
    model = Model().astype("float64").to(backend)
    kinds = {name: value.data.dtype for name, value in model._named_state()}
    assert kinds.pop("count") == kinds.pop("stages.0.1.batches_seen") == np.int64
    assert set(kinds.values()) == {np.dtype("float64")}
    assert all(type(array) is np.ndarray for array in model.state_dict().values())
    other = Model().astype("float64")
    model.load_state_dict({name: array + 1 for name, array in other.state_dict().items()})
    assert type(model.first.weight.data) is type(model.count.data)
    assert type(to_host(model.first.weight.data)) is np.ndarray


def test_a_buffer_of_the_host_stays_there(backend):
    model = Model()
    model.count = Buffer(np.zeros((), np.int64), on_host=True)
    model.to(backend).load_state_dict(
        {name: array + 1 for name, array in model.state_dict().items()}
    )
    assert type(model.count.data) is np.ndarray and model.count.data == 1
    assert type(model.stages[0][1].batches_seen.data) is type(model.first.weight.data)


def test_a_module_without_forward_says_so():
    with pytest.raises(TypeError, match="Module has no forward of its own"):
        Module()(1)
    assert isinstance(Model()(np.ones((1, 2), np.float32)), Tensor)


@pytest.mark.parametrize("image, text", PAIRS)
def test_a_model_that_is_saved_and_loaded_is_bitwise_the_same(image, text):
    source, target = tiny_clip(image, text, seed=0).eval(), tiny_clip(image, text, seed=1).eval()
    images, ids = tiny_batch(source)
    assert not np.array_equal(source(images, ids).data, target(images, ids).data)
    target.load_state_dict(source.state_dict())
    np.testing.assert_array_equal(source(images, ids).data, target(images, ids).data)


# ---------------------------------------------------------------------- nothing that learns is
# overlooked
class Holding(Module):
    """A module with one attribute, and a part of its own beside it."""

    def __init__(self, kept):
        self.own = Parameter(np.ones(2))
        self.kept = kept


def linear():
    return Linear(2, 2, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("kept", "path"),
    [
        (lambda part: {"k": part}, "kept.k"),
        (lambda part: {"a": {"b": [None, part]}}, "kept.a.b.1"),
        (lambda part: [{3: part, "f": len}], "kept.0.3"),
        (lambda part: OrderedDict(x=part), "kept.x"),
        (lambda part: MappingProxyType({"x": (part,)}), "kept.x.0"),
        (lambda part: deque([part]), "kept.0"),
    ],
)
def test_a_part_in_a_dict_is_found_trained_saved_and_switched(kept, path):
    model = Holding(kept(linear()))
    names = [f"{path}.weight", f"{path}.bias"]
    assert (
        [name for name, _ in model.named_parameters()]
        == ["own", *names]
        == list(model.state_dict())
        == list(model.trainable())
    )
    before, optimizer = model.state_dict(), AdamW(model)
    for p in model.parameters():
        p.grad = np.ones_like(p.data)
    optimizer.step(0.1)
    assert all((model.state_dict()[name] != before[name]).any() for name in names)
    model.load_state_dict(before)
    assert len(list(model.eval().modules())) == 2 and not any(
        module.training for module in model.modules()
    )


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (
            lambda part: {"a.b": part},
            r"the dict kept keeps one under 'a\.b'; take a word without points",
        ),
        (lambda part: {1.5: part}, "the dict kept keeps one under 1.5"),
        (lambda part: {1: part, "1": part}, "the dict kept keeps one under 1"),
        (lambda part: {part}, "the set kept has none for its Linear; take a list or a dict"),
        (lambda part: [frozenset([part.weight])], r"the set kept\.0 has none for its Parameter"),
        (
            lambda part: Tensor(np.ones(3), requires_grad=True),
            r"the attribute kept \(3,\) is a Tensor that requires a gradient, but no Parameter",
        ),
        (
            lambda part: {"x": [Tensor(np.ones(3), requires_grad=True)]},
            r"the attribute kept\.x\.0 \(3,\)",
        ),
    ],
)
def test_what_cannot_be_found_by_a_name_is_refused(kept, words):
    model = Holding(kept(linear()))
    for ask in (Module.parameters, Module.state_dict, Module.trainable, AdamW, Module.eval):
        with pytest.raises(UsageError, match=words):
            ask(model)


def test_what_does_not_learn_may_stand_anywhere():
    result = linear()(np.ones((1, 2), np.float32))
    for kept in ({"a.b": len}, {1.5: 2}, {"x", 3}, Tensor(np.ones(2)), result, {"last": result}):
        assert [name for name, _ in Holding(kept).named_parameters()] == ["own"]


def test_state_handed_out_is_a_copy_of_arrays():
    model = Holding([Parameter(np.float32(1)), Buffer(np.zeros((), np.int64))])
    optimizer = AdamW(model)
    for p in model.parameters():
        p.grad = np.ones_like(p.data)
    optimizer.step(0.1)
    states = [model.state_dict(), optimizer.state_dict()]
    kept = [{name: array.copy() for name, array in state.items()} for state in states]
    for p in model.parameters():
        p.grad = np.ones_like(p.data)
    optimizer.step(0.1)
    model.parameters()[0].data += 1
    for state, before in zip(states, kept, strict=True):
        assert all(type(array) is np.ndarray for array in state.values())
        assert all(np.array_equal(state[name], before[name]) for name in before)


@pytest.mark.parametrize(
    "rng", [0, None, np.random.RandomState(0)], ids=["number", "None", "RandomState"]
)
def test_a_seed_is_no_generator(rng):
    for make in (
        lambda: Linear(3, 4, rng=rng), lambda: Linear(3, 4, rng=rng, std=0.1), lambda: Embedding(3, 4, rng=rng),
        lambda: MultiHeadAttention(4, 2, rng=rng),
    ):  # fmt: skip
        with pytest.raises(
            UsageError,
            match=r"rng= is the generator that numbers are drawn from, and .* came; write rng=np\.random\.default_rng",
        ):
            make()
    if rng is not None:
        with pytest.raises(UsageError, match="rng= is the generator"):
            Dropout(0.5)(np.ones(3, np.float32), rng)


def test_an_optimizer_of_a_list_is_refused():
    with pytest.raises(
        UsageError, match=r"AdamW takes the model itself, .* and a list came; write AdamW\(model\)"
    ):
        AdamW(linear().parameters())
