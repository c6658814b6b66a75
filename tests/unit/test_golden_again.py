"""The golden keys, names and seals once more, by a few lines of its own over the libraries alone.

Nothing of dfs is imported: what is frozen is what docs/formats.md says, not only what the code happens to do.
"""

import json
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import msgpack
import pytest
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FOLDER = Path(__file__).parents[1] / "golden"
LABELS = ("identity", "stripe", "chunk", "entry", "name", "floor", "confirm")
SIGNS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
Case = dict[str, Any]


def thaw(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("0x"):
        return bytes.fromhex(value[2:])
    if isinstance(value, list):
        return [thaw(item) for item in value]
    return {name: thaw(item) for name, item in value.items()} if isinstance(value, dict) else value


def enc(*values: Any) -> bytes:
    packed: bytes = msgpack.packb(list(values), use_bin_type=True)
    return packed


def expand(secret: bytes, label: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"dfs 1 " + label.encode()).derive(secret)


def derive(context: str, body: bytes, size: int = 32) -> bytes:
    return blake3(body, derive_key_context=context).digest(size)


def keyed(key: bytes, body: bytes, size: int = 32) -> bytes:
    return blake3(body, key=key).digest(size)


def secret(case: Case) -> Case:
    salt = derive("dfs 1 password salt", enc(case["realm"], case["user"]), 16)
    cost = {"iterations": case["passes"], "lanes": case["lanes"], "memory_cost": case["memory_size"] // 1024}
    return {"secret": Argon2id(salt=salt, length=32, **cost).derive(case["password"].encode())}


def login(case: Case) -> Case:
    seed = expand(case["secret"], "login")
    public_key = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return {"seed": seed, "kek": expand(case["secret"], "kek"), "public_key": public_key}


def vault(case: Case) -> Case:
    return {label: expand(case["master"], label) for label in LABELS}


def wrap(case: Case) -> Case:
    owner = (case["realm"], case["user"], case["memory_size"], case["passes"], case["lanes"])
    sealed = AESGCMSIV(case["kek"]).encrypt(case["nonce"], case["master"], enc("dfs 1 wrap", 1, *owner))
    return {"wrap": enc(1, case["nonce"], sealed)}


def ringed_wrap(case: Case) -> Case:
    """Master key and ring, sealed with one nonce under two keys; and where it lies."""
    owner = (case["realm"], case["user"], case["memory_size"], case["passes"], case["lanes"])
    bound, nonce = enc("dfs 1 wrap", 2, *owner), case["nonce"]
    ring = enc(1, case["epoch"], case["kin"], case["further"])
    if "generation" in case:
        turns = [case["turn"]] if case["turn"] else []
        ring = enc(2, case["epoch"], case["kin"], case["further"], case["generation"], turns)
    sealed = AESGCMSIV(case["kek"]).encrypt(nonce, case["master"], bound)
    sealed_ring = AESGCMSIV(expand(case["master"], "ring")).encrypt(nonce, ring, bound)
    return {"wrap": enc(2, nonce, sealed, sealed_ring), "name": expand(case["kek"], "wrap name")[:16]}


def rekey(case: Case) -> Case:
    names = ("realm", "user", "node_id", "old", "new", "epoch")
    statement = enc("dfs 1 rekey", *(case[name] for name in names))
    signature = Ed25519PrivateKey.from_private_bytes(case["seed"]).sign(statement)
    Ed25519PublicKey.from_public_bytes(case["old"]).verify(signature, statement)
    return {"signature": signature}


def rekeyed(case: Case) -> Case:
    return {"rekeyed": enc(1, case["line"], case["epoch"], case["public_key"], case["former"])}


def times(left: int, right: int) -> int:
    """The product in GF(32): of polynomials over two, reduced by x^5 + x^2 + 1."""
    whole = 0
    for place in range(5):
        whole ^= (left << place) * (right >> place & 1)
    for place in reversed(range(5, 9)):
        whole ^= (0b100101 << place - 5) * (whole >> place & 1)
    return whole


def sums(signs: list[int]) -> tuple[int, int]:
    """Σ s_i and Σ a^i·s_i, with a = x."""
    plain, weighted, weight = 0, 0, 1
    for sign in signs:
        plain, weighted, weight = plain ^ sign, weighted ^ times(weight, sign), times(weight, 2)
    return plain, weighted


def recovery_sheet(case: Case) -> Case:
    """The check signs are looked for: there must be one pair only that makes both sums zero."""
    lines = []
    for number in range(1, 5):
        bits = "".join(f"{byte:08b}" for byte in case["secret"][8 * number - 8 : 8 * number]) + "0"
        signs = [int(bits[at : at + 5], 2) for at in range(0, 65, 5)]
        pairs = product(range(32), repeat=2)
        (checks,) = [list(pair) for pair in pairs if sums([*pair, number, *signs]) == (0, 0)]
        text = "".join(SIGNS[sign] for sign in signs + checks)
        lines.append(f"{number}  {text[:5]} {text[5:10]} {text[10:]}")
    return {"lines": lines}


def proof(case: Case) -> Case:
    names = ("realm", "user", "node_id", "client_nonce", "node_nonce", "channel_binding")
    statement = enc("dfs 1 login", *(case[name] for name in names))
    signature = Ed25519PrivateKey.from_private_bytes(case["seed"]).sign(statement)
    known = Ed25519PublicKey.from_public_bytes(case["public_key"])
    known.verify(signature, statement)
    with pytest.raises(InvalidSignature):
        known.verify(signature, statement + b"\0")
    return {"signature": signature}


def chunk(case: Case) -> Case:
    keys = vault(case)
    chunk_id = keyed(keys["identity"], bytes((case["codec"],)) + case["packed"])
    stripe = enc(chunk_id, case["cipher"], case["code"], case["needed"], case["total"])
    return {
        "chunk_id": chunk_id,
        "chunk_key": keyed(keys["chunk"], enc(chunk_id, case["cipher"]), case["key_size"]),
        "stripe_id": keyed(keys["stripe"], stripe),
    }


def path(case: Case) -> Case:
    key = vault(case)["name"]
    parent, _, name = case["path"].rpartition("/")
    directory = keyed(key, b"\x01" + parent.encode(), 16)
    return {"directory": directory, "name": keyed(key, b"\x02" + directory + name.encode(), 16)}


def digests(case: Case) -> Case:
    claim_set = derive("dfs 1 claim set", case["claims"]) if case["claims"] else b""
    digest = derive("dfs 1 value digest", claim_set + case["value"])
    ballot = case["counter"].to_bytes(8, "big") + case["attempt"]
    tag = keyed(vault(case)["confirm"], enc(case["directory"], case["name"], ballot, digest))
    return {"claim_set": claim_set, "digest": digest, "ballot": ballot, "confirm_tag": tag}


def entry(case: Case) -> Case:
    encoded = enc(*case["entry"])
    kind = case["entry"][2]
    context = enc("dfs 1 entry", 1, kind, case["directory"], case["name"], case["ballot"])
    sealed = AESGCMSIV(case["key"]).encrypt(case["nonce"], encoded, context)
    return {"encoded": encoded, "value": bytes((kind,)) + case["nonce"] + sealed}


def chunk_list(case: Case) -> Case:
    sizes = b"".join(chunk_id + plain.to_bytes(8, "big") for chunk_id, _, plain, _ in case["chunks"])
    encoded = b"".join(enc(*row) for row in case["chunks"])
    return {"encoded": encoded, "digest": derive("dfs 1 chunk list", sizes)}


def floors(case: Case) -> Case:
    records = b"".join(name + ballot for name, ballot in sorted(case["floors"]))
    tag = keyed(vault(case)["floor"], enc("dfs 1 floors", case["directory"]) + records)
    return {"file": b"dfs floors 1\n" + records + tag}


def shares(case: Case) -> Case:
    """The data shares of a chunk that is kept plain: the sealed chunk, padded, in pieces."""
    named = chunk({**case, "codec": 0, "packed": case["plain"], "key_size": 32} | versions(case))
    nonce, context, plain = bytes(12), b"dfs 1 chunk", case["plain"]
    if case["cipher"] == "aes-gcm":
        sealed = AESGCM(named["chunk_key"]).encrypt(nonce, plain, context)
    elif case["cipher"] == "chacha20-poly1305":
        sealed = ChaCha20Poly1305(named["chunk_key"]).encrypt(nonce, plain, context)
    else:
        sealed = bytes(byte ^ named["chunk_key"][at % 32] for at, byte in enumerate(plain))
    size = -(-len(sealed) // case["needed"])
    padded = sealed.ljust(size * case["needed"], b"\0")
    pieces = [padded[at : at + size] for at in range(0, len(padded), size)]
    return {"chunk_id": named["chunk_id"], "stripe_id": named["stripe_id"], "shares": pieces}


def versions(case: Case) -> Case:
    return {name: f"{case[name]}@1" for name in ("cipher", "code")}


AGAIN: dict[str, Callable[[Case], Case]] = {
    "secret": secret,
    "login": login,
    "vault": vault,
    "wrap": wrap,
    "ringed_wrap": ringed_wrap,
    "rekey": rekey,
    "rekeyed": rekeyed,
    "recovery_sheet": recovery_sheet,
    "proof": proof,
    "chunk": chunk,
    "path": path,
    "digests": digests,
    "entry": entry,
    "chunk_list": chunk_list,
    "floors": floors,
    "shares": shares,
}


def cases() -> Iterator[Any]:
    for name in ("keys", "names", "entries", "floors", "shares"):
        for case in json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["cases"]:
            yield pytest.param(case, id=f"{name}: {case['name']}")


@pytest.mark.parametrize("case", list(cases()))
def test_the_formats_say_the_same(case: Case) -> None:
    made, expected = AGAIN[case["kind"]](thaw(case["inputs"])), thaw(case["expected"])
    if case["kind"] == "shares":
        assert made.pop("shares") == expected["shares"][: case["inputs"]["needed"]]
    assert made.items() <= expected.items()
    assert made == expected or case["kind"] == "shares"


def test_nothing_of_dfs_is_used() -> None:
    source = Path(__file__).read_text("utf-8").splitlines()
    assert [line for line in source if line.startswith(("import dfs", "from dfs"))] == []
