"""`ablate` and `compare`: declared here, done in one file each."""

from typing import Any

from .. import commands

#: Where they stand in --help.
PLACE = 15


def declare(parsers: Any) -> None:
    """Add ablate and compare."""
    _declare_ablate(parsers)

    said = "train CLIP, ALBEF, BLIP and BLIP-2 on the same data and budget: one table, one picture"
    compare = commands.add(
        parsers, "compare", said, "compare --steps 400", _compare, shares_batches=True
    )
    compare.add_argument(
        "--steps",
        type=int,
        default=800,
        metavar="N",
        help="training steps of each system (default: 800)",
    )
    compare.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="pairs a step (default: 64)"
    )
    compare.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="threads that share each batch (default: the cores, up to 4)",
    )
    commands.common(
        compare,
        out="the folder (default: the next free runs/compare-N); systems that it holds are not trained again",
        folder=True,
    )


def _declare_ablate(parsers: Any) -> None:
    from tinymm.workflows.studies import ablate_albef, ablate_blip2

    said = "do without parts of a model and print what that costs: BLIP-2's losses and masks, BLIP's captions, ALBEF's momentum"
    models = parsers.add_parser("ablate", help=said).add_subparsers(
        title="models", metavar="MODEL", required=True
    )
    every = {
        "blip2": (
            "BLIP-2 without one of its losses, or under another mask",
            400,
            tuple(ablate_blip2.VARIANTS),
        ),
        "albef": (
            "ALBEF without its hard negatives, its queue or its momentum encoder",
            1000,
            tuple(ablate_albef.ROWS),
        ),
        "blip": ("BLIP on true captions, wrong ones, and what CapFilt makes of these", 500, ()),
    }
    for name, (said, steps, rows) in every.items():
        one = commands.add(models, name, said, f"ablate {name} --steps {steps}", _ablate)
        one.set_defaults(model=name)
        one.add_argument(
            "--steps",
            type=int,
            default=steps,
            metavar="N",
            help=f"steps of each row (default: {steps})",
        )
        if rows:
            said = f"only this row; may be given several times. The rows: {', '.join(rows)}"
            one.add_argument("--only", action="append", metavar="ROW", choices=rows, help=said)
        if name == "blip2":
            one.add_argument(
                "--encoder",
                metavar="RUN",
                help="a run of `train clip --data shapes` (default: train one first)",
            )
            said = "steps of the encoder, where it is trained first (default: 1000)"
            one.add_argument("--encoder-steps", type=int, default=1000, metavar="N", help=said)
        one.add_argument(
            "--workers",
            type=int,
            metavar="N",
            help="threads that share each batch (default: the cores, up to 4)",
        )
        commands.common(one)


def _ablate(model: str, **options: Any) -> None:
    from tinymm.workflows.studies import ablate_albef, ablate_blip, ablate_blip2

    {"blip2": ablate_blip2, "albef": ablate_albef, "blip": ablate_blip}[model].run(**options)


def _compare(**options: Any) -> None:
    from tinymm.workflows.studies import compare

    compare.run(**options)
