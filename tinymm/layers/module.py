"""A model is a tree of modules; its parameters are found by walking the attributes, and the path of attributes is their name."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

from tinymm.arrays.backend import plain, to_backend, to_host
from tinymm.arrays.errors import CheckpointError, DtypeError, UsageError
from tinymm.autodiff import Tensor


class Parameter(Tensor):
    """A Tensor that training changes."""

    __slots__ = ()

    def __init__(self, data: Any):
        super().__init__(data, requires_grad=True)


class Buffer:
    """Numbers that belong to a model and are saved with it but not trained, such as BatchNorm's running statistics.

    With `on_host` they stay there when the model moves, as counters do by which the host decides what the device computes next.
    """

    __slots__ = ("data", "on_host")

    def __init__(self, data: Any, on_host: bool = False):
        self.data, self.on_host = data, on_host


class Module:
    """The parent of every layer and model: names, saves, loads and moves the parameters below it.

    Attributes that are parameters, buffers, modules, or lists and dicts of these are found in the
    order in which they were set. There is no
    registration and no `__setattr__`: what you assign is what there is. What would learn and cannot
    be found by a name is refused with a UsageError
    as soon as anybody asks for the parameters: one in a set or under a key that is no name, and a
    bare Tensor that requires a gradient.

    >>> class Twice(Module):
    ...     def __init__(self):
    ...         self.gain = Parameter(np.full(2, 2.0))
    >>> Twice().state_dict()
    {'gain': array([2., 2.])}
    """

    training = True
    frozen = False

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Run `forward`."""
        return self.forward(*inputs, **options)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Compute the output; each layer says its shapes here."""
        raise TypeError(f"{type(self).__name__} has no forward of its own; define one, or call one of its methods")

    def _children(self) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            yield from _named(name, value)

    def modules(self) -> Iterator["Module"]:
        """Yield this module and every module below it."""
        yield self
        for _, child in self._children():
            if isinstance(child, Module):
                yield from child.modules()

    def _named_state(self, prefix: str = "") -> Iterator[tuple[str, Parameter | Buffer]]:
        for name, child in self._children():
            if isinstance(child, Module):
                yield from child._named_state(f"{prefix}{name}.")
            else:
                yield prefix + name, child

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield (attribute path, parameter); a parameter that stands in two places comes once, under its first name."""
        seen = set()
        for name, value in self._named_state():
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> list[Parameter]:
        """Return the parameters, each once."""
        return [parameter for _, parameter in self.named_parameters()]

    def trainable(self) -> dict[str, Parameter]:
        """Return the parameters that training changes, by name: all but the frozen ones."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def count(self) -> int:
        """Return how many numbers training changes."""
        return sum(parameter.size for parameter in self.trainable().values())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return {attribute path: array on the host} of all parameters and buffers: copies, which later training does not change."""
        return {name: np.array(to_host(value.data)) for name, value in self._named_state()}

    def load_state_dict(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over all parameters and buffers, on this module's device and in its dtypes; CheckpointError if a name or a shape does not fit.

        Nothing is changed unless everything fits.
        """
        own = dict(self._named_state())
        missing, unexpected = sorted(own.keys() - arrays.keys()), sorted(arrays.keys() - own.keys())
        wrong = [
            f"{name} {np.shape(arrays[name])} for {value.data.shape}"
            for name, value in own.items()
            if name in arrays and np.shape(arrays[name]) != value.data.shape
        ]
        for name in sorted(own.keys() & arrays.keys()):
            try:
                plain(arrays[name])
            except DtypeError:
                strange = (
                    isinstance(arrays[name], np.ndarray) and type(arrays[name]) is not np.ndarray
                )
                wrong.append(
                    f"{name} of {type(arrays[name]).__name__ if strange else np.asarray(arrays[name]).dtype}"
                )
        if missing or unexpected or wrong:
            raise CheckpointError(
                f"load_state_dict into {type(self).__name__}: missing {missing or 'nothing'}, unexpected {unexpected or 'nothing'}, wrong "
                f"shapes or kinds {wrong or 'none'}; build the model from the config that the weights were saved with"
            )
        for name, value in own.items():
            value.data = _like(np.array(arrays[name], dtype=value.data.dtype, order="C"), value.data)

    def train(self, mode: bool = True) -> Self:
        """Switch dropout and batch statistics on, here and below; return the module."""
        for module in self.modules():
            module.training = mode and not module.frozen
        return self

    def eval(self) -> Self:
        """Switch dropout and batch statistics off, here and below; return the module."""
        return self.train(False)

    def freeze(self) -> Self:
        """Stop training what is here and below, and switch it to evaluation for good; gradients still flow *through* it; return the module."""
        for parameter in self.parameters():
            parameter.requires_grad = False
            parameter.grad = None
        for module in self.modules():
            module.frozen, module.training = True, False
        return self

    def to(self, backend: str) -> Self:
        """Move all numbers to `"numpy"` or `"cupy"`, but for the buffers that stay on the host; return the module."""
        for _, value in self._named_state():
            if not (isinstance(value, Buffer) and value.on_host):
                value.data = to_backend(value.data, backend)
        return self

    def astype(self, dtype: Any) -> Self:
        """Turn all floating-point numbers into another kind; return the module."""
        for _, value in self._named_state():
            if value.data.dtype.kind == "f":
                value.data = value.data.astype(dtype)
        return self


def _named(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (Parameter, Buffer, Module)):
        yield name, value
    elif isinstance(value, (list, tuple, deque)):
        for i, item in enumerate(value):
            yield from _named(f"{name}.{i}", item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            for path, found in _named(f"{name}.{key}", item):
                if (
                    not isinstance(key, (str, int))
                    or isinstance(key, str)
                    and (not key or "." in key)
                    or str(key) in value
                    and key != str(key)
                ):
                    raise UsageError(
                        f"a part of a model is found by a name, and the dict {name} keeps one "
                        f"under {key!r}; take a word without points"
                    )
                yield path, found
    elif isinstance(value, (set, frozenset)):
        for item in value:
            for _ in _named(name, item):
                raise UsageError(
                    f"a part of a model is found by a name, and the set {name} has none for its "
                    f"{type(item).__name__}; take a list or a dict"
                )
    elif isinstance(value, Tensor) and value.requires_grad and value.made_by is None:
        raise UsageError(
            f"the attribute {name} {value.shape} is a Tensor that requires a gradient, but no "
            "Parameter: training would not change it, nor a "
            "checkpoint hold it; write Parameter(array), or leave requires_grad out"
        )


def _like(host: np.ndarray, device_array: Any) -> Any:
    from tinymm.arrays.backend import device_of

    device = device_of(device_array)
    return to_backend(host, device.name) if device else host
