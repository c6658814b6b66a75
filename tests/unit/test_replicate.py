"""The code replicate: the contract of codes; every share is the stripe, any one is enough."""

import pytest

from dfs.core.api import CodeOptions, ConfigError, Geometry
from dfs.plugins import replicate
from dfs.testing import CodeContract
from dfs.testing.contracts.code import CodeVector


class TestReplicate(CodeContract):
    (plugin,) = replicate.dfs_codes()
    vectors = (CodeVector(needed=1, total=3, stripe=b"ab".hex(), shares=(b"ab".hex(),) * 3),)


def test_declaration() -> None:
    plugin, code = TestReplicate.plugin, TestReplicate().new(Geometry(1, 3))
    assert (plugin.name, plugin.format_version, code.copies, code.share_size(7)) == ("replicate", 1, 1, 7)
    with pytest.raises(ConfigError, match="k = 1, not 2 of 4"):
        plugin.make(CodeOptions(geometry=Geometry(2, 4)))
