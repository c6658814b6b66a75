"""A users file changed: what a change means and nothing else, in any form and with any ends of lines."""

import base64
import itertools

import pytest
from hypothesis import given, strategies as st

from dfs.core.classic import UserRecord, read_users
from dfs.core.errors import ConfigError, ConflictError, NotFoundError
from dfs.core.users_file import UsersFile, fingerprint, key_line, parse_key, record_of

KEY = bytes(range(32))
KEY_TEXT = f"ed25519:{base64.b64encode(KEY).decode()}"
FORMS = {
    "tom": f"tom {KEY_TEXT} quota=5GiB",
    "ann": "ann = a b c",
    "ida": "Username: ida\nPassword: secret",
    "eve": "user eve pass secret",
    "joe": "joe:secret",
    "Jo Ann": f"User Jo Ann\n// between\nPasswd {KEY_TEXT} role=healer",
}


def parsed(text: str) -> UsersFile:
    return UsersFile.parse(text.encode(), "users")


def names(file: UsersFile) -> list[str]:
    return [record.name for record in file.records]


def test_a_user_comes_to_the_end_also_after_a_line_without_one() -> None:
    for text in ("", "# ours", "# ours\n", "tom:x"):
        file = parsed(text).added(UserRecord("zoe", public_key=KEY, quota=3 << 30))
        ended = f"{text}\n" if text and not text.endswith("\n") else text
        assert file.raw.decode() == f"{ended}zoe {KEY_TEXT} quota=3GiB\n"
    assert parsed("tom:x\r\n").added(UserRecord("zoe", public_key=KEY)).raw.endswith(b"=\r\n")


def test_no_name_comes_twice_and_none_that_no_line_can_say() -> None:
    file = parsed("tom:x\n")
    with pytest.raises(ConflictError):
        file.added(UserRecord("tom", public_key=KEY))
    for name in ("", "a/b", "a:b", "a\nb", "#a", " a", "\ud800"):
        with pytest.raises(ConfigError):
            file.added(UserRecord(name, public_key=KEY))


def test_an_unknown_name_is_told_with_those_it_might_be() -> None:
    file = parsed("Tom:x\ntim:x\nodile:x\n")
    with pytest.raises(NotFoundError) as caught:
        file.removed("tom")
    assert caught.value.next_step == "Did you mean Tom or tim?"
    with pytest.raises(NotFoundError) as caught:
        file.removed("zzz")
    assert caught.value.next_step == "See: dfs user list --users users"


def test_lines_with_a_password_take_no_settings() -> None:
    file = parsed("tom:x")
    with pytest.raises(ConflictError) as caught:
        file.with_quota("tom", 1)
    assert caught.value.next_step == "Convert it first: dfs user convert --users users"
    with pytest.raises(ConflictError):
        file.with_role("tom", "user")


@given(
    order=st.permutations(sorted(FORMS)),
    gaps=st.lists(st.sampled_from(["", "# a note", "; x y", "[section]", "17"]), min_size=7, max_size=7),
    end=st.sampled_from(["\n", "\r\n"]),
    ended=st.booleans(),
    changed=st.sampled_from(sorted(FORMS)),
)
def test_any_change_leaves_all_other_lines(
    order: list[str], gaps: list[str], end: str, ended: bool, changed: str
) -> None:
    rows = list(itertools.chain(*zip(gaps, (FORMS[name] for name in order), strict=False), gaps[-1:]))
    text = "\n".join(rows).replace("\n", end) + (end if ended else "")
    file = parsed(text)
    assert names(file) == order
    own = FORMS[changed].replace("// between\n", "").split("\n")
    others = [line for line in text.split(end) if line not in own]

    removed = file.removed(changed)
    assert names(removed) == [name for name in order if name != changed]
    assert removed.raw.decode().split(end) in (others, [*others, ""], others[:-1])

    passwords = {record.name for record in file.records if record.password is not None}
    keyed = file.with_keys(dict.fromkeys(passwords, KEY))
    assert names(keyed) == order
    assert all(record.public_key == KEY for record in keyed.records)
    assert all(line in keyed.raw.decode().split(end) for line in (FORMS["tom"], *gaps))
    assert keyed.with_quota(changed, 7).record(changed).quota == 7
    healed = keyed.with_role(changed, "healer")
    assert [record.role for record in healed.records if record.name == changed] == ["healer"]
    assert read_users(healed.raw, "users").entries == healed.records


def test_what_is_shown_holds_no_password() -> None:
    file = parsed("\n".join(FORMS.values()))
    shown = file.shown()
    assert "secret" not in shown
    assert "a b c" not in shown
    assert shown.count("********") == 4
    assert "secret" not in file.diff(file.with_keys(dict.fromkeys(["ann", "ida", "eve", "joe"], KEY)))
    assert file.diff(file) == ""


def test_comments_that_repeat_a_password_are_found() -> None:
    file = parsed("# of tom: secret\ntom secret\n; nothing\n[secret]\n")
    assert file.comments_with(["secret"]) == [1, 4]
    assert file.comments_with([]) == []


def test_keys_are_read_as_people_copy_them() -> None:
    assert parse_key(KEY_TEXT) == KEY
    assert parse_key(f"tom {KEY_TEXT} quota=1GiB") == KEY
    for text in ("", "ed25519:", "AAAA", KEY_TEXT[:-4], f"{KEY_TEXT} {KEY_TEXT}"):
        with pytest.raises(ConfigError):
            parse_key(text)
    assert fingerprint(KEY) == "SHA256:630dcd2966c43366"
    assert key_line(record_of("tom", KEY, None, "user")) == KEY_TEXT
    assert key_line(UserRecord("tom", password="x")) == ""
