"""What requests and replies have many of: values, found under `messages` too, where they are used."""

import pytest
from attrs.exceptions import FrozenInstanceError

from dfs.core import message_items, messages
from dfs.core.types import NO_BALLOT


def test_a_result_names_nothing_unless_it_must() -> None:
    assert message_items.AcceptResult(message_items.ACCEPTED) == messages.AcceptResult(0, NO_BALLOT, ())


def test_items_are_values() -> None:
    result = message_items.FetchResult(message_items.ABSENT, 0, b"")
    assert result == messages.FetchResult(messages.ABSENT, 0, b"")
    with pytest.raises(FrozenInstanceError):
        result.status = message_items.FOUND  # type: ignore[misc]
    assert len({message_items.FOUND, message_items.ABSENT, message_items.CORRUPT}) == 3
