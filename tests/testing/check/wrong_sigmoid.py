"""Planted mistakes in SigLIP's loss."""

import numpy as np
import right
from kept import planted
from right_momentum import sigmoid_block, sigmoid_loss, sigmoid_vjp, signs, softplus


def pairs(rule):
    """Return a sigmoid loss whose pairs cost rule(logits, signs), averaged over pictures."""
    return lambda S: rule(S, signs(len(S))).sum() / len(S)


def balanced(S):
    own = np.eye(len(S), dtype=bool)
    return (
        (softplus(-S[own]).mean() + softplus(S[~own]).mean()) / 2
        if len(S) > 1
        else softplus(-S).sum()
    )


def focal(S, z):
    return np.exp(-softplus(z * S)) * softplus(-z * S)


def local_diagonal(S, offset):
    return sigmoid_block(S, 0)


def below_too(S, offset):
    """Take a block of earlier texts for the own one."""
    return sigmoid_block(S, offset if offset >= 0 else 0)


SIGMOID_LOSS = planted(
    "sigmoid_loss",
    mean_of_all_pairs=lambda S: sigmoid_loss(S) / len(S),
    sum_divided_by_nothing=lambda S: sigmoid_loss(S) * len(S),
    softmax_as_in_clip=right.loss_of_logits,
    softmax_of_one_direction=lambda S: right.half(S, 1),
    labels_zero_and_one=pairs(lambda S, z: softplus(-(z > 0) * S)),
    labels_reversed=pairs(lambda S, z: softplus(z * S)),
    sign_forgotten=lambda S: -sigmoid_loss(S),
    positives_only=pairs(lambda S, z: softplus(-S) * (z > 0)),
    negatives_only=pairs(lambda S, z: softplus(S) * (z < 0)),
    all_pairs_are_wrong=pairs(lambda S, z: softplus(S)),
    one_triangle_only=pairs(lambda S, z: softplus(-z * S) * np.tri(len(S))),
    one_triangle_twice=pairs(lambda S, z: softplus(-z * S) * (2 * np.tri(len(S)) - np.eye(len(S)))),
    labels_shifted=lambda S: sigmoid_loss(np.roll(S, 1, axis=1)),
    positives_and_negatives_balanced=balanced,
    hinge_for_softplus=pairs(lambda S, z: np.maximum(0, np.log(2) - z * S)),
    squares=pairs(lambda S, z: np.log(2) * (1 - z * S) ** 2),
    probability_for_its_logarithm=pairs(lambda S, z: np.exp(-softplus(z * S)) * 2 * np.log(2)),
    focal=pairs(focal),
    temperature_hidden=lambda S: sigmoid_loss(S / 2),
    bias_hidden=lambda S: sigmoid_loss(S - 10),
    bias_learned_for_four=lambda S: sigmoid_loss(S - np.log(3)),
    base_two=lambda S: sigmoid_loss(S) / np.log(2),
    logarithm_of_the_sigmoid=pairs(lambda S, z: -np.log(1 / (1 + np.exp(-z * S)))),
    logarithm_of_one_plus=pairs(lambda S, z: np.log1p(np.exp(-z * S))),
    epsilon_in_the_logarithm=pairs(lambda S, z: -np.log(np.exp(-softplus(-z * S)) + 1e-12)),
    logits_clipped=lambda S: sigmoid_loss(np.clip(S, -100, 100)),
    one_pair_costs_nothing=lambda S: sigmoid_loss(S) if len(S) > 1 else 0.0,
    batch_of_one_refused=lambda S: sigmoid_loss(S) if len(S) > 1 else [][0],
    gradient_negative={"vjp": lambda g, S: -sigmoid_vjp(g, S)},
    gradient_of_the_mean={"vjp": lambda g, S: sigmoid_vjp(g, S) / len(S)},
    gradient_of_the_positives={"vjp": lambda g, S: sigmoid_vjp(g, S) * np.eye(len(S))},
    gradient_without_labels={"vjp": lambda g, S: g * np.exp(-softplus(-S)) / len(S)},
    diagonal_in_every_block={"block": local_diagonal},
    diagonal_in_blocks_of_earlier_texts={"block": below_too},
    foreign_blocks_forgotten={
        "block": lambda S, offset: sigmoid_block(S, 0) if offset == 0 else 0.0
    },
    each_block_divided={"block": lambda S, offset: sigmoid_block(S, offset) / len(S)},
)
