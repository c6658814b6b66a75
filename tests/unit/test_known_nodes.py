"""The file of known nodes: what is learned comes back, and no damaged line becomes a pin."""

from pathlib import Path

from dfs.core.credentials import KnownNodes

DIGEST = bytes(range(32))


def test_what_is_learned_comes_back_sorted(tmp_path: Path) -> None:
    known = KnownNodes(tmp_path / "state" / "known_nodes")
    assert known.load() == {}
    known.learn("b:2", DIGEST)
    known.learn("[::1]:1", DIGEST[::-1])
    assert known.load() == {"b:2": DIGEST, "[::1]:1": DIGEST[::-1]}
    assert known.path.read_text() == f"[::1]:1 SHA256:{DIGEST[::-1].hex()}\nb:2 SHA256:{DIGEST.hex()}\n"
    known.forget("b:2")
    known.forget("c:3")
    assert list(known.load()) == ["[::1]:1"]


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    """An empty pin would make a node look replaced."""
    path = tmp_path / "known_nodes"
    good = f"a:1 SHA256:{DIGEST.hex()}"
    path.write_text(
        f"# note\n\na:2\na:3 SHA256:\na:4 SHA256:{DIGEST.hex()[:-2]}\na:5 SHA256:{'zz' * 32}\n{good}\n"
    )
    assert KnownNodes(path).load() == {"a:1": DIGEST}
