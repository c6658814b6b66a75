"""The table of the plugins that come with dfs: hook -> name -> (module, summary). It imports none of them."""

from collections.abc import Mapping
from typing import Final

BUILTIN: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "dfs_transports": {
        "tls": ("dfs.plugins.tls", "TLS 1.3 with pinned certificates, the default"),
        "tcp": ("dfs.plugins.tcp", "plain TCP, for trusted networks"),
        "memory": ("dfs.plugins.memory_transport", "inside one process, for tests"),
    },
    "dfs_ciphers": {
        "aes-gcm": ("dfs.plugins.aes_gcm", "AES-256-GCM, the default"),
        "chacha20-poly1305": (
            "dfs.plugins.chacha20_poly1305",
            "ChaCha20-Poly1305, quick without AES instructions",
        ),
        "xor": ("dfs.plugins.xor", "toy XOR, NOT secure, needs allow_insecure"),
    },
    "dfs_compressors": {
        "zstd": ("dfs.plugins.zstd", "Zstandard, level 1, the default"),
        "none": ("dfs.plugins.none", "no compression"),
    },
    "dfs_codes": {
        "reed-solomon": ("dfs.plugins.reed_solomon", "any k of n shares are enough, the default"),
        "split": ("dfs.plugins.split", "n parts, each on two nodes, all needed"),
        "replicate": ("dfs.plugins.replicate", "n whole copies, any one is enough"),
    },
    "dfs_placements": {
        "rendezvous": ("dfs.plugins.rendezvous", "weighted, zone-aware hashing, the default"),
        "ring": ("dfs.plugins.ring", "the original's ring, turned by an MD5"),
    },
    "dfs_chunkers": {
        "fixed": ("dfs.plugins.fixed", "chunks of one size, 4 MiB, the default"),
        "fastcdc": ("dfs.plugins.fastcdc", "content decides where chunks end, 1 MiB on average"),
    },
    "dfs_stores": {
        "volumes": ("dfs.plugins.volumes", "SQLite rows and append-only volume files"),
        "bucket": ("dfs.plugins.volumes.bucket", "shares in a bucket (S3, GCS, Azure), rows on the node"),
        "memory": ("dfs.plugins.memory_store", "nothing survives the process; for tests"),
    },
    "dfs_commands": {
        "demo": ("dfs.plugins.command_demo", "watch files survive dead nodes"),
        "stat": ("dfs.plugins.command_stat", "show everything about one entry"),
        "cat": ("dfs.plugins.command_cat", "write files to stdout"),
        "mv": ("dfs.plugins.command_mv", "rename files and folders"),
        "cp": ("dfs.plugins.command_mv", "copy files and folders"),
        "tree": ("dfs.plugins.command_tree", "draw what is below a folder"),
        "find": ("dfs.plugins.command_find", "find files by name, size or time"),
        "du": ("dfs.plugins.command_du", "show what folders take"),
        "df": ("dfs.plugins.command_df", "show what more can be stored"),
        "map": ("dfs.plugins.command_map", "show which node holds what of each file"),
        "rm": ("dfs.plugins.command_rm", "remove files and folders"),
        "check": ("dfs.plugins.command_check", "say which files are complete"),
        "repair": ("dfs.plugins.command_repair", "make missing and bad shares again"),
        "status": ("dfs.plugins.command_status", "show how the nodes are"),
        "replace": ("dfs.plugins.command_replace", "put an empty node in the place of a lost one"),
        "mkdir": ("dfs.plugins.command_mkdir", "make a folder"),
        "user": ("dfs.plugins.command_user", "change the users file of a node"),
        "passwd": ("dfs.plugins.command_passwd", "change the password; nothing is encrypted again"),
        "key": ("dfs.plugins.command_key", "key files, recovery sheets: new show export recover; rotate"),
        "login": ("dfs.plugins.command_login", "log in, and keep the login for later commands"),
        "logout": ("dfs.plugins.command_logout", "forget a kept login"),
        "cert": ("dfs.plugins.command_cert", "show certificates of nodes, trust or make a new one"),
        "plugins": ("dfs.plugins.command_plugins", "list the plugins, begin one, check one"),
        "init": ("dfs.plugins.command_init", "make a conf, and say what may fail"),
        "doctor": ("dfs.plugins.command_doctor", "say what may be wrong, and what ends it"),
        "config": ("dfs.plugins.command_config", "show, check and convert confs"),
        "bench": ("dfs.plugins.command_bench", "measure this machine, and the cluster"),
        "completion": (
            "dfs.plugins.command_completion",
            "print the script with which a shell completes dfs lines",
        ),
        "explain": ("dfs.plugins.command_explain", "say what an error code means and what to do"),
        "version": ("dfs.plugins.command_version", "show the versions of dfs and what it runs on"),
    },
}
