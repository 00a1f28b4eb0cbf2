"""The pictures and the report of a run of `train blip2`."""

from pathlib import Path
from typing import Any

from tinymm.data.batches import Source
from tinymm.training.records import read_metrics
from tinymm.viz import curves, style

from .report import write_report


def draw(path: Path, source: Source, model: Any, chances: dict[str, float], results: dict[str, Any]) -> None:
    """Write loss.png with each loss's chance line, and the report."""
    style.save(curves.losses(read_metrics(path), chance=chances), path / "loss.png")
    write_report(path)
