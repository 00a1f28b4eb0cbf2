"""`python -m tinymm COMMAND`: parses the command line and calls what it asks for; all of the work is in `workflows/`."""

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from tinymm.arrays.backend import find_backend
from tinymm.arrays.errors import TinymmError, not_installed
from tinymm.workflows import mpiexec, terminal
from tinymm.workflows.commands import build_parser, check_out

STOPPED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 2 for input that cannot be used (with one sentence), 130 when stopped by Ctrl-C."""
    with mpiexec.one_voice():
        options = vars(build_parser().parse_args(arguments))
        with terminal.awake(), terminal.doing("at work"):
            return _run(
                options.pop("command"), options.pop("debug"), options.pop("shares_batches"), options
            )


def _run(command: Any, debug: bool, shares_batches: bool, options: dict[str, Any]) -> int:
    try:
        find_backend(options.get("backend", "numpy"))  # before a second is spent on what needs it
        if options.pop("out_is_file", False):
            check_out(options["out"])
        with _own_functions(), mpiexec.mpi_session(options, shares_batches=shares_batches) as own:
            return command(**own) or 0
    except KeyboardInterrupt as stop:
        terminal.aside(
            "\n" + "; ".join(["stopped, and what was written is whole", *map(str, stop.args)])
        )
        return STOPPED
    except (
        BrokenPipeError
    ):  # `… | head` has read enough; Python would complain once more when it closes the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (TinymmError, OSError, ModuleNotFoundError) as problem:
        if debug:
            raise
        terminal.aside(
            f"tinymm: {not_installed(problem) if isinstance(problem, ModuleNotFoundError) else problem}"
        )
        return 2


def _own_functions() -> contextlib.AbstractContextManager:
    """Put the functions of the file that TINYMM_MINE names in the place of the library's, while a command runs."""
    if not os.environ.get("TINYMM_MINE"):
        return contextlib.nullcontext()
    from tinymm.workflows.course.mine import use_mine

    return use_mine()


if __name__ == "__main__":
    sys.exit(main())
