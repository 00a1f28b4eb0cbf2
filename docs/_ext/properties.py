"""The list of all properties by their codes, as failures name them: read off the suites, and off the table behind "likely cause"."""

import re

from tree import ROOT, page

from tinymm.testing.causes import CAUSES
from tinymm.testing.check import CHECKS, Check
from tinymm.testing.suite import Property

SOME = 3  # mistakes that are named; the count says how many there are


def caught(suite: str, key: str) -> list[str]:
    """Return the planted mistakes of a suite that break a property, those that break little else first, since it is they that tell it apart."""
    found = [(len(ids.split()), name) for name, ids in CAUSES[suite].items() if key in ids.split()]
    return [name for _, name in sorted(found, key=lambda each: each[0])]


def escaped(text: str) -> str:
    r"""Return a sentence in which nothing is markup but code.

    >>> escaped("p_i * p_j is `x|y` or |z|")
    'p\\_i \\* p\\_j is `x|y` or \\|z\\|'
    """
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\*_|<>$\[\]])", r"\\\1", part)
        for part in parts
    )


def entry(suite: str, item: Property, anchor: str, elsewhere: list[str]) -> str:
    """Return a property with its name on the page: the sentence, why it matters, which conditions it has and what it catches."""
    mistakes = caught(suite, item.id)
    named = ", ".join(f"“{escaped(name)}”" for name in mistakes[:SOME])
    facts = ["strict"] * (item.tier == "strict") + [f"runs with `{name}=`" for name in item.needs]
    facts += [
        f"only for `{name}={' or '.join(map(repr, allowed))}`"
        for name, allowed in item.where.items()
    ]
    said = f"**{escaped(item.sentence)}**" + (f" ({'; '.join(facts)})" if facts else "")
    first = item.why.split()[0]
    why = item.why if "." in first else f"{item.why[0].upper()}{item.why[1:]}"
    lines = [said, f"*Why*: {escaped(why)}{'' if why.endswith(('.', '?', '!')) else '.'}"]
    lines.append(
        f"*Catches* {len(mistakes)} of {len(CAUSES[suite])} planted mistakes: {named}{' and others' if len(mistakes) > SOME else ''}."
    )
    if elsewhere:
        lines.append(
            "*Also in* "
            + ", ".join(f"[`{other}`](#{other.replace('_', '-')})" for other in elsewhere)
            + "."
        )
    return f'<span id="{anchor}"></span>{item.id}\n: ' + "\\\n  ".join(lines) + "\n\n"


def suite_of(check: Check) -> str:
    """Return the heading of a suite, how it is called and where its properties are written."""
    where = ROOT / f"{check.suite.contract.__module__.replace('.', '/')}.py"
    return f"## {check.suite.name}\n\n`check.{check.suite.name}`, {len(check.suite.properties)} properties ([source](/{page(where)}.rst)).\n\n"


def catalogue() -> str:
    """Return every property, by suite; `TM-M01` is where a code stands first, `TM-prefix_mask-M01` where another suite has it too."""
    homes: dict[str, list[str]] = {}
    for name, check in CHECKS.items():
        for key in check.suite.properties:
            homes.setdefault(key, []).append(name)
    total, mistakes = (
        sum(len(check.suite.properties) for check in CHECKS.values()),
        sum(map(len, CAUSES.values())),
    )
    text = f"{total} properties in {len(CHECKS)} suites, and {mistakes} planted mistakes to keep them honest.\n\n"
    for name, check in CHECKS.items():
        text += suite_of(check)
        for key, item in check.suite.properties.items():
            first = homes[key][0] == name
            text += entry(
                name,
                item,
                f"TM-{key}" if first else f"TM-{name}-{key}",
                [other for other in homes[key] if other != name],
            )
    return text
