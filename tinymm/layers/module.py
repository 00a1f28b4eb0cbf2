"""Modules and parameters: a model is a tree of modules, and a parameter's name is its path of attributes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
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


class MissingParameter(Parameter):
    """A parameter that a file of weights lacks: reading its numbers raises a CheckpointError that names it.

    Its shape and dtype are known. `Module.mark_missing` makes it of a Parameter; setting `data`, or
    `Module.initialize_missing`, makes it one again.
    """

    __slots__ = ()

    @property
    def data(self) -> Any:  # type: ignore[override]
        """The numbers, which there are not."""
        raise CheckpointError(self._place.sentence)

    @data.setter
    def data(self, numbers: Any) -> None:
        """Take numbers over, and be a Parameter again."""
        self.__class__ = Parameter  # type: ignore[assignment]
        self.data = numbers

    @property
    def _place(self) -> "_Missing":
        return _NUMBERS.__get__(self)

    @property
    def fresh(self) -> Any:
        """The numbers that a new model of this kind begins with."""
        return self._place.fresh

    shape = property(lambda self: self.fresh.shape, doc="Lengths of the axes.")
    dtype = property(
        lambda self: self.fresh.dtype, doc="Kind of the numbers that would stand here."
    )
    ndim = property(lambda self: self.fresh.ndim, doc="Number of axes.")
    size = property(lambda self: self.fresh.size, doc="Number of numbers that would stand here.")

    def change(self, to: Callable[[Any], Any]) -> None:
        """Change the numbers that would stand here, as a move to another device or dtype does."""
        self._place.fresh = to(self._place.fresh)

    def __deepcopy__(self, memo: dict) -> "MissingParameter":
        return _missing(Parameter(self.fresh.copy()), self._place.sentence, self.requires_grad)

    def __repr__(self):
        return f"MissingParameter{self.shape}"


class _Missing:
    """What stands in a missing parameter's place of the numbers."""

    def __init__(self, fresh: Any, sentence: str):
        self.fresh, self.sentence = fresh, sentence


#: The slot in which a Tensor keeps its numbers, behind the property that refuses them.
_NUMBERS: Any = vars(Tensor)["data"]


def _missing(parameter: Parameter, sentence: str, requires_grad: bool) -> MissingParameter:
    """Turn a parameter into one whose numbers are missing, in place."""
    parameter.data, parameter.grad, parameter.requires_grad = (
        _Missing(parameter.data, sentence),
        None,
        requires_grad,
    )
    parameter.__class__ = MissingParameter
    return parameter  # type: ignore[return-value]


class Buffer:
    """Numbers that belong to a model and are saved with it but not trained, such as BatchNorm's running statistics.

    With `on_host` they stay there when the model moves, as counters do by which the host decides
    what the device computes next.
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
        raise TypeError(
            f"{type(self).__name__} has no forward of its own; define one, or call one of its methods"
        )

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
        """Return the parameters that training changes, by name: all but the frozen ones and those that are missing."""
        every = self.named_parameters()
        return {
            name: x for name, x in every if x.requires_grad and not isinstance(x, MissingParameter)
        }

    def count(self) -> int:
        """Return the number of trainable parameters."""
        return sum(parameter.size for parameter in self.trainable().values())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return {attribute path: array on the host} of all parameters and buffers, but for those that are missing.

        They are copies, which later training does not change.
        """
        every = self._named_state()
        return {
            name: np.array(to_host(value.data))
            for name, value in every
            if not isinstance(value, MissingParameter)
        }

    def missing(self) -> list[str]:
        """Return the names of the parameters that the file of weights had nothing for, and that nothing has been put into since."""
        return [name for name, value in self._named_state() if isinstance(value, MissingParameter)]

    def mark_missing(self, names: Iterable[str], whence: str) -> None:
        """Let the parameters of these names raise a CheckpointError when they are used, as `pretrained.load` does with what a file lacks.

        `whence` is what they are missing from, as it stands in the sentence.

        >>> class Twice(Module):
        ...     def __init__(self):
        ...         self.gain = Parameter(np.full(2, 2.0))
        >>> model = Twice()
        >>> model.mark_missing(["gain"], "twice.pt")
        >>> model.missing(), model.state_dict(), model.initialize_missing(), model.state_dict()
        (['gain'], {}, ['gain'], {'gain': array([2., 2.])})
        """
        chosen = set(names)
        for name, value in list(self._named_state()):
            if name in chosen and type(value) is Parameter:
                _missing(value, _absent(name, whence), value.requires_grad)

    def initialize_missing(self) -> list[str]:
        """Initialize randomly what is missing, to be trained, and return its names."""
        named = [
            (name, value)
            for name, value in self._named_state()
            if isinstance(value, MissingParameter)
        ]
        for _, value in named:
            value.data = value.fresh
        return [name for name, _ in named]

    def load_state_dict(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over all parameters and buffers, on this module's device and in its dtypes; CheckpointError if a name or a shape does not fit.

        Nothing is changed unless everything fits. What is missing here may be missing there, too.
        """
        state = dict(self._named_state())
        own = {
            name: value
            for name, value in state.items()
            if name in arrays or not isinstance(value, MissingParameter)
        }
        missing, unexpected = sorted(own.keys() - arrays.keys()), sorted(arrays.keys() - own.keys())
        wrong = [
            f"{name} {np.shape(arrays[name])} for {_kept(value).shape}"
            for name, value in own.items()
            if name in arrays and np.shape(arrays[name]) != _kept(value).shape
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
            kept = _kept(value)
            value.data = _like(np.array(arrays[name], dtype=kept.dtype, order="C"), kept)

    def train(self, mode: bool = True) -> Self:
        """Switch dropout and batch statistics on, here and below; return the module."""
        for module in self.modules():
            module.training = mode and not module.frozen
        return self

    def eval(self) -> Self:
        """Switch dropout and batch statistics off, here and below; return the module."""
        return self.train(False)

    def freeze(self) -> Self:
        """Freeze the parameters here and below, and switch to evaluation for good; gradients still flow *through* them; return the module."""
        for parameter in self.parameters():
            parameter.requires_grad = False
            parameter.grad = None
        for module in self.modules():
            module.frozen, module.training = True, False
        return self

    def unfreeze(self) -> Self:
        """Train again what is here and below, in evaluation mode until `train` is called; return the module."""
        for parameter in self.parameters():
            parameter.requires_grad = True
        for module in self.modules():
            module.frozen = False
        return self

    def to(self, backend: str) -> Self:
        """Move all numbers to `"numpy"` or `"cupy"`, but for the buffers that stay on the host; return the module."""
        for _, value in self._named_state():
            if not (isinstance(value, Buffer) and value.on_host):
                _change(value, lambda numbers: to_backend(numbers, backend))
        return self

    def astype(self, dtype: Any) -> Self:
        """Turn all floating-point numbers into another kind; return the module."""
        for _, value in self._named_state():
            if _kept(value).dtype.kind == "f":
                _change(value, lambda numbers: numbers.astype(dtype))
        return self


def _kept(value: Parameter | Buffer) -> Any:
    """Return the numbers, or those that would stand in the place of missing ones."""
    return value.fresh if isinstance(value, MissingParameter) else value.data


def _change(value: Parameter | Buffer, to: Callable[[Any], Any]) -> None:
    if isinstance(value, MissingParameter):
        value.change(to)
    else:
        value.data = to(value.data)


def _absent(name: str, whence: str) -> str:
    return (
        f"{whence} has no weights for {name}, and what was asked for needs them; open a file that has them, or, to train this part, "
        "call model.initialize_missing(), which lets it begin anew and answer at random until then"
    )


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
