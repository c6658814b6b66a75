"""`dfs doctor`."""

from typing import Any


def test_all_is_well(home: Any) -> None:
    lines = home.dfs("doctor")
    fine = [line for line in lines if line.startswith("ok ")]
    others = [line for line in lines if line not in fine]
    assert len(others) == 8  # the nodes of this test have a version of their own
    assert all("runs dfs test" in line for line in others[::2])
    assert set(others[1::2]) == {"         fix: run the same version everywhere"}
    assert home.err.endswith(f"0 problems, 4 warnings, {len(fine)} fine\n")
    checks = home.json("doctor")["data"]["checks"]
    assert len(checks) == len(fine) + 4
    assert all(set(check) == {"name", "state", "detail", "fix"} for check in checks)


def test_a_dead_node_is_a_problem_with_its_fix(home: Any) -> None:
    home.dfs("ls")
    home.kill(1)
    lines = home.dfs("doctor", status=3)
    at = next(index for index, line in enumerate(lines) if line.startswith("problem"))
    assert "node D" in lines[at]
    assert lines[at + 1].startswith("         fix: ")
    home.dfs("--no-strict", "doctor")


def test_without_conf_it_says_how_to_make_one(bare_home: Any) -> None:
    lines = bare_home.dfs("doctor", status=3)
    assert lines[-1] == "         fix: dfs init"
    assert bare_home.json("doctor", "--node", status=3)["data"]["checks"][-1]["state"] == "problem"
