"""How parameters are found, named, saved, moved and loaded: all of it or nothing."""

import numpy as np
import pytest
from tiny import PAIRS, tiny_batch, tiny_clip

from tinymm import Tensor
from tinymm.arrays.backend import to_host
from tinymm.arrays.errors import CheckpointError
from tinymm.layers import BatchNorm2d, Buffer, Linear, Module, Parameter


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


NAMES = ["first.weight", "first.bias", "stages.0.0.weight", "stages.0.0.bias", "stages.0.1.gain", "stages.0.1.bias", "stages.1.0"]
BUFFERS = ["stages.0.1.running_mean", "stages.0.1.running_variance", "stages.0.1.batches_seen", "count"]


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
        (lambda s: s.pop("stages.0.1.running_mean"), r"missing \['stages.0.1.running_mean'\], unexpected nothing"),
        (lambda s: s.update(extra=np.ones(2)), r"missing nothing, unexpected \['extra'\]"),
        (lambda s: s.update({"first.weight": np.ones((3, 2))}), r"first.weight \(3, 2\) for \(2, 3\)"),
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
    model.to(backend).load_state_dict({name: array + 1 for name, array in model.state_dict().items()})
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
