"""The mutants: which rule each one breaks, and what a run must look like to meet it."""

from collections.abc import Callable
from typing import Any, Final

from attrs import evolve, field, frozen

from dfs.testing.simulation.plan import Plan
from tests.simulation import (
    mutants_clients as clients,
    mutants_nodes as nodes,
    mutants_scenes as scenes,
    mutants_settings as settings,
)
from tests.simulation.mutants_patching import Patches


def _as_it_is() -> Patches:
    return ()


@frozen
class Mutant:
    """One rule, broken. ``plan``: how runs meet it. ``seed``: one near which it is caught.

    ``setting``: patches that break no rule, such as a node that lies; the right code runs with them too.
    ``told``: words of the violations that count where the setting itself keeps others from holding.
    """

    name: str
    rule: str
    patches: Callable[[], Patches]
    plan: Plan = field(repr=False)
    seed: int = field(kw_only=True)
    setting: Callable[[], Patches] = _as_it_is
    told: str = ""

    @property
    def number(self) -> str:
        """Its name without the letter of a variant."""
        return self.name.rstrip("abcdefgh")


# --- What befalls runs ------------------------------------------------------------------------------------

LOST: Final = {"client": 4.0, "loss": 2.0}
AWAY: Final = {"client": 3.0, "loss": 2.0, "crash": 1.0, "freeze": 1.0, "partition": 2.0}

READERS: Final = {"put": 3.0, "get": 8.0}
CONDITIONS: Final = {"version": 4.0, "put": 1.0, "get": 2.0}
REMOVERS: Final = {"put": 3.0, "rm": 4.0, "get": 4.0}


def _registers(node_count: int, **changed: Any) -> Plan:
    """Several clients on one path of small files: what registers decide is what counts."""
    plan = Plan(
        node_count=node_count,
        needed=max(1, node_count // 2),
        client_count=3,
        path_count=1,
        operation_count=20,
        weights=READERS,
        faults=LOST,
        calm_steps=40.0,
        lease_s=86400.0,
        small=False,
        degraded=0.0,
    )
    return evolve(plan, **changed)


def _shares(node_count: int, **changed: Any) -> Plan:
    """Several clients on few paths of files that share chunks; pins end soon, and much is collected."""
    plan = Plan(
        node_count=node_count,
        needed=max(1, node_count // 2),
        client_count=3,
        path_count=2,
        operation_count=20,
        weights={"put": 6.0, "get": 4.0, "rm": 2.0},
        faults={"client": 2.0, "tidy": 10.0},
        calm_steps=20.0,
        lease_s=0.05,
        small=True,
        share_inline_size=0,
        store="volumes",
        degraded=0.0,
    )
    return evolve(plan, **changed)


def _directed(**changed: Any) -> Plan:
    """Three nodes where nothing befalls anybody but what a scene has in store."""
    plan = _registers(3, needed=1, client_count=1, operation_count=0, faults={}, store="volumes", skew=False)
    return evolve(plan, **{"loss": 0.0, "doubling": 0.0, "tardiness": 0.0, **changed})


MUTANTS: Final = (
    Mutant("M1", "reads do not write back", clients.no_write_back, _registers(2), seed=0),
    Mutant(
        "M2",
        "answer although write-back reached fewer than W",
        clients.narrow_write_back,
        _registers(2),
        seed=2,
    ),
    Mutant("M3", "R + W = n", clients.no_intersection, _registers(3), seed=6),
    Mutant("M4", "W = k", clients.writes_at_needed, _registers(2), seed=2),
    Mutant(
        "M5",
        "r = 0, one node rolled back",
        clients.no_tolerance,
        _registers(
            4,
            weights={"put": 4.0, "get": 4.0},
            calm_steps=25.0,
            faults={"client": 2.0, "loss": 2.0, "rollback": 5.0},
        ),
        seed=41,
    ),
    Mutant("M6a", "fast answer on R equal replies, R < W", clients.equal_replies, _registers(2), seed=2),
    Mutant("M6b", "fast answer on any top", clients.any_top, _registers(3), seed=15),
    Mutant(
        "M7",
        "versions ordered by the writers' clocks",
        clients.clock_ballots,
        _registers(3, skew=True),
        seed=4,
    ),
    Mutant(
        "M8",
        "if-version as GET, compare, PUT",
        clients.unconditional,
        _registers(3, weights=CONDITIONS),
        seed=22,
    ),
    Mutant("M9", "attempt id reused", clients.reused_attempt, _registers(2), seed=19),
    Mutant(
        "M10a", "FAILED said after an ACCEPT was sent", clients.failed_after_accept, _registers(3), seed=48
    ),
    Mutant(
        "M10b",
        "retry without operation id",
        clients.retried_as_new,
        _registers(
            3, weights=CONDITIONS, calm_steps=20.0, operation_count=30, faults={"freeze": 3.0, "slow": 2.0}
        ),
        seed=349,
        setting=settings.users_who_try_again,
    ),
    Mutant(
        "M11a",
        "shares acknowledged before they are synced",
        nodes.unsynced,
        _shares(3, faults={"crash": 2.0, "cut": 2.0}),
        seed=0,
    ),
    Mutant(
        "M11b",
        "promises kept in memory only",
        nodes.volatile_promises,
        _directed(),
        setting=scenes.restarts_between_promises,
        seed=8,
    ),
    Mutant(
        "M12",
        "failed sync retried and believed",
        nodes.sync_retried,
        _shares(3, faults={"crash": 2.0, "sync": 3.0}),
        seed=0,
    ),
    Mutant(
        "M13",
        "tombstones dropped by age",
        nodes.tombstones_by_age,
        _registers(3, weights=REMOVERS, faults={**LOST, "tidy": 4.0, "freeze": 2.0}),
        seed=0,
    ),
    Mutant(
        "M14",
        "tombstone dropped while a node is JOINING",
        clients.tombstones_while_joining,
        _directed(),
        setting=scenes.removed_behind_a_return,
        seed=0,
    ),
    Mutant("M15", "ACCEPT without looking at the shares again", nodes.unchecked_accept, _shares(3), seed=0),
    Mutant(
        "M16",
        "'have' without a pin",
        nodes.unpinned,
        _shares(3, lease_s=0.3, client_count=4, calm_steps=6.0, operation_count=30),
        seed=7,
        setting=settings.watched_pins,
    ),
    Mutant(
        "M17a",
        "old claims dropped at ACCEPT",
        nodes.claims_dropped_at_accept,
        _shares(3),
        seed=5000,
        setting=settings.watched_claims,
    ),
    Mutant(
        "M17b",
        "space given back before the commit of the rows",
        nodes.punched_before_commit,
        _shares(3, calm_steps=10.0, operation_count=30, faults={"cut": 1.0, "tidy": 5.0}),
        seed=5005,
        setting=settings.cuts_while_collecting,
    ),
    Mutant(
        "M18",
        "a JOINING node counts in R",
        clients.joining_counts,
        _directed(),
        setting=scenes.joining_and_away,
        seed=0,
    ),
    Mutant(
        "M19",
        "a corrupt row answers as absent",
        nodes.corrupt_as_absent,
        _directed(),
        setting=scenes.corrupt_and_away,
        seed=0,
    ),
    Mutant(
        "M20",
        "LIST as the union of what nodes have",
        clients.plain_union,
        _registers(3, weights={"put": 3.0, "rm": 3.0, "list": 6.0}),
        seed=4,
    ),
    Mutant(
        "M21",
        "chunks of two versions mixed",
        clients.mixed_versions,
        _directed(needed=2, small=True, share_inline_size=0, lease_s=0.05),
        setting=scenes.replaced_while_read,
        seed=0,
    ),
    Mutant(
        "M22",
        "equal ballot with another digest accepted (over M9)",
        nodes.contradictions_accepted,
        _registers(2),
        seed=5101,
    ),
    Mutant(
        "M23",
        "rename removes the old name first",
        clients.old_name_first,
        _shares(
            3,
            lease_s=60.0,
            calm_steps=30.0,
            weights={"put": 3.0, "rename": 4.0, "get": 3.0},
            faults={"client": 3.0, "loss": 1.0},
        ),
        seed=28,
    ),
    Mutant(
        "M24",
        "owed shares counted in H and s",
        clients.owed_as_held,
        _shares(4, degraded=1.0, faults={"full": 5.0, "tidy": 1.0}, lease_s=60.0),
        seed=5013,
        setting=settings.watched_outcomes,
    ),
    Mutant(
        "M25",
        "the roster's digest is not checked",
        nodes.any_roster,
        _registers(4),
        seed=32,
        setting=settings.an_old_roster,
    ),
    Mutant(
        "M26",
        "confirmed believed without its tag, one liar",
        clients.tag_unread,
        _registers(2),
        seed=5017,
        told="no order explains",
        setting=settings.a_liar,
    ),
    Mutant(
        "M27",
        "absence in a degraded read said as 'not found'",
        clients.absence_for_certain,
        _registers(4, faults=AWAY),
        seed=9,
    ),
    Mutant(
        "M28",
        "CONFIRM says safe below H",
        clients.always_safe,
        _shares(
            4,
            needed=3,
            degraded=1.0,
            lease_s=60.0,
            faults={"full": 5.0, "tidy": 1.0},
        ),
        seed=5010,
        setting=settings.watched_confirms,
    ),
    Mutant(
        "M29",
        "FORGET leaves no floor",
        nodes.no_floor,
        _registers(3, calm_steps=1e9, tardiness=0.15, doubling=0.1, weights={"put": 4.0, "rm": 5.0}),
        seed=5060,
    ),
    Mutant(
        "M30",
        "a value with shares on fewer than k nodes completed",
        clients.below_needed,
        _shares(4, needed=3, path_count=1, lease_s=0.5, faults={"client": 5.0, "tidy": 10.0}),
        seed=9040,
        setting=settings.watched_confirms,
    ),
    Mutant(
        "M31",
        "if-version compares ballots",
        clients.versions_by_ballot,
        _registers(2, weights={"version": 4.0, "put": 1.0, "get": 3.0}),
        seed=14,
    ),
)
