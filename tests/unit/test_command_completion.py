"""`dfs completion`."""

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("shell", "part"),
    [("bash", "complete -o nosort -F"), ("zsh", "#compdef dfs"), ("fish", "complete --no-files")],
)
def test_each_shell_has_its_script(bare_home: Any, shell: str, part: str) -> None:
    bare_home.dfs("completion", shell)
    assert part in bare_home.out
    assert f"_DFS_COMPLETE={shell}_complete" in bare_home.out
    assert bare_home.json("completion", shell)["data"]["shell"] == shell


def test_another_shell_is_refused(bare_home: Any) -> None:
    bare_home.dfs("completion", "tcsh", status=2)
