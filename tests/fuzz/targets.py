"""All fuzz targets by name: the one list that Hypothesis, the kept corpus and atheris work through."""

from collections.abc import Mapping
from typing import Final

from tests.fuzz import file_targets, sealed_targets, wire_targets
from tests.fuzz.target import Target

TARGETS: Final[Mapping[str, Target]] = {
    target.name: target for target in (*wire_targets.TARGETS, *sealed_targets.TARGETS, *file_targets.TARGETS)
}
