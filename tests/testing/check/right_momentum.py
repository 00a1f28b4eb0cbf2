"""Right implementations for what ALBEF and SigLIP learn from, in plain NumPy: the sigmoid loss, the momentum twin, its queue, and hidden words."""

import numpy as np
from right import log_softmax, softmax, unit


def softplus(x):
    return np.logaddexp(0, x)


def signs(n):
    return 2 * np.eye(n) - 1


def sigmoid_loss(S):
    return softplus(-signs(len(S)) * S).sum() / len(S)


def sigmoid_vjp(g, S):
    z = signs(len(S))
    return g * -z * np.exp(-softplus(z * S)) / len(S)


def sigmoid_block(S, offset):
    own = np.arange(S.shape[1]) == np.arange(len(S))[:, None] + offset
    return softplus(np.where(own, -S, S)).sum()


def soft_targets(S, alpha):
    return (1 - alpha) * np.eye(*S.shape) + alpha * softmax(S)


def queue_first(S, alpha):
    B, C = S.shape
    return (1 - alpha) * np.eye(B, C, k=C - B) + alpha * softmax(S)


def soft_targets_by_ids(S, alpha, row_ids, column_ids):
    same = row_ids[:, None] == column_ids
    return (1 - alpha) * same / same.sum(axis=1, keepdims=True) + alpha * softmax(S)


def halves(features, temperature, alpha, targets=soft_targets):
    """Return for each direction its logits, its targets, and what its rows are compared with."""
    I, T, I_m, T_m, image_queue, text_queue = features
    to_texts, to_images = np.concatenate([T_m, text_queue]), np.concatenate([I_m, image_queue])
    pairs = ((I, I_m, to_texts), (T, T_m, to_images))
    return [
        (rows @ others.T / temperature, targets(twin @ others.T / temperature, alpha), others)
        for rows, twin, others in pairs
    ]


def cross_entropy(S, targets):
    return -(targets * log_softmax(S)).sum(axis=1).mean()


def itc_queue(*given, targets=soft_targets, entropy=cross_entropy):
    *features, temperature, alpha = given
    return sum(entropy(S, t) for S, t, _ in halves(features, temperature, alpha, targets)) / 2


def itc_queue_vjp(g, *given, targets=soft_targets):
    *features, temperature, alpha = given
    two = halves(features, temperature, alpha, targets)
    learned = [g * (softmax(S) - t) @ others / (2 * len(S) * temperature) for S, t, others in two]
    return (*learned, *(np.zeros_like(x) for x in features[2:]))


def normalizing_itc_queue(*given):
    *features, temperature, alpha = given
    return itc_queue(*map(unit, features), temperature, alpha)


def normalizing_itc_queue_vjp(g, *given):
    *features, temperature, alpha = given
    found = itc_queue_vjp(g, *map(unit, features), temperature, alpha)[:2]
    across = [
        d - (d * unit(x)).sum(axis=1, keepdims=True) * unit(x)
        for d, x in zip(found, features[:2], strict=True)
    ]
    return (
        *(
            d / np.linalg.norm(x, axis=1, keepdims=True)
            for d, x in zip(across, features[:2], strict=True)
        ),
        None,
        None,
        None,
        None,
    )


def choose(special, p, rng):
    return (rng.random(special.shape) < p) & ~special


def hide(ids, selected, V, mask_id, rng, masked=0.8, kept=0.1):
    dice = rng.random(ids.shape)
    inputs = np.where(selected & (dice < masked), mask_id, ids)
    return np.where(selected & (dice >= masked + kept), rng.integers(V, size=ids.shape), inputs)


def mlm_masking(ids, special, V, mask_id, p, rng, ignore_index=-100, choose=choose, hide=hide):
    selected = choose(special, p, rng)
    return hide(ids, selected, V, mask_id, rng), np.where(selected, ids, ignore_index)


def one_coin_after_the_other(ids, special, V, mask_id, p, rng):
    """Throw a second coin for what the first did not mask: half of two tenths is random."""
    inputs, selected = ids.copy(), choose(special, p, rng)
    masked = selected & (rng.random(ids.shape) < 0.8)
    random = selected & ~masked & (rng.random(ids.shape) < 0.5)
    inputs[masked] = mask_id
    inputs[random] = rng.integers(V, size=random.sum())
    return inputs, np.where(selected, ids, -100)


def mlm_loss(logits, labels, ignore_index=-100):
    selected = labels != ignore_index
    if not selected.any():
        return 0.0
    return -np.take_along_axis(
        log_softmax(logits[selected]), labels[selected][:, None], axis=1
    ).mean()


def ema(twin, online, m):
    return m * twin + (1 - m) * online


def ema_in_place(twin, online, m):
    twin += (1 - m) * (online - twin)


class Ring:
    """A queue that overwrites its oldest rows; the planted mistakes change one method each."""

    def __init__(self, K, E):
        self.rows, self.pointer = self.first(K, E), 0

    def first(self, K, E):
        return unit(np.random.default_rng(0).normal(size=(K, E)))

    def push(self, rows):
        self.refuse(rows)
        self.rows[self.pointer : self.pointer + len(rows)] = rows
        self.pointer = (self.pointer + len(rows)) % len(self.rows)

    def refuse(self, rows):
        if len(self.rows) % len(rows):
            raise ValueError(
                f"a queue of {len(self.rows)} cannot be filled by batches of {len(rows)}"
            )


class Wrapping(Ring):
    """The same for batches of any size: the end of one goes on in front."""

    def push(self, rows):
        self.rows[(self.pointer + np.arange(len(rows))) % len(self.rows)] = rows
        self.pointer = (self.pointer + len(rows)) % len(self.rows)


class Line(Ring):
    """The oldest row first: the queue moves up with each batch."""

    pointer = None

    def __init__(self, K, E):
        self.rows = self.first(K, E)

    def push(self, rows):
        self.refuse(rows)
        self.rows = np.concatenate([self.rows[len(rows) :], rows])


class Columns(Ring):
    """One column a feature, as the original keeps it."""

    def __init__(self, K, E):
        self.kept = Ring(K, E)

    rows = property(lambda self: self.kept.rows.T)
    pointer = property(lambda self: self.kept.pointer)

    def push(self, columns):
        self.kept.push(columns.T)
