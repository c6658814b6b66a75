"""`dfs bench`."""

from typing import Any


def test_stages_and_disk_without_any_conf(bare_home: Any) -> None:
    rows = bare_home.json("bench", "--seconds", "0.01")["data"]["rows"]
    assert [row["what"].split()[0] for row in rows] == [
        *("name", "pack", "seal", "open", "encode", "decode", "disk", "disk")
    ]
    assert all(row["mb_per_s"] > 0 and row["cpu_s_per_gib"] >= 0 for row in rows)
    assert list(bare_home.folder.iterdir()) == []


def test_the_cluster_and_nothing_left_there(home: Any) -> None:
    lines = home.dfs("--cipher", "chacha20-poly1305", "bench", "--net", "--seconds", "0.01")
    assert any("seal (chacha20-poly1305)" in line for line in lines)
    assert [line.split()[0] for line in lines[-3:]] == ["put", "get", "jobs"]
    assert home.dfs("ls") == []


def test_a_folder_that_is_not_there(bare_home: Any) -> None:
    bare_home.dfs("bench", "--seconds", "0.01", "--disk", "gone", status=2)
    assert "gone: No such file" in bare_home.err
