"""Reading a pickle as data: what it says is noted down, and nothing of it is done.

A pickle is a program for a small stack machine, and the instruction REDUCE calls whatever function
the file names. Unpickling a stranger's file therefore runs the stranger's code. This reader walks
through the same instructions with a machine of its own that cannot call anything but the few
functions that its caller hands over: every other name stays a name, and "calling" it gives a
`Placeholder` that remembers the name. No class is looked up, no attribute is set, no module is
imported.
"""

import pickletools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from tinymm.arrays.errors import CheckpointError

LARGEST = (
    16 * 2**20
)  # bytes; released checkpoints stay below one million, and every byte can cost a hundred in memory

_VALUES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 "
    "UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT BINFLOAT".split()
)
_FRESH: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Name:
    """A global that the file mentions, as text: `Name("torch", "FloatStorage")` is no class and can't be called."""

    __slots__ = ("text",)

    def __init__(self, module: str, attribute: str) -> None:
        self.text = f"{module}.{attribute}"


class Placeholder:
    """What stands where the file wanted an object of a foreign class: its name, and the state that it would have been given."""

    __slots__ = ("name", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: object = None


class _Machine:
    """The pickle machine's stack, marks and memo; each method is one group of instructions."""

    def __init__(
        self, known: Mapping[str, Callable[..., object]], persistent: Callable[[object], object]
    ) -> None:
        self.known, self.persistent = known, persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        """Return what was pushed since the last mark, and take it off."""
        items, self.stack = self.stack, self.marked.pop()
        return items

    def step(self, instruction: str, argument: Any) -> None:
        """Carry out one instruction."""
        if instruction in _VALUES:
            self.stack.append(argument)
        elif instruction in _FRESH:
            self.stack.append(_FRESH[instruction]())
        elif instruction in _TUPLES:
            self.join(_TUPLES[instruction])
        elif instruction == "MARK":
            self.marked.append(self.stack)
            self.stack = []
        else:
            self.act(instruction, argument)

    def act(self, instruction: str, argument: Any) -> None:
        """Carry out an instruction that looks at what lies on the stack."""
        push, pop = self.stack.append, self.stack.pop
        match instruction:
            case "TUPLE" | "LIST" | "FROZENSET":
                items = self.since_mark()
                self.stack.append(items if instruction == "LIST" else tuple(items))
            case "APPEND" | "APPENDS" | "ADDITEMS":
                self.append([pop()] if instruction == "APPEND" else self.since_mark())
            case "SETITEM":
                value, key = pop(), pop()
                self.set_items([key, value])
            case "SETITEMS":
                self.set_items(self.since_mark())
            case "DICT":
                items = self.since_mark()
                self.stack.append({})
                self.set_items(items)
            case "GET" | "BINGET" | "LONG_BINGET":
                push(self.memo[argument])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "GLOBAL":
                push(Name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = pop(), pop()
                push(Name(str(module), str(attribute)))
            case "REDUCE" | "NEWOBJ":
                arguments, function = pop(), pop()
                push(self.call(function, arguments))
            case "NEWOBJ_EX":
                _, arguments, function = pop(), pop(), pop()
                push(self.call(function, arguments))
            case "BUILD":
                state = pop()
                self.give_state(self.stack[-1], state)
            case "BINPERSID":
                push(self.persistent(pop()))
            case "POP":
                pop()
            case "POP_MARK":
                self.since_mark()
            case "DUP":
                push(self.stack[-1])
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _:
                raise CheckpointError(
                    f"the pickle inside the file uses the instruction {instruction}, which no saved tensor needs; "
                    "save the weights again as safetensors"
                )

    def join(self, size: int) -> None:
        """Make one tuple of the topmost `size` things."""
        if len(self.stack) < size:
            raise IndexError("stack")
        self.stack[-size:] = [tuple(self.stack[-size:])]

    def append(self, items: list[Any]) -> None:
        """Add to the list below; what is added to a foreign object is dropped."""
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)
        elif not isinstance(self.stack[-1], Placeholder):
            raise TypeError("append")

    def set_items(self, items: list[Any]) -> None:
        """Fill the dictionary below; a key that is neither text nor a number cannot name a weight and is left out."""
        target = self.stack[-1]
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                if key is None or isinstance(
                    key, (str, int, float)
                ):  # hashing a deep tuple could exhaust the C stack
                    target[key] = value
        elif not isinstance(target, Placeholder):
            raise TypeError("items")

    def call(self, function: object, arguments: object) -> object:
        """Call one of the caller's own functions, or note that the file wanted to call another."""
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise TypeError("call")
        if function.text in self.known:
            return self.known[function.text](*arguments)
        return Placeholder(function.text)

    def give_state(self, target: object, state: object) -> None:
        """Keep the state of a foreign object beside its name; a dictionary's own attributes (`_metadata`) are dropped."""
        if isinstance(target, Placeholder):
            target.state = state
        elif not isinstance(target, dict):
            raise TypeError("build")


def read_pickle(
    data: bytes, known: Mapping[str, Callable[..., object]], persistent: Callable[[object], object]
) -> object:
    """Return what the pickle describes, built from plain containers, `known` functions and `Placeholder`s.

    `known` maps full names ("collections.OrderedDict") to functions of the caller's; `persistent`
    receives every persistent id. Raises CheckpointError for anything else than a whole, well-formed
    pickle of at most 16 MiB.

    >>> import pickle, fractions
    >>> found = read_pickle(pickle.dumps({"x": fractions.Fraction(1, 2), "y": [1, 2]}), {}, lambda name: None)
    >>> found["y"], found["x"].name
    ([1, 2], 'fractions.Fraction')
    """
    if len(data) > LARGEST:
        raise CheckpointError(
            f"a description of tensors has at most {LARGEST:,} bytes, this one has {len(data):,}; save the weights alone: "
            "torch.save(model.state_dict(), path)"
        )
    machine = _Machine(known, persistent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of Python itself, where a text has a backslash too many
            for opcode, argument, _ in pickletools.genops(data):
                machine.step(opcode.name, argument)
        (result,) = machine.stack
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, AttributeError) as problem:
        if isinstance(problem, CheckpointError):
            raise
        raise CheckpointError(
            f"the pickle inside the file is damaged or hostile ({type(problem).__name__} in its instructions); "
            "copy the file again or save the weights as safetensors"
        ) from problem
    return result
