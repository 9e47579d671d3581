# SPDX-License-Identifier: GPL-2.0-only
"""Lists of what is known and why, tests/coverage/unreached and tests/lts-differences:

    WHAT
        the reason, indented, for all the lines right above it
"""

import re


class Wrong(Exception):
    """A list is not written as its first lines say."""


def listed(path, form):
    """(groups of the expression, reason), for each line of what is listed."""
    what, why = [], []
    with open(path, encoding="utf-8") as file:
        for line in [*(line.rstrip() for line in file if not line.startswith("#")), ""]:
            if line[:1].isspace() and what:
                why.append(line.strip())
                continue
            if why:
                yield from ((groups, " ".join(why)) for groups in what)
                what, why = [], []
            if line:
                match = re.fullmatch(form, line)
                if not match:
                    raise Wrong(f"{path}: correct this line, the first ones say how it is written: {line}")
                what.append(match.groups())
    if what:
        raise Wrong(f"{path}: no reason is given for what ends with {' '.join(filter(None, what[-1]))}")
