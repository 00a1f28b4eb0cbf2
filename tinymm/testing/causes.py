"""Which properties each planted mistake of the tests breaks; the likely cause of a failure is the nearest row."""

CAUSES: dict[str, dict[str, str]] = {}
