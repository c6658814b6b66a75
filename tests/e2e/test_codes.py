"""Every error code is met for real: here by real commands on real nodes, or in a test that is named.

`dfs explain` explains exactly these codes (tests/unit/test_explanations.py).
"""

import ast
import random
import socket
import threading
from pathlib import Path
from typing import Any, Final

import pytest

from dfs.core import messages
from dfs.core.explanations import EXPLANATIONS
from dfs.core.node import Answer
from dfs.testing.lying import Truth, beguile
from tests.e2e.test_lying import Town, town as town

HERE: Final = "tests/e2e/test_codes.py"
ERRORS: Final = "tests/e2e/test_errors.py"
ROOT: Final = Path(__file__).parents[2]

# Where each code is provoked: the test has the code in its text.
PROVOKED: Final = {
    "DFS-E101": f"{ERRORS}::test_secrets_and_users",
    "DFS-E102": f"{ERRORS}::test_secrets_and_users",
    "DFS-E121": f"{ERRORS}::test_secrets_and_users",
    "DFS-E131": f"{ERRORS}::test_a_node_with_another_certificate_is_left_out_and_named",
    "DFS-E132": f"{HERE}::test_lines_and_confs",
    "DFS-E133": f"{ERRORS}::test_secrets_and_users",
    "DFS-E134": "tests/e2e/test_door.py::test_an_authority_vouches_for_both_sides",
    "DFS-E201": f"{ERRORS}::test_confs",
    "DFS-E202": f"{HERE}::test_lines_and_confs",
    "DFS-E203": f"{ERRORS}::test_confs",
    "DFS-E204": f"{HERE}::test_lines_and_confs",
    "DFS-E205": f"{ERRORS}::test_secrets_and_users",
    "DFS-E301": f"{HERE}::test_dead_nodes",
    "DFS-E302": f"{HERE}::test_dead_nodes",
    "DFS-E304": f"{HERE}::test_dead_nodes",
    "DFS-E401": f"{HERE}::test_dead_nodes",
    "DFS-E402": f"{HERE}::test_rotten_shares",
    "DFS-E404": f"{HERE}::test_paths",
    "DFS-E405": "tests/e2e/test_lying.py::test_a_client_is_not_taken_back_by_all_nodes_together",
    "DFS-E409": f"{HERE}::test_paths",
    "DFS-E501": f"{ERRORS}::test_confs",
    "DFS-E502": "tests/e2e/test_third_party.py::test_bad_packages_give_the_named_error",
    "DFS-E503": "tests/e2e/test_third_party.py::test_bad_packages_give_the_named_error",
    "DFS-E504": "tests/e2e/test_third_party.py::test_bad_packages_give_the_named_error",
    "DFS-E505": "tests/e2e/test_third_party.py::test_bad_packages_give_the_named_error",
    "DFS-E601": f"{HERE}::test_no_room",
    "DFS-E602": "tests/e2e/test_quotas.py::test_a_quota_refuses_and_can_be_raised",
    "DFS-E603": f"{ERRORS}::test_nodes_that_do_not_start",
    "DFS-E604": f"{ERRORS}::test_nodes_that_do_not_start",
    "DFS-E605": f"{HERE}::test_broken_disks",
    "DFS-E303": f"{HERE}::test_nodes_that_break_off_in_the_middle",
    "DFS-E305": f"{HERE}::test_a_hung_node",
    "DFS-E900": f"{HERE}::test_a_bug",
}


# What no command ends by: it stands in the reason of another code.
ONLY_IN_REASONS: Final = {
    "DFS-E510": "with strangers at all addresses no node answers: E302, and the reason says what they speak",
    "DFS-E403": "an entry that is not authentic is no answer: too few others are E302, the liar is named",
    "DFS-E306": "one node of several does not take part: the command ends by E301, E302 or well",
}


def told(ended: Any, code: str) -> None:
    text = ended.stderr.decode()
    assert f"({code})" in text, text


def toml(cluster: Any, more: str, name: str = "other.toml") -> Path:
    rows = "".join(f'[[node]]\nname = "{node.name}"\naddress = "{node.address}"\n' for node in cluster.nodes)
    secret = cluster.folder / "secret"
    secret.write_text("white rabbit\n")
    secret.chmod(0o600)
    path: Path = cluster.folder / name
    path.write_text(f'format = 1\nuser = "Alice"\npassword_file = "{secret}"\n{more}\n{rows}')
    return path


def test_lines_and_confs(cluster: Any) -> None:
    told(cluster.dfs("put", status=2), "DFS-E202")
    told(cluster.dfs("ls", conf=toml(cluster, 'trust = "pin"'), status=13), "DFS-E132")
    file = str(cluster.file("f", b"x" * 5000))
    told(cluster.dfs("--cipher", "xor", "put", file, status=2), "DFS-E204")


def test_paths(cluster: Any) -> None:
    told(cluster.dfs("get", "unheard", status=4), "DFS-E404")
    cluster.dfs("mkdir", "box")
    told(cluster.dfs("mkdir", "box", status=9), "DFS-E409")


def test_dead_nodes(cluster: Any) -> None:
    cluster.dfs("put", str(cluster.file("f", random.Random(1).randbytes(300_000))))
    cluster.nodes[0].kill()
    told(cluster.dfs("put", str(cluster.file("g", b"y" * 5000)), status=3), "DFS-E301")
    cluster.nodes[1].kill()
    told(cluster.dfs("ls"), "DFS-E304")
    told(cluster.dfs("put", str(cluster.file("h", b"z")), status=7), "DFS-E302")
    cluster.nodes[2].kill()
    told(cluster.dfs("get", "f", status=5), "DFS-E401")


def test_rotten_shares(cluster: Any) -> None:
    cluster.dfs("put", str(cluster.file("f", random.Random(1).randbytes(1_000_000))))
    for node in cluster.nodes[:3]:
        node.kill()
        (volume,) = node.directory.rglob("*.vol")
        content = bytearray(volume.read_bytes())
        for place in range(len(content) // 4, len(content), 97):
            content[place] ^= 0x40
        volume.write_bytes(content)
        node.start()
    told(cluster.dfs("get", "f", status=6), "DFS-E402")


def test_strangers_at_the_address(cluster: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        conf = cluster.folder / "stranger.conf"
        conf.write_text(f"Server A 127.0.0.1:{port}\nUsername: Alice\nPassword: white rabbit\n")
        conf.chmod(0o600)

        def answer() -> None:
            connection, _ = stranger.accept()
            with connection:
                connection.recv(10)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4)

        thread = threading.Thread(target=answer)
        thread.start()
        ended = cluster.dfs("--transport", "tcp", "ls", conf=conf, status=7)
        told(ended, "DFS-E302")
        assert b"does not speak the dfs protocol" in ended.stderr
        thread.join()


def test_no_room(make_cluster: Any, environment: dict[str, str]) -> None:
    environment["DFS_RESERVE"] = "1024 PiB"
    cluster = make_cluster(1)
    told(cluster.dfs("put", str(cluster.file("f", b"x" * 300_000)), status=8), "DFS-E601")


def test_broken_disks(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    told(cluster.dfs("serve", "--dir", str(tmp_path / "file"), "--port", "0", status=7), "DFS-E605")
    cluster.dfs("put", str(cluster.file("f", b"x")))
    node = cluster.nodes[3]
    node.kill()
    (rows,) = node.directory.rglob("vault.db")
    for path in rows.parent.glob("vault.db*"):
        path.write_bytes(b"no database" * 1000)
    node.start()
    told(cluster.dfs("replace", "DFS4", "-y", status=7), "DFS-E605")


def test_a_hung_node(cluster: Any) -> None:
    cluster.dfs("put", str(cluster.file("f", b"x")))
    cluster.nodes[3].freeze()
    told(cluster.dfs("replace", "DFS4", "-y", status=7), "DFS-E305")


def test_nodes_that_break_off_in_the_middle(town: Town) -> None:
    ended = threading.Event()

    def silent(request: messages.Request, truth: Truth) -> Answer:
        if isinstance(request, messages.Accept):
            ended.wait()
        return truth()

    for node in town.nodes[:2]:  # of four, so that a write has no quorum
        beguile(node.server, silent)
    try:
        town.dfs("--timeout", "1 s", "put", "big", "--to", "new", status=14)
        assert "(DFS-E303)" in town.err
    finally:
        ended.set()


def test_a_bug(cluster: Any) -> None:
    plugin = cluster.folder / "broken.py"
    plugin.write_text(
        "import click\n"
        "from dfs.core.api import CommandPlugin, hookimpl\n"
        "DFS_API_VERSION = 1\n"
        "@click.command('broken')\n"
        "def broken(): raise RuntimeError('out of luck')\n"
        "@hookimpl\n"
        "def dfs_commands():\n"
        "    return (CommandPlugin(name='broken', summary='fails', make=lambda options: broken),)\n"
    )
    told(cluster.dfs("--plugin", str(plugin), "broken", status=1), "DFS-E900")


# --- That it is all of them ---------------------------------------------------------------------------------


def test_no_code_is_left_out() -> None:
    assert sorted({*PROVOKED, *ONLY_IN_REASONS}) == sorted(EXPLANATIONS)
    assert not PROVOKED.keys() & ONLY_IN_REASONS.keys()


@pytest.mark.parametrize(("code", "place"), PROVOKED.items(), ids=list(PROVOKED))
def test_the_named_test_looks_for_the_code(code: str, place: str) -> None:
    file, _, name = place.partition("::")
    text = (ROOT / file).read_text()
    functions = [each for each in ast.parse(text).body if isinstance(each, ast.FunctionDef)]
    (function,) = [each for each in functions if each.name == name]
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    assert any(code in line for line in text.splitlines()[first - 1 : function.end_lineno])
