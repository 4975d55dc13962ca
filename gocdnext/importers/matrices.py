"""Jobs with several instances: as a matrix of ours where that says the same, else one job per combination."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from gocdnext.importers.notes import ImportRefusedError
from gocdnext.pipeline.context import NAME, RESERVED_PREFIXES

MAX_COMBINATIONS = 256


def product(dimensions: Mapping[str, Sequence[str]], line: int) -> list[dict[str, str]]:
    """Every combination, the last dimension fastest. Raises `ImportRefusedError` when there are too many."""
    count = math.prod(map(len, dimensions.values()))
    if count > MAX_COMBINATIONS:
        raise ImportRefusedError(f"the matrix makes {count:,} jobs, at most {MAX_COMBINATIONS} are translated", line)
    return [dict(zip(dimensions, values, strict=True)) for values in itertools.product(*dimensions.values())]


def expressible(dimensions: Mapping[str, Sequence[str]], taken: Iterable[str]) -> bool:
    """Whether `parallel.matrix` takes these dimensions beside the variables and secrets `taken`."""
    names = set(taken)
    return bool(dimensions) and all(
        NAME.fullmatch(name)
        and not name.startswith(RESERVED_PREFIXES)
        and name not in names
        and values
        and len(set(values)) == len(values)
        and not any("," in value or "=" in value or not value for value in values)
        for name, values in dimensions.items()
    )


def instance_name(job: str, combination: Mapping[str, str], taken: set[str]) -> str:
    """A name for the job of one combination, such as `test-3.12-linux`; it is added to `taken`."""
    values = [re.sub(r"[^A-Za-z0-9_.]+", "-", value).strip("-.") for value in combination.values()]
    base = "-".join([job, *(value for value in values if value)])[:100]
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name
