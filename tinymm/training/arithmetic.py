"""The compute, memory and communication of training at CLIP's scale (batch 32,768, 400 M pairs), by arithmetic.

`models.cost` counts one pair. Here it meets a batch of n pairs on N machines, each of which runs
its n / N pairs and gathers everybody's embeddings. With the *global* loss each then computes the
whole n × n matrix; with the *local* loss only the rows and the columns of its own pairs, as the
paper's machines did (§2.5).
"""

import math
from dataclasses import dataclass

from tinymm.arrays.errors import UsageError
from tinymm.models.clip import CLIPConfig
from tinymm.models.cost import pair_cost

#: Bytes of a number, float32.
ITEM = 4
#: Arrays as large as the weights: the weights, their gradients, and AdamW's two running means.
STATE = 4
#: Arrays n × n that no way around the matrix itself can do without: the logits and their gradient.
LEAST = 2
#: Those that Figure 3 as it stands holds at once when most are alive: in float32, on the way back
#: through its two cross-entropies.
FIGURE_3 = 7
#: What §2.5 says of the two largest models: name → (machines, days).
PAPER = {"RN50x64": (592, 18.0), "ViT-L/14": (256, 12.0)}
#: §2.5 and Table 18: pairs of WebImageText, times that training sees them, and pairs in a batch.
PAIRS, EPOCHS, BATCH = 400_000_000, 32, 32_768


@dataclass(frozen=True)
class Run:
    """A training run on paper: a model, n pairs a batch on N machines, with the local or the global loss; UsageError where n ≠ N · whole pairs.

    >>> Run(CLIPConfig.paper("ViT-B/32"), machines=256).pairs_each
    128
    """

    config: CLIPConfig
    batch: int = BATCH
    machines: int = 1
    local_loss: bool = False

    def __post_init__(self):
        if self.machines < 1 or self.batch < 2 or self.batch % self.machines:
            raise UsageError(
                f"the machines share a batch of 2 pairs or more evenly, and {self.batch} over {self.machines} came; choose a divisor of the batch"
            )

    @property
    def pairs_each(self) -> int:
        """Pairs whose encoders one machine runs."""
        return self.batch // self.machines

    # ------------------------------------------------------------------ operations
    def loss_operations(self) -> int:
        """Return the multiply-adds of the loss's products on one machine, forward: n² · E, or two blocks of n / N rows with the local loss."""
        n, E = self.batch, self.config.embed_dim
        return n * n * E if not self.shards else 2 * self.pairs_each * n * E

    def step_operations(self) -> int:
        """Return the multiply-adds of one step on one machine, forward and backward."""
        return self.pairs_each * pair_cost(self.config).step + 3 * self.loss_operations()

    def loss_share(self) -> float:
        """Return which share of a step's operations the loss's product has, on one machine."""
        return 3 * self.loss_operations() / self.step_operations()

    # ------------------------------------------------------------------ memory of one machine, in bytes
    def state_bytes(self) -> int:
        """Return weights, gradients and the optimizer's two running means: the same on every machine."""
        return STATE * ITEM * pair_cost(self.config).parameters

    def kept_bytes(self) -> int:
        """Return what the encoders keep of a machine's pairs until the backward pass has used it."""
        return ITEM * self.pairs_each * pair_cost(self.config).kept

    def matrix_bytes(self, arrays: int = LEAST) -> int:
        """Return the size of that many arrays of the loss: n × n each, or with the local loss two blocks (n / N) × n each."""
        n = self.batch
        return arrays * ITEM * (n * n if not self.shards else 2 * self.pairs_each * n)

    def memory_bytes(self, arrays: int = LEAST) -> int:
        """Return all of it."""
        return self.state_bytes() + self.kept_bytes() + self.matrix_bytes(arrays)

    # ------------------------------------------------------------------ received by one machine a step, in bytes
    def gathered_bytes(self) -> int:
        """Return the others' embeddings, images' and texts': the forward pass gathers them with either loss."""
        return 2 * ITEM * (self.batch - self.pairs_each) * self.config.embed_dim

    def scattered_bytes(self) -> int:
        """Return gradients of its own embeddings from all the others, which a machine that saw a part of the matrix needs.

        With the global loss each machine has seen all of it, and knows the whole gradient of its
        own embeddings already.
        """
        return self.gathered_bytes() if self.shards else 0

    def reduced_bytes(self) -> int:
        """Return the weights' gradients, summed over all machines: twice their size but for the machine's own N-th part, as a ring passes them."""
        return 2 * ITEM * pair_cost(self.config).parameters * (self.machines - 1) // self.machines

    @property
    def shards(self) -> bool:
        """Whether the matrix is cut at all."""
        return self.local_loss and self.machines > 1


def training_operations(config: CLIPConfig, pairs: int = PAIRS, epochs: float = EPOCHS) -> float:
    """Return the floating-point operations of the encoders over a whole training, a multiply-add being two; what few the loss has come on top.

    >>> f"{training_operations(CLIPConfig.paper('ViT-L/14')):.1e}"
    '6.7e+21'
    """
    return 2.0 * pair_cost(config).step * pairs * epochs


def training_days(run: Run, rate: float, pairs: int = PAIRS, epochs: float = EPOCHS) -> float:
    """Return the days that a whole training takes at a rate (operations a second that each machine sustains), if nothing ever waits."""
    steps = pairs * epochs / run.batch
    return steps * 2 * run.step_operations() / rate / 86_400


def sustained_rate(
    config: CLIPConfig, machines: int, days: float, pairs: int = PAIRS, epochs: float = EPOCHS
) -> float:
    """Return the rate (operations a second) that each machine must have sustained to train the encoders in so many days.

    >>> round(sustained_rate(CLIPConfig.paper("ViT-L/14"), *PAPER["ViT-L/14"]) / 1e12)
    25
    """
    return training_operations(config, pairs, epochs) / (machines * days * 86_400)


def largest_batch(memory: float, arrays: int = LEAST, machines: int = 1) -> int:
    """Return the largest n whose n × n arrays fit a memory in bytes by themselves; with `machines`, cut over them as the local loss cuts.

    >>> largest_batch(16e9), largest_batch(16e9, FIGURE_3)
    (44721, 23904)
    """
    share = machines / 2 if machines > 1 else 1
    return math.isqrt(int(memory * share) // (arrays * ITEM))


def machines_needed(
    config: CLIPConfig, batch: int, memory: float, *, local: bool, arrays: int = LEAST
) -> int | None:
    """Return the least number of machines, a divisor of the batch, on which a step fits a memory in bytes; None if it fits on no number.

    With the global loss each machine holds the whole matrix, so more machines do not help against
    it.
    """
    for machines in (N for N in range(1, batch + 1) if batch % N == 0):
        if Run(config, batch, machines, local).memory_bytes(arrays) <= memory:
            return machines
    return None
