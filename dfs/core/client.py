"""The client of one cluster: logs in to the nodes, opens (or makes) the vault, and runs operations on it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from dfs.core import limits, messages, rekeying, vaults
from dfs.core.effects import Answers, Operation, Send, ask
from dfs.core.env import allocate_buffer
from dfs.core.errors import (
    AuthError,
    BusyError,
    ConfigError,
    ConflictError,
    DfsError,
    ForbiddenError,
    LoginError,
    NotInitialisedError,
    PeerIdentityError,
    QuorumError,
    RealmError,
    SealedError,
    UnknownOutcomeError,
    invariant,
)
from dfs.core.interface import Env, Transport
from dfs.core.keys import KdfParameters, LoginKeys, vault_keys
from dfs.core.link import Identity, Link, Trust
from dfs.core.pipeline import Slot, Stages, some_place
from dfs.core.quorum import default_geometry, quorum_of, share_threshold, survives
from dfs.core.recipes import Plugins as Plugins
from dfs.core.records import evolve, field, frozen
from dfs.core.registry import Registry
from dfs.core.roster import encode_roster, succeeds
from dfs.core.runner import Runner, core_count
from dfs.core.transfer import Vault
from dfs.core.types import Geometry, Node, NodeId, Roster, Settings, VaultState
from dfs.core.vacancies import vacancy
from dfs.core.wire import Mark
from dfs.core.wraps import Ring, keys_of

T = TypeVar("T")
ROTATING: Final = "The vault's key is being rotated; if that was cut off, it goes on with: dfs key rotate"
NO_ROSTER: Final = Roster(1, (Node(NodeId(bytes(limits.NODE_ID_SIZE))),), 1, 0)


@frozen
class Place:
    """Where a node is: what the conf says of it."""

    name: str
    address: str
    transport: Transport
    weight: float = 1.0
    zone: str = ""


@frozen
class ClientOptions:
    """What a client is made of. ``secret``: blocks until the login keys are there (or raises why not).

    ``known_marks``: the highest mark each node told this user before. ``entering``: whose vault a healer
    enters, "" = one's own.
    """

    places: Sequence[Place]
    realm: str
    user: str
    kdf: KdfParameters
    secret: Callable[[], LoginKeys] = field(repr=False)
    trust: Trust
    env: Env
    registry: Registry
    version: str
    sections: Mapping[str, Settings] = field(factory=dict)
    allow_insecure: Sequence[str] = ()
    geometry_needed: int | None = None
    geometry_total: int | None = None
    recipe: Mapping[str, str] = field(factory=dict)  # cipher, compressor, code, placement, chunker
    jobs: int = 0
    connect_timeout_s: float = limits.CONNECT_TIMEOUT_S
    request_timeout_s: float = limits.REQUEST_TIMEOUT_S
    known_marks: Mapping[NodeId, Mark] = field(factory=dict)
    entering: str = ""


@frozen
class Opened:
    """An open vault. ``made``: by this login. ``notes``: what people should know about nodes left out.

    ``owing``: nodes that do not know the present password yet. ``stale``: too few nodes said which keys are
    the present ones.
    """

    vault: Vault
    made: bool
    notes: tuple[str, ...]
    owing: frozenset[NodeId] = frozenset()
    stale: bool = False


class Client:
    """A client of one cluster; `open` first, `close` last. One command at a time."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self.plugins = Plugins(options)
        self.links: Mapping[NodeId, Link] = {}
        self._absent: Mapping[str, Exception] = {}  # why nobody was met at an address
        identity = Identity(options.realm, options.user, options.secret, options.version, options.entering)
        self._places = [
            (
                place,
                Link(
                    name=place.name,
                    address=place.address,
                    transport=place.transport,
                    identity=identity,
                    trust=options.trust,
                    env=options.env,
                    connection_count_max=self.worker_count,
                    connect_timeout_s=options.connect_timeout_s,
                    request_timeout_s=options.request_timeout_s,
                ),
            )
            for place in options.places
        ]
        # until HELLO told its node id, a node goes by its address
        self._runner = Runner(
            {_stand_in(link): link for _, link in self._places}, options.env, self.worker_count
        )

    @property
    def worker_count(self) -> int:
        """Chunks under way at once: 2 a core, as far as their buffers fit the memory bound."""
        geometry = Geometry(self._options.geometry_needed or 1, self._options.geometry_total or 2)
        ratio = geometry.total / geometry.needed
        bound = int(limits.CLIENT_BUFFER_SIZE // (limits.CHUNK_SIZE * (2 + ratio)))
        return max(1, min(2 * core_count(), bound, self._options.jobs or bound))

    def all_links(self) -> Iterator[Link]:
        """Yield the links to all nodes of the conf, in its order."""
        return (link for _, link in self._places)

    def slots(self) -> list[Slot]:
        """Return fresh chunk buffers, one a worker."""
        return [Slot(allocate_buffer) for _ in range(self.worker_count)]

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end.

        Raises:
            PeerIdentityError: the quorum is lost, and a node was left out for its certificate.
        """
        for _, link in self._places:
            link.begin_command()
        try:
            return self._runner.run(operation)
        except QuorumError as error:
            strangers = [link.down for _, link in self._places if isinstance(link.down, PeerIdentityError)]
            if not strangers:
                raise
            raise type(strangers[0])(
                f"{strangers[0].what}; {error.what}", next_step=strangers[0].next_step
            ) from None

    def open(self) -> Opened:
        """Log in everywhere and open the vault, making it if it is new on all nodes.

        Raises:
            LoginError, PeerIdentityError, RealmError, NotInitialisedError, QuorumError, ConflictError.
        """
        answers = self._meet()
        owner = self.owner()
        try:
            opened = self._open_vault(owner)
        except (QuorumError, NotInitialisedError) as error:
            raise _first(answers, PeerIdentityError, LoginError, BusyError) or error from None
        returning = [
            f"{opened.vault.named([node])} lost what it kept and"
            " does not count until it is brought up to date: dfs repair"
            for node in sorted(opened.vault.returning)
        ]
        return evolve(opened, notes=(*opened.notes, *self._notes(answers), *returning))

    # Steps of opening

    def _adopt(self, met: Mapping[NodeId, Link]) -> None:
        known: dict[NodeId, Link] = {}
        for link in met.values():
            if link.met is None:
                continue
            node_id = link.met.hello.node_id
            if node_id in known:
                raise ConfigError(
                    f"{known[node_id].label} and {link.label} are one node (the same node id)",
                    next_step="Name every node once in the conf.",
                )
            known[node_id] = link
        self.links = known
        self._runner.links.update(known)

    def _expect(self, roster: Roster) -> dict[NodeId, str]:
        """Give the nodes nobody has met yet the places nobody was met at, and return their labels.

        Both are in ring order as far as the conf is; a node that turns out to be another one is refused.
        """
        strangers = [node.node_id for node in roster.nodes if node.node_id not in self.links]
        silent = [link for _, link in self._places if link.met is None]
        if len(strangers) != len(silent):
            return {}
        for node, link in zip(strangers, silent, strict=True):
            link.expected = node
            self._runner.links[node] = link
        return {node: link.label for node, link in zip(strangers, silent, strict=True)}

    def _members(self) -> dict[NodeId, vaults.Member]:
        return {
            node: vaults.Member(link.met.login.state, link.met.login.roster)
            for node, link in self.links.items()
            if link.met is not None
        }

    def owner(self) -> vaults.Owner:
        """Whose vault it is; waits for the keys. Raises: what kept them from being there."""
        options = self._options
        return vaults.Owner(options.realm, options.user, options.kdf, options.secret())

    def _open_vault(self, owner: vaults.Owner) -> Opened:
        members = self._members()
        roster = vaults.current_roster(members)
        fresh = all(member.state is VaultState.NEW for member in members.values())
        bare = self._bare_vault(owner)
        if fresh and len(members) < len(self._places):
            away = ", ".join(link.label for _, link in self._places if link not in self.links.values())
            raise NotInitialisedError(
                f"there is no vault for {owner.user} yet;"
                f" it is made once all nodes are up, now missing: {away}"
            )
        if fresh:
            self._require_owner(owner)
            roster = self.run(vaults.make_roster(bare, roster or self._wanted_roster()))
            members = {node: vaults.Member(VaultState.NEW, roster) for node in members}
        vault = self._settled(bare, roster, members)
        found = self.run(vaults.find_wrap(vault, owner))
        if found is None:
            if not fresh:
                raise NotInitialisedError("the nodes hold a vault without its key")
            master = self.run(vaults.make_wrap(vault, owner))
            return Opened(evolve(vault, keys=vault_keys(master)), True, ())
        opened = Opened(vault, False, ())
        if found.ring.kin:
            opened = self._catch_up(vault, owner, found)
            vault, members = opened.vault, self._members()
        if found.ring.turn is not None:
            vault = self.run(vaults.in_force(vault, found.ring.turn))
            opened = evolve(opened, notes=(*opened.notes, ROTATING))
        late = [node for node in vault.counted if members[node].state is VaultState.NEW]
        if late:
            self.run(vaults.activate(vault, late))
        return evolve(opened, vault=evolve(vault, keys=vault_keys(found.master)), stale=found.stale)

    # Passwords

    def _catch_up(self, vault: Vault, owner: vaults.Owner, found: vaults.OpenedWrap) -> Opened:
        """Tell the login key to nodes that still have a former one; when all have it, those are over."""
        lagging = self._enter_lagging(found.ring)
        if lagging:
            members = self._members()
            vault = self._settled(self._bare_vault(owner), vaults.current_roster(members), members)
        told = self.run(rekeying.catch_up(owner, found.ring.epoch, lagging))
        for node in told.replies:
            self.links[node].keep_to(None)
        notes = [f"{self.links[node].label}: {error}" for node, error in told.errors.items()]
        ids = {node.node_id for node in vault.roster.nodes}
        knowing = self.links.keys() - lagging.keys() | told.replies.keys()
        if any(kin.epoch > found.ring.epoch for kin in found.ring.kin):
            notes.append("A change of the password was begun and not finished. To finish it: dfs passwd")
        elif knowing >= ids:
            with suppress(QuorumError, ConflictError, UnknownOutcomeError):  # the next login tries again
                self.run(rekeying.settle(vault, owner, found))
        return Opened(vault, False, tuple(notes), frozenset(ids - knowing))

    def _enter_lagging(self, ring: Ring) -> dict[NodeId, LoginKeys]:
        """Log in with former passwords where the present one is refused; returns with which, by node."""
        lagging: dict[NodeId, LoginKeys] = {}
        for kin in ring.former:
            refused = [
                link
                for _, link in self._places
                if link.met is None and isinstance(self._absent.get(link.address), LoginError)
            ]
            for link in refused:
                link.keep_to(keys_of(kin))
                link.expected = None  # which of the vault's nodes it is, it says now
            self.run(ask([Send(place, place, messages.Ping()) for place in map(_stand_in, refused)]))
            for link in refused:
                if link.met is None:
                    link.keep_to(None)
                else:
                    lagging[link.met.hello.node_id] = keys_of(kin)
        self._adopt({_stand_in(link): link for _, link in self._places if link.met is not None})
        return lagging

    def change_password(self, vault: Vault, new: vaults.Owner) -> Ring:
        """Let another password open the vault, and tell all nodes its login key; returns its ring.

        Both passwords are good until the first login with the new one, which is due next.

        Raises:
            ForbiddenError: a node's users file has a password in clear text. ConfigError, ConflictError.
            QuorumError: too few nodes take it; the old one stays. UnknownOutcomeError.
        """
        owner = self.owner()
        found = self.wrap(vault, owner)
        held = {node.node_id: owner.login for node in vault.roster.nodes if node.node_id in self.links}
        probed = self.run(rekeying.tell(owner, found.ring.epoch, held))
        for error in probed.errors.values():
            if isinstance(error, ForbiddenError):
                raise error
        ring = self.run(rekeying.begin(vault, owner, found, new))
        answers = self.run(rekeying.tell(new, ring.epoch, held))
        group = vault.group(found.register.directory)
        taken = vault.counted.intersection(group.nodes, answers.replies)
        if len(taken) < group.quorum.read:
            raise QuorumError(
                f"{len(taken)} of {len(group.nodes)} nodes take the new password, {group.quorum.read} needed"
                f" ({vault.reasons(answers.errors)})",
                kept="The old password is still the one.",
            )
        return ring

    def add_recovery(self, vault: Vault, secret: bytes, *, only: bool) -> None:
        """Let a recovery key open the vault. Raises: as `rekeying.add_recovery`."""
        owner = self.owner()
        self.run(rekeying.add_recovery(vault, owner, self.wrap(vault, owner), secret, only=only))

    def wrap(self, vault: Vault, owner: vaults.Owner) -> vaults.OpenedWrap:
        """Return the wrap that an owner's keys open. Raises: SealedError, QuorumError."""
        found = self.run(vaults.find_wrap(vault, owner))
        if found is None:
            raise QuorumError("the vault's key cannot be read now")
        return found

    def recover(self, key: vaults.Owner, *, is_recovery: bool) -> None:
        """Let the password of this login open a vault that another ``key`` opens.

        Raises:
            LoginError: the nodes do not know this login. SealedError: the key opens no vault of this user.
            ConflictError: this password opens it already. NotInitialisedError, QuorumError.
        """
        self._meet()
        owner = self.owner()
        members = self._members()
        roster = vaults.current_roster(members)
        if all(member.state is VaultState.NEW for member in members.values()):
            raise NotInitialisedError(f"there is no vault of {owner.user} yet")
        vault = self._settled(self._bare_vault(owner), roster, members)
        with suppress(SealedError):
            self.wrap(vault, owner)
            raise ConflictError("this password opens the vault already", next_step="Just use it.")
        found = self.run(vaults.find_wrap(vault, key))
        if found is None:
            raise QuorumError("the vault's key cannot be read now")
        self.run(rekeying.recover(vault, owner, key, found, is_recovery=is_recovery))

    def _require_owner(self, owner: vaults.Owner) -> None:
        """Make no vault for a healer. Raises: ForbiddenError."""
        links = self.links
        answers = self.run(ask([Send(node, node, messages.Vaults("")) for node in links], quick=True))
        if answers.replies:
            raise ForbiddenError(
                f"{owner.user} is a healer's account: it has no files of its own",
                next_step="It can run dfs repair --all and dfs status.",
            )

    def _settled(self, vault: Vault, roster: bytes, members: dict[NodeId, vaults.Member]) -> Vault:
        """Return the vault with the nodes that count, after telling those that lost state what they are."""
        behind = {
            node: known.mark
            for node, known in self._options.known_marks.items()
            if node in self.links and members[node].roster and self._is_behind(self.links[node], known)
        }
        for node, state in (self.run(vaults.quarantine(behind)) if behind else {}).items():
            members[node] = evolve(members[node], state=state)
        members.update(self.run(vaults.renew(roster, members)))
        settled = vaults.settled(vault, roster, members)
        settled = evolve(settled, names={**vault.names, **self._expect(settled.roster)})
        strangers = vaults.strangers_of(members, settled.roster)
        joined = self.run(vaults.join(roster, strangers)) if strangers and settled.counted else frozenset()
        return evolve(settled, returning=settled.returning | joined)

    @staticmethod
    def _is_behind(link: Link, known: Mark) -> bool:
        met = link.met
        return met is not None and met.hello.incarnation == known.incarnation and link.told.mark < known.mark

    def marks(self) -> dict[NodeId, Mark]:
        """Return the highest marks that nodes told."""
        return {node: link.told for node, link in self.links.items() if link.told.mark}

    def open_entered(self) -> Opened:
        """Open the vault that this healer entered, without keys. Raises: QuorumError, NotInitialisedError."""
        self._meet()
        members = self._members()
        roster = vaults.current_roster(members)
        if not roster:
            raise NotInitialisedError(f"there is no vault of {self._options.entering} yet")
        owner = self.owner()
        vault = self._settled(evolve(self._bare_vault(owner), keyless=True), roster, members)
        return Opened(vault, made=False, notes=())

    def users(self) -> list[str]:
        """Return whose vaults a healer may enter, as nodes name them. Raises: ForbiddenError, QuorumError."""
        self._meet()
        found: set[str] = set()
        after: dict[NodeId, str] = dict.fromkeys(self.links, "")
        refused: list[ForbiddenError] = []
        while after:
            asked, after = after, {}
            sends = [Send(node, node, messages.Vaults(last)) for node, last in asked.items()]
            answers = self.run(ask(sends, quick=True))
            refused += [error for error in answers.errors.values() if isinstance(error, ForbiddenError)]
            for node, reply in answers.replies.items():
                if isinstance(reply.response, messages.VaultsReply):
                    found.update(reply.response.users)
                    last = max(reply.response.users, default="")
                    if reply.response.more and last > asked[node]:  # else it would never end
                        after[node] = last
        if refused and not found:
            raise refused[0]
        return sorted(found)

    def _meet(self) -> Answers:
        """Log in everywhere. Raises: what kept every node away."""
        answers = self.run(
            ask([Send(node, node, messages.Ping()) for node in self._runner.links], quick=True)
        )
        links = self._runner.links
        met = {node: link for node, link in links.items() if node in answers.replies}
        self._absent = {links[node].address: error for node, error in answers.errors.items()}
        self._adopt(met)
        if not met:
            raise self._nobody(answers)
        return answers

    def _bare_vault(self, owner: vaults.Owner) -> Vault:
        names = {node: link.label for node, link in self.links.items()}
        return Vault(
            keys=vault_keys(owner.login.kek),
            roster=NO_ROSTER,
            roster_digest=b"",
            counted=frozenset(),
            entropy=self._options.env.random_bytes,
            names=names,
            stages_of=self.plugins.stages,
            packer_of=self.plugins.packer,
            code_of=self.plugins.code,
        )

    def _wanted_roster(self) -> bytes:
        node_of = {link.address: node for node, link in self.links.items()}
        nodes = [Node(node_of[place.address], place.weight, place.zone) for place, _ in self._places]
        return vaults.new_roster(nodes, self._options.geometry_total)

    def is_superseded(self, vault: Vault) -> bool:
        """Whether a node turned this client away because its vault was opened anew meanwhile."""
        told = {link.roster for _, link in self._places}
        return any(roster and succeeds(roster, encode_roster(vault.roster)) for roster in told)

    def refresh(self, vault: Vault) -> Vault:
        """Ask nodes that nobody has met yet, and return the vault with those that are back counted."""
        links = self._runner.links
        silent = [node.node_id for node in vault.roster.nodes if node.node_id not in self.links]
        silent = [node for node in silent if node in links]
        if not silent:
            return vault
        self.run(ask([Send(node, node, messages.Ping()) for node in silent], quick=True))
        back = {node: links[node] for node in silent if links[node].met is not None}
        self.links = {**self.links, **back}
        members = {node: member for node, member in self._members().items() if node in back}
        members = self.run(vaults.renew(encode_roster(vault.roster), members))
        vault = vaults.met(vault, members)
        late = [node for node in vault.counted.intersection(back) if members[node].state is VaultState.NEW]
        if late:
            self.run(vaults.activate(vault, late))
        return vault

    def stages(self, vault: Vault) -> Stages:
        """Return the stages of new files in a vault.

        Raises:
            ConfigError: the geometry does not fit the vault, or the combination survives no loss.
        """
        total = vault.roster.group_size
        needed = min(total, self._options.geometry_needed or default_geometry(total).needed)
        code = self._options.recipe["code"]
        geometry = self._options.registry.get("dfs_codes", code).plugin.fit(Geometry(needed, total))
        stages = self.plugins.stages(self.plugins.recipe(geometry))
        rows = _share_map(stages, vault.roster.nodes[:total])
        if total > 1 and needed < total and survives(geometry, rows, range(total)) < 1:
            raise ConfigError(
                f"code {code} with placement {self._options.recipe['placement']} survives the loss of no node"
            )
        return stages

    def write_threshold(self, vault: Vault) -> int:
        """Return how many nodes of a group must answer for a new file to be stored: max(R, W, H)."""
        stages, total = self.stages(vault), vault.roster.group_size
        quorum = quorum_of(total, vault.roster.tolerance)
        rows = _share_map(stages, vault.roster.nodes[:total])
        return max(quorum.read, quorum.write, share_threshold(stages.recipe.geometry, rows, quorum))

    # Why it could not be opened

    def _notes(self, answers: Answers) -> list[str]:
        order = [link.address for _, link in self._places]
        notes = [
            f"{self._runner.links[node].label} does not know this login; for its users file: dfs key show"
            if isinstance(error, LoginError)
            else error.line
            for node, error in sorted(
                answers.errors.items(), key=lambda each: order.index(self._runner.links[each[0]].address)
            )
            if isinstance(error, (PeerIdentityError, RealmError, AuthError, BusyError))
            if self._runner.links[node].met is None  # else a former password opened it
        ]
        if plain := ", ".join(place.name for place, _ in self._places if not place.transport.confidential):
            told = f"the connection with {plain} is not encrypted: who is on the way sees who stores how much"
            notes.append(f"{told}, and can delete")
        return notes

    def _nobody(self, answers: Answers) -> Exception:
        labels = {link.address: link.label for link in self.all_links()}
        told = {self._runner.links[node].address: error for node, error in answers.errors.items()}
        by_address = {  # in the order of the conf
            address: str(getattr(told[address], "what", told[address]))
            for address in labels
            if address in told
        }
        reasons = "; ".join(
            f"{labels[address]}: {what.removeprefix(f'{address} ')}" for address, what in by_address.items()
        )
        gravest = _first(answers, LoginError, BusyError, PeerIdentityError, RealmError, ConfigError)
        return gravest or QuorumError(f"no node answers ({reasons})", reasons=by_address)

    def vacancy(self, vault: Vault, name: str) -> tuple[Link, NodeId]:
        """Return the link to an empty node of the conf and the id of the lost node whose place it takes.

        Raises: as `vacancies.vacancy`.
        """
        return vacancy(self._places, self.links, self._absent, vault, name)

    def adopt(self, link: Link, node: NodeId, incarnation: int) -> None:
        """Give an empty node the id of a lost one. Raises: ConflictError: it is not empty. NodeError."""
        met = link.met
        invariant(met is not None, "a node that nobody met cannot adopt an id")
        there = met.hello.node_id  # type: ignore[union-attr] # see above
        answers = self.run(ask([Send(there, there, messages.Adopt(node, incarnation))]))
        for error in answers.errors.values():
            raise error

    def close(self) -> None:
        """End all connections and threads."""
        self._runner.close()


def _stand_in(link: Link) -> NodeId:
    return NodeId(b"at " + link.address.encode())


def _first(answers: Answers, *kinds: type[DfsError]) -> DfsError | None:
    """Return the first error of the first of these kinds that a node gave."""
    errors = list(answers.errors.values())
    return next((error for kind in kinds for error in errors if isinstance(error, kind)), None)


def _share_map(stages: Stages, members: Sequence[Node]) -> list[list[int]]:
    """Return which of a group's nodes, by index, would hold each share of some chunk."""
    facts, key = some_place(stages, members)
    placed = stages.placement.place(facts, key, len(members), stages.code.copies, members)
    return [[members.index(node) for node in row] for row in placed]
