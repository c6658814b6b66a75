"""`dfs key`: files that are made once, a public key that is shown, sheets that are not shown by accident."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dfs.core.keys import login_keys
from dfs.core.places import load_conf
from dfs.core.wraps import Stage
from dfs.passwords import Passwords, public_text


def test_a_key_file_is_made_and_never_overwritten(bare_home: Any) -> None:
    (line,) = bare_home.dfs("key", "new")
    path = bare_home.folder / "dfs.key"
    assert path.stat().st_mode & 0o777 == 0o600
    secret = bytes.fromhex(path.read_text().split()[1])
    assert line == f"dfs.key: {public_text(login_keys(secret).public_key)}"
    assert secret.hex() not in bare_home.out + bare_home.err
    bare_home.dfs("key", "new", status=9)
    assert secret.hex() in path.read_text()
    told = bare_home.json("key", "new", "other.key")
    assert told["data"]["file"] == "other.key"


def test_show_shows_the_public_key_and_its_line(home: Any, tmp_path: Path) -> None:
    lines = home.dfs("key", "show")
    public = public_text(login_keys(bytes(range(32))).public_key)
    assert lines[:3] == ["user        odile", "realm       dfs", f"secret      key_file {tmp_path}/key"]
    assert lines[3] == f"public key  {public}"
    assert lines[4] == f"users file  odile {public}"
    assert home.json("key", "show")["data"]["public_key"] == public
    assert bytes(range(32)).hex() not in home.out


def test_a_sheet_goes_to_a_file_of_ones_own_or_to_a_terminal(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.dfs("key", "export", status=2)
    assert "shown on a terminal only" in home.err
    home.dfs("--json", "key", "export", status=2)
    home.dfs("key", "export", "--output", "sheet")
    path = home.folder / "sheet"
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_text()
    home.dfs("key", "export", "--output", "sheet", status=9)
    assert path.read_text() == before
    assert not any(
        line.split()[1] in home.out + home.err for line in before.splitlines() if line[:5] == "    1"
    )


def test_a_sheet_that_opens_nothing_is_removed(home: Any) -> None:
    home.dfs("ls")
    home.kill(2)
    home.dfs("key", "export", "--output", "sheet", status=7)
    assert not (home.folder / "sheet").exists()


def test_recover_takes_a_sheet_or_an_old_password(home: Any) -> None:
    home.dfs("key", "export", "--output", "sheet")
    home.dfs("key", "recover", "--sheet", "sheet", "--old-password", status=2)
    home.dfs("key", "recover", "--sheet", "sheet", status=9)
    home.dfs("key", "recover", status=12)  # no terminal
    home.write("torn", b"1 AAAAA")
    (home.folder / "torn").chmod(0o600)
    home.dfs("key", "recover", "--sheet", "torn", status=2)
    assert "torn: line 1 of the recovery key is missing" in home.err
    (home.folder / "sheet").chmod(0o644)
    home.dfs("key", "recover", "--sheet", "sheet", status=12)


@pytest.mark.parametrize("word", ["new", "show", "export", "recover", "rotate"])
def test_help_has_an_example(bare_home: Any, word: str) -> None:
    assert any(f"Example: dfs key {word}" in line for line in bare_home.dfs("key", word, "--help"))


def test_a_rotation_says_what_it_will_do_and_did(home: Any) -> None:
    home.write("f", bytes(3000))
    home.dfs("put", "f")
    assert home.dfs("key", "rotate", "-n") == []
    assert "plan: 1 file of 1 to seal anew (2.9 KiB), under key generation 2" in home.err
    assert "sheets" not in home.err
    home.dfs("key", "export", "--output", "sheet")
    planned = home.json("key", "rotate", "--dry-run")["data"]["planned"]
    assert planned == {"generation": 2, "files": 1, "bytes": 3000, "total": 1}
    told = home.json("key", "rotate")
    assert told["data"] == {"planned": planned, "generation": 2, "entries": 1, "bytes": 3000, "left": []}
    assert home.dfs("ls") == ["f"]
    home.dfs("key", "export", "--output", "another")
    assert home.dfs("key", "rotate") == ["The vault has key generation 3: all in it is sealed under that."]
    assert "Recovery sheets made before will open nothing any more." in home.err
    assert "Make another one: dfs key export" in home.err
    assert home.dfs("ls") == ["f"]


def test_a_rotation_with_a_node_away_ends_later(home: Any) -> None:
    home.write("f", bytes(3000))
    home.dfs("put", "f")
    home.kill(1)
    home.dfs("key", "rotate", status=3)
    assert "D still keeps what was under the former key" in home.err
    home.dfs("key", "rotate", "-n")
    assert "A rotation was begun before; this goes on with it." in home.err
    assert "plan: to remove what is left under the former key" in home.err
    home.dfs("ls")
    assert (
        "The vault's key is being rotated; if that was cut off, it goes on with: dfs key rotate" in home.err
    )


def test_an_unfinished_rotation_is_given_up(home: Any) -> None:
    home.write("f", bytes(3000))
    home.dfs("put", "f")
    home.dfs("key", "rotate", "--abandon", status=9)
    assert "no rotation is under way" in home.err
    home.dfs("key", "rotate", "--abandon", "-n", status=2)
    with Passwords(load_conf()).rotation() as rotation, suppress(KeyboardInterrupt):
        rotation.run(entered=stop, progress=str)
    assert home.json("key", "rotate", "--abandon")["data"] == {"abandoned": True, "left": []}
    assert home.dfs("ls") == ["f"]
    assert "rotated" not in home.err


def stop(stage: Stage) -> None:
    """As a client that is killed when nobody may write."""
    if stage is Stage.CLOSED:
        raise KeyboardInterrupt
