"""A test class for each defect, and for each sound plugin that was written to be broken."""

from hypothesis import Phase, settings

import dfs.testing

from tests.kit import shape_defects as shape_defects, stage_defects, world_defects  # isort: skip
from tests.kit.defects import DEFECTS

# A defect need not be shown by its smallest example, and nothing of it is remembered. Before the contracts:
# their properties take over what holds when they are imported.
settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate), database=None)
settings.load_profile("mutants")

CONTRACT_OF = {name.removesuffix("Contract").lower(): name for name in dfs.testing.CONTRACTS}
SOUND = {**stage_defects.SOUND, **world_defects.SOUND}


def contract(kind: str) -> type:
    found = getattr(dfs.testing, CONTRACT_OF[kind])
    assert isinstance(found, type)
    return found


for defect in DEFECTS:
    body = {"plugin": defect.plugin, **defect.settings}
    globals()[defect.class_name] = type(defect.class_name, (contract(defect.kind),), body)
for kind, plugin in SOUND.items():
    name = f"TestSound_{kind}"
    body = {"plugin": plugin, "examples": world_defects.WORDS}
    body |= dict.fromkeys(stage_defects.COPIES.get(kind, ()))  # no test any more
    globals()[name] = type(name, (contract(kind),), body)
