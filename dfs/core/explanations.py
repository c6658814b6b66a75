"""What every error code means, what it cost and what ends it: the long texts of `dfs explain`.

Pure, and imported by nothing but that command and the pages made from it.
"""

from collections.abc import Mapping
from typing import Final

from dfs.core.records import frozen


@frozen
class Explanation:
    """One code. ``exit_code``: of a command that ends by it; 0 = it is told, and the command goes on.

    ``meaning``: what happened and how that comes. ``kept``: what was lost, which normally is nothing.
    ``steps``: what to do, the likeliest first, each a sentence with its command.
    """

    title: str
    exit_code: int
    meaning: str
    kept: str
    steps: tuple[str, ...]


NOTHING_SENT: Final = "Nothing was lost: nothing was sent or written."
NOTHING_CHANGED: Final = "Nothing was lost: what was stored before is stored, and nothing was changed."
NO_FILE: Final = "Nothing was lost: no local file was made, and one that was there is untouched."

EXPLANATIONS: Final[Mapping[str, Explanation]] = {
    # Identity
    "DFS-E101": Explanation(
        "the login was refused",
        12,
        "The nodes do not know this user with this password or key, or the account may not do what was"
        " asked. An unknown user and a wrong password look the same on purpose, so that nobody can try out"
        " names. The same code tells that the login is right but the vault was sealed with another"
        " password.",
        NOTHING_SENT,
        (
            "Look which user, realm and source of the password count: dfs config show --origin",
            "Compare your public key with the users file of a node: dfs key show",
            "Does every node know you? Ask its administrator to run: dfs user list",
            "If dfs login kept an old password: dfs login",
            "If the password is forgotten and you have a recovery sheet: dfs key recover",
        ),
    ),
    "DFS-E102": Explanation(
        "there is no password",
        12,
        "The conf names no source of the password, and there is no terminal to ask on. dfs never waits for"
        " an answer that cannot come.",
        NOTHING_SENT,
        (
            (
                "Name a source in the conf: password_file, password_command or key_file; or set"
                " DFS_PASSWORD_FILE, DFS_PASSWORD_COMMAND or DFS_KEY_FILE"
            ),
            "For programs a key file is best: dfs key new backup.key",
            "Or keep the login once, from a terminal: dfs login --keep file",
        ),
    ),
    "DFS-E121": Explanation(
        "others can read a file with a secret",
        12,
        "A file with a password or key belongs to somebody else, or its mode lets others read it. It is"
        " not used before that is mended, since it may be known by now.",
        NOTHING_SENT,
        (
            "Close it: chmod 600 FILE",
            "If others may have read it, take another password: dfs passwd",
        ),
    ),
    "DFS-E131": Explanation(
        "a node shows another certificate",
        13,
        "A node is known by the certificate it showed first, or by the one the conf pins, and now shows"
        " another. Either it was set up anew, or something else answers at its address. It is left out; the"
        " command only fails if too few other nodes are left.",
        "Nothing was lost, and nothing was sent to that node.",
        (
            "See both certificates: dfs cert show",
            "If you set the node up anew: dfs cert trust NODE, and if its disk is empty: dfs replace NODE",
            "If you did not: find out what answers at that address before anything else",
        ),
    ),
    "DFS-E132": Explanation(
        "a node shows a certificate that the conf does not pin",
        13,
        'The conf says trust = "pin", so a node without a certificate in its [[node]] section is not'
        " spoken to.",
        NOTHING_SENT,
        (
            "See what the nodes show: dfs cert show",
            'Write it into the conf: certificate = "SHA256:…" under [[node]], or say trust = "first-use"',
        ),
    ),
    "DFS-E133": Explanation(
        "the node belongs to another realm",
        13,
        "Realms are clusters that do not mix. The realm is part of what makes a password a key, so node"
        " and client must say the same one.",
        NOTHING_SENT,
        ('Give the same realm in the confs of node and client, such as: realm = "dfs"',),
    ),
    "DFS-E134": Explanation(
        "a node does not take our certificate",
        13,
        "The node's conf has a client_ca: it lets nobody in who shows no certificate signed by that"
        " authority. The conf of the client names none, one of another authority, or one that has expired.",
        NOTHING_SENT,
        (
            "Ask the node's administrator for a certificate and its key",
            "Write both into the conf, as client_certificate and client_key",
            "See dates and issuer of yours: openssl x509 -noout -dates -issuer -in odile.pem",
        ),
    ),
    # Usage and confs
    "DFS-E201": Explanation(
        "a key of the conf is not known",
        2,
        "A conf has a key that this version of dfs does not know: misspelt, in the wrong section, or of a"
        " newer version. Unknown keys are never ignored: what somebody thinks is set would not be.",
        NOTHING_SENT,
        (
            "The message names file, line and the nearest known key. See all faults: dfs config check FILE",
            "All keys with type and default: dfs config keys",
        ),
    ),
    "DFS-E202": Explanation(
        "the command line or a conf is wrong",
        2,
        "An argument, an option, a variable or a value in a conf is not what it must be.",
        NOTHING_SENT,
        (
            "The message names the place. What a command takes: dfs COMMAND --help",
            "All faults of a conf at once: dfs config check FILE",
            "Which file, variable or option set a value: dfs config show --origin",
        ),
    ),
    "DFS-E203": Explanation(
        "there is no conf",
        2,
        "No conf was named, and none is in the places where one is looked for: ./dfc.conf, ~/dfc.conf,"
        " ./dfs.toml, ~/.config/dfs/config.toml, /etc/dfs/config.toml.",
        NOTHING_SENT,
        (
            "Make one: dfs init",
            "Or name one: dfs --conf FILE ls",
            "Or look around first, without any: dfs demo",
        ),
    ),
    "DFS-E204": Explanation(
        "an insecure plugin is not allowed",
        2,
        "A cipher was chosen that hides nothing or notices no change (such as xor, a toy). Such a one is"
        " used only where the conf allows it by name.",
        NOTHING_SENT,
        (
            'Choose a real one: cipher = "aes-gcm"',
            'If it shall be used all the same, in a test: allow_insecure = ["xor"]',
        ),
    ),
    "DFS-E205": Explanation(
        "DFS_PASSWORD is set",
        2,
        "Variables can be read by other programs, are handed on to every child and end up in logs. So dfs"
        " takes no password from one, and says so rather than ignore it.",
        NOTHING_SENT,
        (
            "unset DFS_PASSWORD, and take another password if it was a real one: dfs passwd",
            "Name a file or a command instead: DFS_PASSWORD_FILE, DFS_PASSWORD_COMMAND",
        ),
    ),
    # Nodes
    "DFS-E301": Explanation(
        "stored, but on fewer nodes than asked for",
        3,
        "A write is complete and readable, but nodes were away or did not take their part. It survives"
        " fewer further losses than it should; the message says which nodes lack what.",
        "Nothing was lost: the file is stored and can be read.",
        (
            "When the nodes are back: dfs repair",
            "If one never comes back, start an empty one in its place: dfs replace NODE",
            "If that is fine for a script: --no-strict makes it exit 0",
        ),
    ),
    "DFS-E302": Explanation(
        "too few nodes answer",
        7,
        "A write needs most nodes of the group, a reading enough of them to know the newest version. Fewer"
        " answer: they are down, unreachable, not let in by a firewall, or the addresses in the conf are"
        " wrong.",
        "Nothing was lost. A write that ends so was not accepted by any node.",
        (
            "See which nodes answer, and why the others do not: dfs doctor",
            "Start the missing nodes, then run the same command again",
        ),
    ),
    "DFS-E303": Explanation(
        "the outcome is unknown",
        14,
        "Nodes were asked to accept a change, and then too few answered to know whether it counts: the"
        " network broke, or nodes died at that moment.",
        "The path holds the old or the new version, never a mix. What was stored before is not lost"
        " otherwise.",
        (
            "Run the same command again: it finds its own write, or does it anew",
            "If nodes are away: dfs status",
        ),
    ),
    "DFS-E304": Explanation(
        "what is shown may be stale",
        0,
        "Too few nodes answer to be sure that nothing newer was stored elsewhere. What is shown is"
        " authentic and was stored once, but may be an older version.",
        "Nothing was lost.",
        (
            "Bring nodes back and ask again: dfs status",
            "If an old answer is worse than none: --strict makes it exit 3",
        ),
    ),
    "DFS-E305": Explanation(
        "a node did not answer in time",
        7,
        "A node took longer than connect_timeout or request_timeout. It is hung, overloaded, or the way to"
        " it is slow or swallows packets.",
        NOTHING_CHANGED,
        (
            "See which node: dfs doctor",
            "On a slow line, give it more time: --timeout '2 min', or request_timeout in the conf",
        ),
    ),
    "DFS-E306": Explanation(
        "a node did not do what it was asked",
        7,
        "A node answers, but does not take part: it is being brought up to date (joining), was found on an"
        " old copy (quarantined), is read-only, is stopping, or has too many connections.",
        NOTHING_CHANGED,
        (
            "See how every node is: dfs status",
            "Joining or quarantined nodes are brought up to date by: dfs repair",
            "A read-only node says why in its log; mend its disk and restart it",
        ),
    ),
    # Stored files
    "DFS-E401": Explanation(
        "the file is incomplete",
        5,
        "Fewer shares of a file can be reached than are needed to rebuild it. While the nodes that hold"
        " the others are only away, nothing is lost: they bring the file back with them.",
        NO_FILE,
        (
            "See who holds what: dfs ls -l, dfs status",
            "Bring the nodes back that are down, or the old disk of one that was replaced, and run it again",
            "If you have the file elsewhere, put it again: only what is missing is sent",
        ),
    ),
    "DFS-E402": Explanation(
        "stored bytes are not what was stored",
        6,
        "A share or a file did not pass its check: a disk rots, or a node changed it. Good shares of other"
        " nodes are used instead wherever there are enough; the message names node and share.",
        NO_FILE,
        (
            "Have all nodes read and hash what they keep: dfs check --read-data",
            "Make bad shares again from the good ones: dfs repair",
            "Look at the disk of the node that was named",
        ),
    ),
    "DFS-E403": Explanation(
        "an entry is not authentic",
        6,
        "What a node gives as the entry of a path was not sealed with the keys of this vault, or was"
        " changed. Entries of other nodes are used instead wherever enough agree.",
        NO_FILE,
        (
            "See what all nodes hold: dfs check --read-data",
            "Replace it from the good ones: dfs repair",
            "If one node is named again and again, do not trust it with data: take it out of service",
        ),
    ),
    "DFS-E404": Explanation(
        "there is no such file or folder",
        4,
        "The path names nothing: misspelt, removed, or in another folder. Letters count in either case.",
        NOTHING_CHANGED,
        ("See what is there: dfs ls, dfs ls -R",),
    ),
    "DFS-E405": Explanation(
        "nodes hold an older version than this client has seen",
        6,
        "The client remembers the newest version it has seen of each path. The nodes now all tell an older"
        " one: they were put back from a backup, or agree to deceive.",
        NOTHING_CHANGED,
        (
            "If the nodes were not put back from a backup, do not trust them: find out who runs them now",
            (
                "If they were, and the older version shall count: remove the folder floors of the client's"
                " state folder (dfs doctor names it)"
            ),
        ),
    ),
    "DFS-E409": Explanation(
        "it exists already, or was changed meanwhile",
        9,
        "Something is there that must not be replaced: a file with --if-absent or --no-clobber, another"
        " version than --if-version says, a folder that is not empty, a conf that is already made.",
        NOTHING_CHANGED,
        (
            "Look at what is there: dfs ls -l",
            "Then decide: another name, another version, or without that option",
        ),
    ),
    # Plugins and versions
    "DFS-E501": Explanation(
        "a plugin is not installed",
        2,
        "A conf, an option or a stored file names a plugin that is not here. A file keeps the names of the"
        " plugins it was made with.",
        "Nothing was lost. A stored file is intact, and can be read again once the plugin is there.",
        (
            "See which there are: dfs plugins",
            "Install the package that brings it: pip install dfs-NAME; or name its file: --plugin FILE",
            "If [plugins] block or allow in the conf leave it out: change them there",
        ),
    ),
    "DFS-E502": Explanation(
        "a plugin is broken",
        2,
        "A plugin could not be imported, declares something that is none, or fails when it is made. All"
        " other plugins work on.",
        NOTHING_SENT,
        ("See what is wrong with it: dfs plugins", "Update or remove the package that is named"),
    ),
    "DFS-E503": Explanation(
        "two packages bring a plugin of the same name",
        2,
        "dfs does not choose between them, since files written with one could not be read with the other.",
        NOTHING_SENT,
        (
            "Remove one of the packages that are named",
            'Or leave one out in the conf: [plugins] block = ["PACKAGE"]',
        ),
    ),
    "DFS-E504": Explanation(
        "a plugin was made for another version of dfs",
        2,
        "The plugin names another version of the plugin interface than this dfs has, or a file was written"
        " by another format of a plugin than the installed one reads.",
        "Nothing was lost. A stored file is intact.",
        ("Install the version of the plugin that fits: dfs version, dfs plugins",),
    ),
    "DFS-E505": Explanation(
        "a plugin has a hook that does not exist",
        2,
        "A plugin implements a function that dfs never calls, most likely misspelt; without an error it"
        " would just do nothing.",
        NOTHING_SENT,
        ("Correct the name of the hook in the plugin: dfs plugins names it",),
    ),
    "DFS-E510": Explanation(
        "the other side does not speak this protocol",
        13,
        "What answers at the address breaks the wire protocol: it is no dfs node, speaks another version,"
        " or uses another transport (tls against tcp).",
        NOTHING_SENT,
        (
            "See what answers: dfs cert show",
            "Give node and client the same transport, and run the same version on both: dfs version",
        ),
    ),
    # Stores
    "DFS-E601": Explanation(
        "there is no space left",
        8,
        "The disk of a node, or the local one, is full up to its reserve. The reserve is kept so that"
        " deletes go on.",
        NOTHING_CHANGED,
        (
            "See how much each node has left: dfs status",
            "Remove something: dfs rm. Space comes back within seconds",
            "Or give the node a larger disk, or set a smaller reserve in its conf",
        ),
    ),
    "DFS-E602": Explanation(
        "the quota is used up",
        8,
        "A node bounds how much each user may keep there. What was uploaded in the last hours counts, also"
        " when it was removed meanwhile or not finished.",
        NOTHING_CHANGED,
        (
            "See what is used and allowed: dfs status",
            "Remove something: dfs rm",
            "Ask the administrators of the nodes for more: dfs user quota NAME SIZE",
        ),
    ),
    "DFS-E603": Explanation(
        "nothing is set up here yet",
        10,
        "Either there is no vault yet and not all nodes are up: it is made on all of them or not at all."
        " Or --dir of a node holds something that is no node's, and is not touched.",
        NOTHING_CHANGED,
        (
            "Start all nodes and run it again; see who is missing: dfs doctor",
            "For a node: name an empty or new folder: dfs serve --dir DIR",
        ),
    ),
    "DFS-E604": Explanation(
        "something else is using it",
        11,
        "Another process has the folder of the node or listens on its port, or a node has all the"
        " connections it may have.",
        NOTHING_CHANGED,
        (
            "Stop the other process, or take another folder or port: dfs serve --dir DIR --port PORT",
            "If a node is busy: run it again later",
        ),
    ),
    "DFS-E605": Explanation(
        "a disk failed",
        7,
        "Reading or writing failed on the disk of a node. The vault there is read-only until the node is"
        " restarted, so that nothing is written on top of something unknown.",
        "Nothing was lost while enough other nodes hold their shares.",
        (
            "See the log of the node, and its disk; then restart it",
            "Make again what its disk lost: dfs check --read-data, dfs repair",
            "If the disk is gone, start the node with an empty one: dfs replace NODE",
            "If a bucket does not answer, the node goes on by itself once it does; then dfs repair",
        ),
    ),
    "DFS-E900": Explanation(
        "this is a bug in dfs",
        1,
        "Something happened that the authors thought impossible. Rules that guard stored files stop a"
        " vault rather than go on with a doubt.",
        "Stored files are not touched. What the command was doing may be half done; run it again.",
        (
            "Run it again with --debug and report what it prints, which holds no secrets",
            "See whether all files are complete: dfs check",
        ),
    ),
}
