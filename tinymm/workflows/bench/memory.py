"""How much memory a process has used at most: the kernel's own high-water mark, which both sides of the benchmark read alike."""

import resource
from pathlib import Path


def _status(key: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    return None


def resident_mb() -> float:
    """Return the memory in use now, in MB (where the system does not tell, the peak so far)."""
    return _status("VmRSS:") or peak_mb()


def forget_peak() -> None:
    """Set the high-water mark back to what is in use now, where Linux allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_mb() -> float:
    """Return the largest amount of memory in use since `forget_peak`, in MB."""
    return _status("VmHWM:") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
