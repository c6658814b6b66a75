"""Environment and flags over a conf, key by key."""

from collections.abc import Mapping

import pytest
from hypothesis import given, strategies as st

from dfs.core.conf import ClientConf, NodeConf, apply_environment, apply_flags, parse_client
from dfs.core.errors import ConfigError, PasswordInEnvironmentError

SMALL = 'format = 1\n[[node]]\nname = "a"\naddress = "a:1"\n'


def client(text: str) -> ClientConf:
    return parse_client(text.encode(), "c.toml")


def test_flag_beats_variable_beats_file() -> None:
    conf = client('cluster = "file"\nrealm = "file"\njobs = 1\n' + SMALL)
    conf = apply_environment(conf, {"DFS_CLUSTER": "env", "DFS_REALM": "env", "DFS_USER": "", "DFS_HUH": "x"})
    conf = apply_flags(conf, {"cluster": "flag", "user": None})
    assert (conf.cluster, conf.realm, conf.jobs, conf.user) == ("flag", "env", 1, None)
    assert [conf.origins[key] for key in ("cluster", "realm", "jobs")] == [
        "--cluster",
        "DFS_REALM",
        "c.toml:3",
    ]


def test_client_variables() -> None:
    environ = {
        "DFS_GEOMETRY": "2 of 4",
        "DFS_PASSWORD_COMMAND": "pass show 'my dfs'",
        "DFS_ALLOW_INSECURE": "xor,rot13",
        "DFS_PLUGINS_ALLOW": "a b",
        "DFS_PLUGIN_ZSTD_LEVEL": "19",
        "DFS_PLUGIN_REED_SOLOMON_TABLE_SIZE": "8",
        "DFS_PLUGIN_OTHER_X_Y": "z",
        "DFS_PLUGIN_ODD": "ignored",
        "DFS_CONNECT_TIMEOUT": "2 s",
        "DFS_LIMIT_UP": "1 MiB/s",
        "DFS_JOBS": "5",
        "DFS_STRICT": "yes",
        "NO_COLOR": "1",
    }
    conf = apply_environment(client(SMALL + "[plugin.zstd]\nlong = true"), environ)
    assert (conf.geometry_needed, conf.geometry_total) == (2, 4)
    assert conf.password_command == ("pass", "show", "my dfs")
    assert (conf.allow_insecure, conf.plugins_allow) == (("xor", "rot13"), ("a", "b"))
    assert conf.plugins == {
        "zstd": {"long": "true", "level": "19"},
        "reed-solomon": {"table_size": "8"},
        "other": {"x_y": "z"},
    }
    assert conf.origins["plugin.zstd.level"] == "DFS_PLUGIN_ZSTD_LEVEL"
    assert (conf.connect_timeout, conf.limit_up, conf.jobs, conf.strict) == (2.0, 1 << 20, 5, True)
    assert (conf.color, conf.origins["color"]) == ("off", "NO_COLOR")


def test_node_variables() -> None:
    environ = {
        "DFS_DIR": "/srv/dfs",
        "DFS_PORT": "0",
        "DFS_QUOTA": "1 TiB",
        "DFS_LOG_LEVEL": "error",
        "DFS_ZONE": "x",
    }
    conf = apply_environment(NodeConf(), environ)
    assert (conf.dir, conf.port, conf.quota, conf.log_level, conf.zone) == (
        "/srv/dfs",
        0,
        1 << 40,
        "error",
        "x",
    )


@pytest.mark.parametrize("value", ["hunter2", ""])
def test_a_password_in_the_environment_is_refused(value: str) -> None:
    with pytest.raises(PasswordInEnvironmentError) as caught:
        apply_environment(ClientConf(), {"DFS_PASSWORD": value})
    assert "hunter2" not in caught.value.line


@pytest.mark.parametrize(
    ("environ", "reasons"),
    [
        ({"DFS_JOBS": "many"}, "DFS_JOBS: expected a whole number"),
        ({"DFS_GEOMETRY": "2/4"}, "DFS_GEOMETRY: expected a geometry such as '2 of 4'"),
        ({"DFS_GEOMETRY": "0 of 4"}, "DFS_GEOMETRY: out of range, 1 to 16"),
        ({"DFS_GEOMETRY": "5 of 4"}, "DFS_GEOMETRY: 5 shares cannot be needed of 4"),
        ({"DFS_PASSWORD_COMMAND": "pass 'hunter2"}, "DFS_PASSWORD_COMMAND: a quote stays open"),
        ({"DFS_USER": "a/b"}, "DFS_USER: bad user name"),
        (
            {"DFS_KEY_FILE": "k", "DFS_KEYRING": "1"},
            "DFS_KEY_FILE and DFS_KEYRING: only one of them may be given",
        ),
        (
            {"DFS_TRUST": "hunter2", "DFS_JOBS": "-1"},
            "DFS_TRUST: expected one of 'pin', 'first-use'\nDFS_JOBS: out of",
        ),
    ],
)
def test_bad_variable(environ: Mapping[str, str], reasons: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_environment(ClientConf(), environ)
    assert caught.value.what.startswith(reasons)


def test_a_password_source_from_above_replaces_the_one_of_the_file() -> None:
    conf = client('key_file = "k"\n' + SMALL)
    conf = apply_environment(conf, {"DFS_PASSWORD_FILE": "p"})
    assert (conf.key_file, conf.password_file) == (None, "p")
    assert "key_file" not in conf.origins
    conf = apply_flags(conf, {"keyring": True})
    assert (conf.password_file, conf.keyring) == (None, True)
    assert apply_environment(conf, {"DFS_KEYRING": "no", "DFS_KEY_FILE": "k"}).key_file == "k"


def test_flags() -> None:
    flags = {
        "geometry": "1 of 2",
        "jobs": 4,
        "strict": False,
        "request_timeout": "5 s",
        "allow_insecure": ("xor",),
    }
    conf = apply_flags(ClientConf(), flags)
    assert (conf.geometry_needed, conf.geometry_total, conf.jobs, conf.strict) == (1, 2, 4, False)
    assert (conf.request_timeout, conf.allow_insecure) == (5.0, ("xor",))
    with pytest.raises(ConfigError, match=r"^--request-timeout: expected a duration"):
        apply_flags(ClientConf(), {"request_timeout": 5})
    with pytest.raises(ConfigError, match=r"^--geometry: there is no such setting$"):
        apply_flags(NodeConf(), {"geometry": "1 of 2"})


def test_geometry_of_flag_and_file_must_fit() -> None:
    conf = client(SMALL + "[geometry]\nneeded = 3")
    with pytest.raises(ConfigError, match=r"^c.toml:6: 3 shares cannot be needed of 2$"):
        apply_flags(conf, {"geometry_total": 2})


@given(
    st.dictionaries(
        st.sampled_from(["DFS_JOBS", "DFS_PORT", "DFS_USER", "DFS_QUOTA", "DFS_PLUGIN_A_B"]), st.text()
    )
)
def test_any_variable_gives_a_conf_or_its_reason(environ: Mapping[str, str]) -> None:
    for conf in (ClientConf(), NodeConf()):
        try:
            apply_environment(conf, environ)
        except ConfigError as error:
            fault = error
        else:
            continue
        assert fault.what.startswith("DFS_")
