"""`dfs passwd`: what it says and how it ends."""

from pathlib import Path
from typing import Any


def new_key(home: Any) -> str:
    home.dfs("key", "new", "new.key")
    return "new.key"


def use(home: Any, path: str) -> None:
    text = Path("dfs.toml").read_text().splitlines()
    rows = [f'key_file = "{path}"' if row.startswith("key_file") else row for row in text]
    home.write("dfs.toml", "\n".join(rows).encode())


def test_it_names_who_knows_and_who_owes(home: Any) -> None:
    home.dfs("ls")
    key = new_key(home)
    home.kill(1)
    told = home.json("passwd", "--new-key-file", key, status=3)
    assert told["data"] == {"acknowledged": ["A", "B", "C"], "owed": ["D"]}
    assert "D still owes the new password" in told["warnings"][-1]["text"]
    use(home, key)
    home.dfs("ls")


def test_people_are_told_what_is_left_to_do(home: Any) -> None:
    home.dfs("ls")
    (line,) = home.dfs("passwd", "--new-key-file", new_key(home))
    assert line == "The key file new.key is the login now; the old one opens nothing any more."
    assert "users file (dfs key show)" in home.err
    home.dfs("ls", status=12)


def test_the_old_one_again_is_refused(home: Any, tmp_path: Path) -> None:
    home.dfs("ls")
    home.dfs("passwd", "--new-key-file", str(tmp_path / "key"), status=2)
    assert "the new password is the old one" in home.err


def test_without_terminal_and_file_it_ends_at_once(home: Any) -> None:
    home.dfs("passwd", status=12)
    home.dfs("ls")


def test_help_has_an_example(bare_home: Any) -> None:
    assert any("Example: dfs passwd" in line for line in bare_home.dfs("passwd", "--help"))
