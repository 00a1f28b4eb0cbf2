"""The parts that a LAVIS file lacks: it keeps what was trained, and the frozen image encoder and language model lie in files of their own."""

import os
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError

from ..files.folders import Weights, read_weights

#: EVA's file has more than BLIP-2 uses of it: a last norm, a head, and a fortieth block.
_EVA_UNUSED = ("norm.", "fc_norm.", "head.", "blocks.39.", "mask_token")


def with_frozen_parts(weights: Weights, paths: list[Any]) -> list[str]:
    """Add the arrays of the frozen parts' files to a LAVIS file's own, under the prefixes that they have there; return the keys left out.

    CheckpointError for a file that is neither, and for arrays that the LAVIS file has, too, and
    otherwise.
    """
    left = []
    for path in paths:
        part = read_weights(os.fspath(path))
        if "patch_embed.proj.weight" in part.arrays:
            left += [key for key in part.arrays if key.startswith(_EVA_UNUSED)]
            added = {
                f"visual_encoder.{key}": array
                for key, array in part.arrays.items()
                if not key.startswith(_EVA_UNUSED)
            }
        elif any(key.endswith("decoder.embed_positions.weight") for key in part.arrays):
            inner = "" if "model.decoder.embed_positions.weight" in part.arrays else "model."
            names = {
                key: key if key.startswith("lm_head.") else f"{inner}{key}" for key in part.arrays
            }
            added = {f"opt_model.{names[key]}": array for key, array in part.arrays.items()}
            weights.settings.setdefault("text_config", part.settings)
        else:
            few = ", ".join(map(repr, list(part.arrays)[:3]))
            raise CheckpointError(
                f"{part.path.name}: a frozen part is EVA's ViT (patch_embed, blocks …) or an OPT (decoder …), and this file begins with {few}; "
                "name the file of the image encoder or of the language model"
            )
        other = [
            key
            for key in added
            if key in weights.arrays and not np.array_equal(added[key], weights.arrays[key])
        ]
        if other:
            raise CheckpointError(
                f"{part.path.name}: the LAVIS file has a trained {other[0]} of its own, and this file has another; leave this file out of frozen="
            )
        weights.arrays |= added
    return left
