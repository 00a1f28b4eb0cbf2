"""What a training run depends on: the settings that all models share, each with its flag's help.

A model's own settings are a subclass beside its step, which adds fields and changes defaults
(`changed`). A field is declared by `setting`: default, help, and the range that is checked.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any

from tinymm.arrays.errors import UsageError

#: Sizes of a model are below the first, other whole numbers below the second.
LARGEST_SIZE, LARGEST = 2**16, 2**31


def setting(
    default: Any,
    said: str,
    *,
    least: float | None = None,
    most: float = math.inf,
    choices: tuple[Any, ...] | None = None,
    size: bool = False,
) -> Any:
    """Return a dataclass field that is also a command-line flag.

    `least` and `most` bound a number, most excluded where it is infinite; `choices` are all values
    that there are. A `size` is one of a new model: a model that is fine-tuned brings its own. A
    default of False makes a flag without a value.
    """
    about = {"help": said, "least": least, "most": most, "choices": choices, "size": size}
    return field(default=default, metadata=about)


def changed(settings: type, name: str, default: Any, said: str | None = None) -> Any:
    """Return a field of `settings` with another default, and another help text where one is given."""
    own = next(item for item in fields(settings) if item.name == name)
    return field(default=default, metadata=own.metadata | ({"help": said} if said else {}))


@dataclass(frozen=True)
class Settings:
    """What every training run depends on, as `run.json` keeps it.

    `data` is the name of built-in data or a path; `vocabulary` is "words" or "bpe", learned from
    the captions. `init` names a model to fine-tune, which brings its own sizes. `workers` None
    means the machine's cores, up to four. UsageError, with the flag's name, for a value out of
    range.
    """

    data: str = setting("shapes", "built-in data, or a path to images and captions")
    init: str | None = setting(None, "fine-tune this run, Hugging Face folder or file")
    init_heads: str | None = setting(
        None, "attention heads of an --init that does not tell them, such as image=12,text=8"
    )
    init_activation: str | None = setting(
        None, "its activation: quick_gelu (OpenAI's), gelu (open_clip's usual one) or relu"
    )
    tokenizer: str | None = setting(
        None, "folder or file of a tokenizer: of --init, where it brings none, or to train on"
    )
    vocabulary: str = setting(
        "words",
        "words (in scripts without spaces: characters), or bpe: pieces learned from captions",
        choices=("words", "bpe"),
    )
    resolution: int | None = setting(
        None,
        "side of the images in pixels (own data, emoji and digits; default: 32 or --init's)",
        least=1,
    )
    patch: int = setting(8, "side of a ViT patch", least=1, size=True)
    width: int = setting(128, "width D of the transformers", least=1, size=True)
    mlp_ratio: int = setting(
        2, "how many times wider the feed-forward layers are, F / D", least=1, size=True
    )
    layers: int = setting(3, "layers of the image encoder", least=1, size=True)
    heads: int = setting(4, "attention heads", least=1, size=True)
    embed_dim: int = setting(64, "width E of the shared embedding space", least=1, size=True)
    steps: int = setting(1000, "training steps", least=1)
    batch_size: int = setting(64, "pairs a step, at least 2", least=2)
    learning_rate: float = setting(1e-3, "peak learning rate", least=0)
    warmup: int = setting(50, "steps of warm-up", least=0)
    weight_decay: float = setting(0.05, "weight decay of matrices", least=0)
    max_grad_norm: float = setting(1.0, "largest gradient norm, 0 for none", least=0)
    overfit: int | None = setting(
        None, "train on the first N pairs only, to see that the model can learn", least=2
    )
    grad_cache: int | None = setting(
        None,
        "gradient caching: embed N pairs at a time, each twice, for a batch larger than memory, with its own gradient "
        "(docs/memory.md)",
        least=1,
    )
    checkpoint_every: int = setting(100, "steps between checkpoints", least=1)
    validate_every: int = setting(150, "steps between validations", least=1)
    seed: int = setting(0, "names the random draws; the same seed gives the same numbers", least=0)
    workers: int | None = setting(None, "threads that share each batch, in each rank", least=1)
    backend: str = setting("numpy", "where the arrays are", choices=("numpy", "cupy"))

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name), item.metadata)


def _check(name: str, value: Any, said: Any) -> None:
    """Raise UsageError, with the flag's name, for a value out of its range; None is left alone."""
    flag, least, choices = f"--{name.replace('_', '-')}", said.get("least"), said.get("choices")
    if value is None:
        return
    if choices is not None and value not in choices:
        raise UsageError(
            f"{flag} is one of {', '.join(map(str, choices))}, and {value!r} came; choose one"
        )
    if least is None:
        return
    most = said["most"]
    if not (least <= value <= most and value < math.inf):
        reason = ": with one pair there is nothing to contrast" if least == 2 else ""
        range_ = f"at least {least}" if most == math.inf else f"in [{least}, {most}]"
        raise UsageError(
            f"{flag} is {range_}{reason}, and {value} came; give another, or leave it out"
        )
    beyond = LARGEST_SIZE if said.get("size") and name != "alpha_warmup" else LARGEST  # in steps
    if isinstance(value, int) and name != "seed" and value >= beyond:
        raise UsageError(
            f"{flag} is below {beyond:,}, and {value} came; give another, or leave it out"
        )
