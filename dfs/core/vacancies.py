"""Whose place an empty node takes: that of the lost node at its place in the conf."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from dfs.core.errors import ConfigError, ConflictError, UnreachableError
from dfs.core.link import Link
from dfs.core.transfer import Vault
from dfs.core.types import NodeId


class Named(Protocol):
    """A node of the conf."""

    @property
    def name(self) -> str:
        """What people call it."""


def vacancy(
    places: Sequence[tuple[Named, Link]],
    links: Mapping[NodeId, Link],
    absent: Mapping[str, Exception],
    vault: Vault,
    name: str,
) -> tuple[Link, NodeId]:
    """Return the link to an empty node of the conf and the id of the lost node whose place it takes.

    Args:
        places: all nodes of the conf, in its order.
        links: to those that were met.
        absent: why nobody was met at an address.

    Raises:
        ConfigError: no such node. ConflictError: it is not empty, or nothing is lost there. NodeError: it
            does not answer.
    """
    index, link = next(
        ((index, link) for index, (place, link) in enumerate(places) if place.name.lower() == name.lower()),
        (-1, None),
    )
    if link is None:
        known = ", ".join(place.name for place, _ in places)
        raise ConfigError(f"the conf names no node {name}", next_step=f"It names {known}.")
    if link.met is None:
        raise absent.get(link.address, UnreachableError(f"{link.label} does not answer"))
    ids = [node.node_id for node in vault.roster.nodes]
    lost = [node for node in ids if node not in links]
    if link.met.hello.node_id in ids:
        raise ConflictError(f"{link.label} is a node of this vault already", kept="Nothing was changed.")
    if _in_order([each for _, each in places], links, ids) and ids[index] in lost:
        return link, ids[index]
    if len(lost) != 1:
        raise ConflictError(
            f"{len(lost)} nodes are lost, and it does not show whose place {link.label} takes",
            next_step="List the nodes in the conf in the order in which the vault was made.",
        )
    return link, lost[0]


def _in_order(places: Sequence[Link], links: Mapping[NodeId, Link], ids: Sequence[NodeId]) -> bool:
    """Return whether the conf lists the nodes as the vault does, as far as they were met."""
    at = {link: node for node, link in links.items() if node in ids}
    return len(places) == len(ids) and all(
        at.get(link, node) == node for link, node in zip(places, ids, strict=True)
    )
