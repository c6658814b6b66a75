"""Secrets that this process has met, so that whatever it writes about itself can be cleared of them.

Texts of errors never name a secret by intention. This is the net below: logs and tracebacks pass through
`redacted`, which strikes out every secret in the forms it may take there.
"""

import threading
from binascii import b2a_base64
from typing import Final

SECRET_SIZE_MIN: Final = 4  # characters; a shorter one would strike out half of every text
STRUCK_OUT: Final = "***"

_forms: set[str] = set()  # of the process, like what it writes
_lock: Final = threading.Lock()


def conceal(secret: bytes | str) -> None:
    """Strike a secret out of everything that `redacted` sees from now on."""
    raw = secret.encode() if isinstance(secret, str) else secret
    text = raw.decode(errors="replace")
    forms = {
        text,
        repr(text)[1:-1],
        repr(raw)[2:-1],
        raw.hex(),
        b2a_base64(raw, newline=False).decode().rstrip("="),
    }
    with _lock:
        _forms.update(form for form in forms if len(form) >= SECRET_SIZE_MIN and len(text) >= SECRET_SIZE_MIN)


def redacted(text: str) -> str:
    """Return a text without the secrets that this process has met."""
    with _lock:
        found = [form for form in _forms if form in text]
    for form in sorted(found, key=len, reverse=True):
        text = text.replace(form, STRUCK_OUT)
    return text
