"""What sslyze finds out about the TLS of a real node: `nox -s scan`; else SSLYZE says where it is."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SSLYZE = os.environ.get("SSLYZE") or shutil.which("sslyze")
SCANS = (
    *("certinfo", "sslv2", "sslv3", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3", "compression", "early_data"),
    *("openssl_ccs", "heartbleed", "robot", "reneg", "resum", "elliptic_curves"),
)
OLD = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2")


@pytest.mark.skipif(SSLYZE is None, reason="sslyze is not installed")
@pytest.mark.timeout(120)
@pytest.mark.long
def test_nothing_below_tls_1_3_and_no_known_weakness(make_cluster: Any, tmp_path: Path) -> None:
    cluster = make_cluster(1)
    found = tmp_path / "found.json"
    subprocess.run(
        [str(SSLYZE), f"--json_out={found}", *(f"--{scan}" for scan in SCANS), cluster.nodes[0].address],
        capture_output=True,
        check=False,  # 1: it is not what some profile of browsers asks for
        timeout=110,
    )
    (server,) = json.loads(found.read_text())["server_scan_results"]
    assert server["connectivity_status"] == "COMPLETED"
    results = {name: scan["result"] for name, scan in server["scan_result"].items() if scan["result"]}
    for version in OLD:
        assert results[f"{version}_cipher_suites"]["accepted_cipher_suites"] == [], version
    accepted = results["tls_1_3_cipher_suites"]["accepted_cipher_suites"]
    assert {suite["cipher_suite"]["name"] for suite in accepted} <= {
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_GCM_SHA256",
    }
    assert accepted
    assert not results["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert not results["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    assert not results["tls_compression"]["supports_compression"]
    assert not results["tls_1_3_early_data"]["supports_early_data"]
    assert not results["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"]
    assert results["robot"]["robot_result"].startswith("NOT_VULNERABLE")
    resumption = results["session_resumption"]
    for way in ("session_id", "tls_ticket"):
        assert resumption[f"{way}_resumption_result"] in {"NOT_SUPPORTED", "SERVER_IS_TLS_1_3_ONLY"}
    curves = {curve["name"] for curve in results["elliptic_curves"]["supported_curves"]}
    assert curves <= {"X25519", "X448", "prime256v1", "secp256r1", "secp384r1", "secp521r1"}
