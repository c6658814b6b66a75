"""Golden bytes: every stored and sent format as docs/formats.md describes it, frozen with fixed inputs.

A file in tests/golden holds cases (inputs and what comes out) and bytes that must be refused, each with the
class of the error. In them bytes are text that starts with "0x". A value that changes here breaks every vault
and every node there is: make a new format version instead.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from xxhash import xxh3_128_digest

from dfs.core import (
    bulk_rows,
    encoding,
    errors,
    keys,
    limits,
    manifest,
    messages,
    pipeline,
    register,
    roster,
    sheets,
    wire,
    wraps,
)
from dfs.core.api import CodeOptions, Options, PlacementOptions
from dfs.core.auth import (
    Rekeyed,
    decode_rekeyed,
    encode_rekeyed,
    sign_login,
    sign_rekey,
    verify_login,
    verify_rekey,
)
from dfs.core.floors import decode_floors, encode_floors
from dfs.core.keys import KdfParameters, VaultKeys
from dfs.core.messages import CLASSES, MESSAGES, shape_of
from dfs.core.pipeline import Packer, Slot, Stages
from dfs.core.types import (
    Ballot,
    ChunkId,
    DirectoryId,
    EntryKind,
    Geometry,
    NameId,
    NodeId,
    Plain,
    Recipe,
    RegisterKey,
    RegisterRow,
    ShareKey,
    StripeId,
)
from dfs.core.wire import Mark, Role
from dfs.plugins import (
    aes_gcm,
    chacha20_poly1305,
    none,
    reed_solomon,
    rendezvous,
    replicate,
    ring,
    split,
    xor,
)
from dfs.plugins.volumes import (
    directory as volume_directory,
    files as volume_files,
    packing as volume_packing,
)
from dfs.plugins.volumes.bucket import objects, snapshots

FOLDER = Path(__file__).parents[1] / "golden"
Fields: TypeAlias = Mapping[str, Any]
SIZE_MAX = limits.BULK_SIZE_MAX


# --- Bytes in JSON ------------------------------------------------------------------------------------------


def thaw(value: Any) -> Any:
    """Turn "0x…" into bytes, everywhere in a JSON value."""
    if isinstance(value, str) and value.startswith("0x"):
        return bytes.fromhex(value[2:])
    if isinstance(value, list):
        return [thaw(item) for item in value]
    return {name: thaw(item) for name, item in value.items()} if isinstance(value, dict) else value


def freeze(value: Any) -> Any:
    """Turn bytes into "0x…"."""
    if isinstance(value, bytes | bytearray | memoryview):
        return "0x" + bytes(value).hex()
    if isinstance(value, list | tuple):
        return [freeze(item) for item in value]
    return {name: freeze(item) for name, item in value.items()} if isinstance(value, dict) else value


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return content


# --- keys.json ----------------------------------------------------------------------------------------------


def kdf_of(fields: Fields) -> KdfParameters:
    return KdfParameters(fields["memory_size"], fields["passes"], fields["lanes"])


def secret(fields: Fields) -> Fields:
    password = fields["password"].encode()
    return {"secret": keys.password_secret(password, fields["realm"], fields["user"], kdf_of(fields))}


def login(fields: Fields) -> Fields:
    made = keys.login_keys(fields["secret"])
    return {"seed": made.seed, "kek": made.kek, "public_key": made.public_key}


def vault(fields: Fields) -> Fields:
    made = keys.vault_keys(fields["master"])
    labels = ("identity", "stripe", "chunk", "entry", "name", "floor", "confirm")
    return {label: getattr(made, label) for label in labels}


def wrap(fields: Fields) -> Fields:
    owner = (fields["realm"], fields["user"], kdf_of(fields))
    made = keys.wrap_master(fields["master"], fields["kek"], fields["nonce"], *owner)
    assert keys.unwrap_master(made, fields["kek"], *owner) == fields["master"]
    return {"wrap": made}


def ringed_wrap(fields: Fields) -> Fields:
    owner = (fields["realm"], fields["user"], kdf_of(fields))
    kin = tuple(wraps.Kin(*each) for each in fields["kin"])
    turn = wraps.Turn(wraps.Stage(fields["turn"][0]), *fields["turn"][1:]) if fields.get("turn") else None
    further, number = tuple(fields["further"]), fields.get("generation", 1)
    ring = wraps.Ring(fields["epoch"], kin, further, number, turn)
    made = wraps.seal_wrap(fields["master"], ring, fields["kek"], fields["nonce"], owner)
    assert wraps.open_wrapped(made, fields["kek"], owner) == (fields["master"], ring)
    return {"wrap": made, "name": wraps.wrap_register(fields["kek"]).name}


def rekey(fields: Fields) -> Fields:
    names = ("realm", "user", "node_id", "old", "new", "epoch")
    statement: Any = {name: fields[name] for name in names}
    signature = sign_rekey(fields["seed"], **statement)
    assert verify_rekey(signature, **statement)
    return {"signature": signature}


def rekeyed(fields: Fields) -> Fields:
    kept = Rekeyed(fields["line"], fields["epoch"], fields["public_key"], fields["former"])
    encoded = encode_rekeyed(kept)
    assert decode_rekeyed(encoded) == kept
    return {"rekeyed": encoded}


def recovery_sheet(fields: Fields) -> Fields:
    lines = sheets.sheet_lines(fields["secret"])
    assert sheets.read_sheet("\n".join(lines), "sheet") == fields["secret"]
    return {"lines": lines}


def proof(fields: Fields) -> Fields:
    names = ("realm", "user", "node_id", "client_nonce", "node_nonce", "channel_binding")
    statement: Any = {name: fields[name] for name in names}
    signature = sign_login(fields["seed"], **statement)
    assert verify_login(fields["public_key"], signature, **statement)
    return {"signature": signature}


# --- names.json ---------------------------------------------------------------------------------------------


def vault_of(fields: Fields) -> VaultKeys:
    return keys.vault_keys(fields["master"])


def chunk(fields: Fields) -> Fields:
    owner, geometry = vault_of(fields), Geometry(fields["needed"], fields["total"])
    chunk_id = keys.chunk_id(owner, fields["codec"], fields["packed"])
    return {
        "chunk_id": chunk_id,
        "chunk_key": keys.chunk_key(owner, chunk_id, fields["cipher"], fields["key_size"]),
        "stripe_id": keys.stripe_id(owner, chunk_id, fields["cipher"], fields["code"], geometry),
    }


def path(fields: Fields) -> Fields:
    key = keys.register_key(vault_of(fields), fields["path"])
    return {"directory": key.directory, "name": key.name}


def register_of(fields: Fields) -> RegisterKey:
    return RegisterKey(DirectoryId(fields["directory"]), NameId(fields["name"]))


def digests(fields: Fields) -> Fields:
    claim_set = register.claim_set_digest(fields["claims"])
    digest = register.value_digest(fields["value"], claim_set)
    ballot = register.make_ballot(fields["counter"], fields["attempt"])
    tag = keys.confirm_tag(vault_of(fields), register_of(fields), ballot, digest)
    return {"claim_set": claim_set, "digest": digest, "ballot": ballot, "confirm_tag": tag}


# --- entries.json -------------------------------------------------------------------------------------------


def entry(fields: Fields) -> Fields:
    encoded = encoding.encode(fields["entry"])
    decoded = manifest.decode_entry(encoded)
    assert manifest.encode_entry(decoded) == encoded
    place, ballot = register_of(fields), Ballot(fields["ballot"])
    value = manifest.seal_entry(fields["key"], fields["nonce"], decoded, place, ballot)
    assert manifest.open_entry(fields["key"], place, RegisterRow(ballot, ballot, value)) == decoded
    assert value[0] == decoded.kind in EntryKind
    return {"encoded": encoded, "value": value}


def chunk_list(fields: Fields) -> Fields:
    encoded = b"".join(map(encoding.encode, fields["chunks"]))
    chunks = manifest.decode_chunks(encoded)
    assert manifest.encode_chunks(chunks) == encoded
    return {"encoded": encoded, "digest": manifest.chunks_digest(chunks)}


# --- rosters.json -------------------------------------------------------------------------------------------


def nodes(fields: Fields) -> Fields:
    encoded = encoding.encode(fields["roster"])
    decoded = roster.decode_roster(encoded)
    assert roster.encode_roster(decoded) == encoded
    directory = DirectoryId(fields["directory"])
    ranked = [decoded.nodes.index(node) for node in roster.rank(directory, decoded.nodes)]
    group = roster.group_of(decoded, directory)
    return {"encoded": encoded, "digest": roster.roster_digest(encoded), "ranked": ranked, "group": group}


# --- frames.json --------------------------------------------------------------------------------------------


def frame(fields: Fields) -> Fields:
    """Return header and control body of the frame of a message."""
    role, code, request_id = Role[fields["role"]], fields["code"], fields["request_id"]
    request, reply = MESSAGES[code]
    cls = {Role.REQUEST: request, Role.REPLY: reply, Role.ERROR: messages.ErrorReply}[role]
    assert cls.__name__ == fields["class"]
    control = encoding.encode(fields["control"])
    what: dict[str, Any] = {"what": "it", "error": errors.ProtocolError, "size_max": SIZE_MAX}
    message: Any = encoding.decode(control, shape_of(cls), **what)
    mark, bulk = Mark(*fields.get("mark", (0, 0))), [fields.get("bulk", b"")]
    if role is Role.REQUEST:
        raw = wire.encode_request(message, request_id, bulk)
    elif isinstance(message, messages.FetchReply):
        raw = wire.encode_fetch_reply(request_id, message, mark)
    elif role is Role.REPLY:
        raw = wire.encode_reply(code, request_id, message, mark, bulk)
    else:
        raw = wire.encode_error(code, request_id, wire.fault_of(message))
    header = wire.decode_header(raw[: limits.HEADER_SIZE])
    assert wire.decode_control(header, raw[limits.HEADER_SIZE :]) == (message, mark)
    return {"frame": raw}


ROWS: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], bytes]]] = {
    "states": (bulk_rows.decode_states, bulk_rows.encode_states),
    "listed": (bulk_rows.decode_listed, bulk_rows.encode_listed),
    "promises": (bulk_rows.decode_promises, bulk_rows.encode_promises),
    "accepts": (bulk_rows.decode_accepts, bulk_rows.encode_accepts),
    "replays": (bulk_rows.decode_replays, bulk_rows.encode_replays),
    "lacking": (bulk_rows.decode_lacking, bulk_rows.encode_lacking),
    "claims": (bulk_rows.decode_claims, lambda claims: b"".join(map(bulk_rows.encode_claim, claims))),
}


def row_bulk(fields: Fields) -> Fields:
    decode, encode = ROWS[fields["kind"]]
    run = fields["kind"] == "claims"
    bulk = b"".join(map(encoding.encode, fields["rows"])) if run else encoding.encode(fields["rows"])
    assert encode(decode(bulk)) == bulk
    return {"bulk": bulk}


def listed_digest(fields: Fields) -> Fields:
    """Return what a node tells of these rows where another one has told them."""
    return {"digest": bulk_rows.listed_digest((encoding.encode(fields["rows"]),))}


# --- shares.json --------------------------------------------------------------------------------------------

CIPHERS = {"aes-gcm": aes_gcm, "chacha20-poly1305": chacha20_poly1305, "xor": xor}
CODES = {"reed-solomon": reed_solomon, "split": split, "replicate": replicate}
PLACEMENTS = {"rendezvous": rendezvous, "ring": ring}


def shares(fields: Fields) -> Fields:
    """Return what becomes of one chunk that is kept plain, and where its shares go."""
    geometry, cipher = Geometry(fields["needed"], fields["total"]), fields["cipher"]
    code, placement = fields["code"], fields["placement"]
    recipe = Recipe(f"dfs:{cipher}@1", "dfs:none@1", f"dfs:{code}@1", f"dfs:{placement}@1", geometry)
    stages = Stages(
        recipe=recipe,
        cipher=CIPHERS[cipher].make(Options()),
        code=CODES[code].make(CodeOptions(geometry=geometry)),
        placement=PLACEMENTS[placement].make(PlacementOptions(rank=roster.rank)),
        packer=Packer(lambda: none.make(Options()), 0),
    )
    owner, plain = vault_of(fields), Plain(memoryview(fields["plain"]))
    stripe = pipeline.make_stripe(stages, owner, Slot(), plain)
    members = roster.decode_roster(encoding.encode(fields["roster"])).nodes
    facts = stages.placement.facts(fields["file_name"].encode(), members)
    group = range(len(members))
    claim = pipeline.claim_stripe(stages, owner, facts, stripe.chunk, group, members)
    return {
        "chunk_id": stripe.chunk.chunk_id,
        "stripe_id": stripe.stripe,
        "shares": list(stripe.shares),
        "checksums": stripe.checksums,
        "facts": facts,
        "nodes": claim.nodes,
        "claim": bulk_rows.encode_claim(claim),
    }


# --- floors.json --------------------------------------------------------------------------------------------


def floors(fields: Fields) -> Fields:
    known = {NameId(name): Ballot(ballot) for name, ballot in fields["floors"]}
    place, key = DirectoryId(fields["directory"]), vault_of(fields).floor
    raw = encode_floors(key, place, known)
    assert decode_floors(key, place, raw) == known
    return {"file": raw}


# --- store.json ---------------------------------------------------------------------------------------------


def volume_header(fields: Fields) -> Fields:
    packed = volume_files.HEADER.pack(
        volume_files.MAGIC,
        volume_files.FORMAT,
        fields["number"],
        fields["generation"],
        fields["vault_id"],
    )
    return {"header": (packed + xxh3_128_digest(packed)).ljust(volume_files.HEADER_SIZE, b"\0")}


def claim_row(fields: Fields) -> Fields:
    (claim,) = bulk_rows.decode_claims(encoding.encode(fields["claim"]))
    rest = volume_packing.pack_claim(claim)
    assert volume_packing.unpack_claim(claim.stripe, rest) == (claim, len(rest))
    return {"stripe": StripeId(claim.stripe), "rest": rest}


def register_row(fields: Fields) -> Fields:
    names = ("promised", "accepted", "value", "digest", "claim_set", "confirmed", "safe", "claimed_count")
    row = RegisterRow(**{name: fields[name] for name in names})
    return {"row_digest": volume_packing.register_digest(register_of(fields), row)}


def stamped(fields: Fields) -> Fields:
    packed = volume_packing.stamp(fields["key"], fields["value"])
    assert volume_packing.unstamp(fields["key"], packed) == fields["value"]
    return {"stamped": packed}


def bucket_object(fields: Fields) -> Fields:
    key = ShareKey(StripeId(fields["stripe"]), fields["index"])
    name = objects.object_name(key, fields["checksum"], fields["number"])
    assert objects.read_name(name) == objects.Found(key, fields["checksum"], fields["number"])
    return {"object": name}


def snapshot(fields: Fields) -> Fields:
    made = snapshots.Snapshot(**{**fields, "pieces": tuple(fields["pieces"])})
    raw = snapshots.encode_snapshot(made)
    assert snapshots.decode_snapshot(raw) == made
    return {"list": raw}


def vault_folder(fields: Fields) -> Fields:
    return {"folder": volume_directory.folder_name(fields["user"])}


KINDS: Mapping[str, Mapping[str, Callable[[Fields], Fields]]] = {
    "keys": {
        "secret": secret,
        "login": login,
        "vault": vault,
        "wrap": wrap,
        "proof": proof,
        "ringed_wrap": ringed_wrap,
        "rekey": rekey,
        "rekeyed": rekeyed,
        "recovery_sheet": recovery_sheet,
    },
    "names": {"chunk": chunk, "path": path, "digests": digests},
    "entries": {"entry": entry, "chunk_list": chunk_list},
    "rosters": {"roster": nodes},
    "frames": {"frame": frame, "rows": row_bulk, "listed digest": listed_digest},
    "shares": {"shares": shares},
    "floors": {"floors": floors},
    "store": {
        "volume_header": volume_header,
        "claim_row": claim_row,
        "register_row": register_row,
        "vault_folder": vault_folder,
        "stamped": stamped,
        "object_name": bucket_object,
        "snapshot": snapshot,
    },
}


# --- What is refused ----------------------------------------------------------------------------------------


def read_frame(raw: bytes) -> None:
    header = wire.decode_header(raw[: limits.HEADER_SIZE])
    wire.decode_control(header, raw[limits.HEADER_SIZE :])


def read_wrap(raw: bytes) -> None:
    keys.unwrap_master(raw, bytes(range(32)), "dfs", "alice", KdfParameters())


def read_ringed(raw: bytes) -> None:
    wraps.open_wrapped(raw, bytes(range(32)), ("dfs", "alice", KdfParameters()))


def read_value(raw: bytes) -> None:
    place = RegisterKey(DirectoryId(b"d" * 16), NameId(b"n" * 16))
    ballot = Ballot(b"b" * 24)
    manifest.open_entry(bytes(range(32)), place, RegisterRow(ballot, ballot, raw))


def read_floors(raw: bytes) -> None:
    decode_floors(keys.vault_keys(bytes(range(32))).floor, DirectoryId(b"d" * 16), raw)


READERS: Mapping[str, Callable[[bytes], object]] = {
    "frame": read_frame,
    "wrap": read_wrap,
    "floors": read_floors,
    "ringed_wrap": read_ringed,
    "rekeyed": decode_rekeyed,
    "value": read_value,
    "entry": manifest.decode_entry,
    "chunk_list": manifest.decode_chunks,
    "roster": roster.decode_roster,
    **{kind: decode for kind, (decode, _) in ROWS.items()},
}


# --- Tests --------------------------------------------------------------------------------------------------


def cases(part: str) -> list[Any]:
    return [
        pytest.param(name, case, id=f"{name}: {case['name']}") for name in KINDS for case in load(name)[part]
    ]


@pytest.mark.parametrize(("name", "case"), cases("cases"))
def test_bytes_are_frozen(name: str, case: Fields) -> None:
    made = KINDS[name][case["kind"]](thaw(case["inputs"]))
    assert freeze(made) == case["expected"]


@pytest.mark.parametrize(("name", "case"), cases("refused"))
def test_bytes_are_refused(name: str, case: Fields) -> None:
    with pytest.raises(errors.DfsError) as caught:
        READERS[case["kind"]](thaw(case["bytes"]))
    assert type(caught.value).__name__ == case["error"]


def test_every_message_is_frozen() -> None:
    frozen = {case["inputs"]["class"] for case in load("frames")["cases"] if case["kind"] == "frame"}
    assert frozen == {cls.__name__ for cls in CLASSES}


def test_every_kind_of_thing_is_frozen() -> None:
    for name, kinds in KINDS.items():
        assert {case["kind"] for case in load(name)["cases"]} == set(kinds)
    assert {case["kind"] for name in KINDS for case in load(name)["refused"]} == set(READERS)


def test_identifiers_of_nodes_are_not_mixed_up() -> None:
    """Roster indexes, never positions in the group, stand in claims."""
    for case in load("shares")["cases"]:
        total = len(case["inputs"]["roster"][4])
        assert all(0 <= node < total for row in case["expected"]["nodes"] for node in row)
        assert len(NodeId(thaw(case["inputs"]["roster"][4][0][0]))) == limits.NODE_ID_SIZE
        assert len(ChunkId(thaw(case["expected"]["chunk_id"]))) == limits.CHUNK_ID_SIZE
