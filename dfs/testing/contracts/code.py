"""The contract of an erasure code: any k shares make every share, and nothing is written beside a target."""

import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar

import pytest
from attrs import frozen
from hypothesis import given, strategies as st

from dfs.core.api import Buffer, Code, CodeOptions, CodePlugin, Geometry, IncompleteError, Settings
from dfs.testing.contracts.base import (
    KIB,
    MIB,
    NOISE,
    Guarded,
    OptionedContract,
    Source,
    check_bytes,
    in_threads,
    memory_bound,
    property_test,
)

WISHES = (Geometry(1, 1), Geometry(1, 3), Geometry(2, 3), Geometry(2, 4), Geometry(4, 6), Geometry(10, 14))
SUBSET_COUNT_MAX = 60  # subsets of k shares tried, of each geometry


@frozen
class CodeVector:
    """Shares of a format version, in hex: what a stripe becomes under a geometry; all n shares."""

    needed: int
    total: int
    stripe: str
    shares: tuple[str, ...]


class CodeContract(OptionedContract[CodePlugin]):
    """Derive it and name the ``plugin``; ``vectors``: frozen shares of its format version.

    ``wishes``: geometries that users might ask for; `fit` says what the code makes of each.
    """

    kind = CodePlugin
    wishes: ClassVar[Any] = WISHES
    vectors: ClassVar[Any] = ()  # CodeVector objects

    def new(self, geometry: Geometry) -> Code:
        """Return a code for a geometry it can do."""
        code: Code = self.plugin.make(CodeOptions(geometry=geometry, values=self.values))
        return code

    def made(self, values: Settings) -> object:
        """Make one with these options."""
        return self.plugin.make(CodeOptions(geometry=self.geometries()[0], values=values))

    def geometries(self) -> list[Geometry]:
        """Return what `fit` makes of the wishes, each once."""
        return list(dict.fromkeys(self.plugin.fit(wish) for wish in self.wishes))

    def shares(self, code: Code, stripe: bytes) -> list[bytes]:
        """Return all n shares of a stripe that is a multiple of k long."""
        needed, total = code.geometry.needed, code.geometry.total
        size = len(stripe) // needed
        rooms = [Guarded(size) for _ in range(total - needed)]
        source = Source(stripe)
        code.encode_into(source.view, [room.target for room in rooms])
        source.free()
        return [stripe[index * size : (index + 1) * size] for index in range(needed)] + [
            room.content for room in rooms
        ]

    def decoded(
        self, code: Code, shares: Mapping[int, Buffer], wanted: Sequence[int], size: int
    ) -> list[bytes]:
        """Return the wanted shares, made from these."""
        sources = {index: Source(share, index % 5) for index, share in shares.items()}
        rooms = {index: Guarded(size) for index in wanted}
        code.decode_into(
            {index: source.view for index, source in sources.items()},
            {index: room.target for index, room in rooms.items()},
        )
        for source in sources.values():
            source.free()
        return [rooms[index].content for index in wanted]

    def test_fit_gives_what_can_be_done(self) -> None:
        """The nearest geometry keeps n, can be made, and fits itself; the code says what it was made for."""
        for wish in self.wishes:
            geometry = self.plugin.fit(wish)
            assert geometry.total == wish.total
            assert self.plugin.fit(geometry) == geometry
            code = self.new(geometry)
            assert code.geometry == geometry
            assert 1 <= code.copies <= max(geometry.total, 2)

    @property_test
    @given(st.integers(0, 1 << 34), st.integers(1, 1 << 20))
    def test_shares_hold_the_stripe(self, stripe_size: int, more: int) -> None:
        """K shares have room for the stripe, none for an empty one, and a longer stripe never has less."""
        for geometry in self.geometries():
            code = self.new(geometry)
            size = code.share_size(stripe_size)
            assert size * geometry.needed >= stripe_size
            assert code.share_size(stripe_size + more) >= size
            assert code.share_size(0) == 0

    def test_any_k_shares_make_every_share(self) -> None:
        """Each choice of k shares makes all n, whatever their order and whether parity or not."""
        for geometry in self.geometries():
            code = self.new(geometry)
            shares = self.shares(code, random.Random(geometry.needed).randbytes(geometry.needed * 67))  # noqa: S311
            choices = list(combinations(range(geometry.total), geometry.needed))
            random.Random(1).shuffle(choices)  # noqa: S311 - the same choices always
            for chosen in choices[:SUBSET_COUNT_MAX]:
                given_shares = {index: shares[index] for index in reversed(chosen)}
                assert self.decoded(code, given_shares, range(geometry.total), 67) == shares, (
                    geometry,
                    chosen,
                )

    @property_test
    @given(st.data())
    def test_only_what_is_wanted_is_written(self, draw: st.DataObject) -> None:
        """Any stripe, any k shares, any wish: exactly the wanted shares appear, at any address."""
        geometry = draw.draw(st.sampled_from(self.geometries()))
        size, seed = draw.draw(st.integers(0, 300)), draw.draw(st.integers(0, 99))
        code = self.new(geometry)
        shares = self.shares(code, random.Random(seed).randbytes(geometry.needed * size))  # noqa: S311
        chosen = draw.draw(st.permutations(range(geometry.total)))[: geometry.needed]
        wanted = sorted(draw.draw(st.sets(st.integers(0, geometry.total - 1))))
        made = self.decoded(code, {index: shares[index] for index in chosen}, wanted, size)
        assert made == [shares[index] for index in wanted]

    @pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 300_001])
    def test_no_size_leaves_a_seam(self, size: int) -> None:
        """Round trip at the sizes round which codes that work in pieces go wrong."""
        geometry = self.plugin.fit(Geometry(2, 3))
        code = self.new(geometry)
        shares = self.shares(code, (NOISE * 2)[: geometry.needed * size])
        last = dict(list(enumerate(shares))[-geometry.needed :])
        for found, wanted in zip(self.decoded(code, last, range(geometry.total), size), shares, strict=True):
            check_bytes(found, wanted)

    def test_known_answers(self) -> None:
        """Shares of a format version are frozen: those of years ago and of today go together."""
        if not self.vectors:
            pytest.skip(
                "no known answers: set `vectors`, so that shares of this format version stay what they are"
            )
        for vector in self.vectors:
            code = self.new(Geometry(vector.needed, vector.total))
            assert (
                tuple(share.hex() for share in self.shares(code, bytes.fromhex(vector.stripe)))
                == vector.shares
            )

    def test_encoding_is_deterministic(self) -> None:
        """The same shares again and from another instance: what one client lost another one makes."""
        for geometry in self.geometries():
            code, stripe = self.new(geometry), NOISE[: geometry.needed * 100]
            first = self.shares(code, stripe)
            self.shares(code, bytes(geometry.needed * 50))
            assert self.shares(code, stripe) == first == self.shares(self.new(geometry), stripe)

    def test_more_than_k_shares_are_ignored(self) -> None:
        """With more shares than needed the result is the same."""
        for geometry in self.geometries():
            code = self.new(geometry)
            shares = self.shares(code, NOISE[: geometry.needed * 40])
            assert self.decoded(code, dict(enumerate(shares)), range(geometry.total), 40) == shares

    def test_too_few_shares_are_incomplete(self) -> None:
        """IncompleteError for k - 1 shares, and for none."""
        for geometry in self.geometries():
            code = self.new(geometry)
            shares = self.shares(code, NOISE[: geometry.needed * 8])
            few = dict(list(enumerate(shares))[: geometry.needed - 1])
            for given_shares in (few, {}):
                with pytest.raises(IncompleteError):
                    code.decode_into(given_shares, {geometry.total - 1: memoryview(bytearray(8))})

    def test_wrong_sizes_and_counts_are_refused_in_encoding(self) -> None:
        """ValueError for a stripe or a target that does not fit, before a byte is written."""
        for geometry in self.geometries():
            code, count = self.new(geometry), geometry.total - geometry.needed
            stripe, size = bytes(geometry.needed * 8), 8
            rooms = [Guarded(size) for _ in range(count + 1)]
            wrong: list[tuple[Buffer, list[memoryview]]] = [(stripe, [room.target for room in rooms])]
            if count:
                wrong.append((stripe, [room.target for room in rooms[: count - 1]]))
                wrong.append((stripe, [rooms[0].target[:-1], *(room.target for room in rooms[1:count])]))
            if geometry.needed > 1:
                wrong.append((stripe[:-1], [room.target for room in rooms[:count]]))
            for source, parity in wrong:
                with pytest.raises(ValueError):
                    code.encode_into(source, parity)
            assert all(room.intact() for room in rooms)

    def test_wrong_sizes_and_indexes_are_refused_in_decoding(self) -> None:
        """ValueError for shares of unlike size and for indexes that are none."""
        for geometry in self.geometries():
            code, total = self.new(geometry), geometry.total
            shares: dict[int, Buffer] = dict(enumerate(self.shares(code, bytes(geometry.needed * 8))))
            chosen = {index: shares[index] for index in range(geometry.needed)}
            room = Guarded(8)
            for given_shares, wanted in (
                (
                    {**chosen, 0: b"short"},
                    {total - 1: room.target} if geometry.needed > 1 else {0: room.target},
                ),
                (chosen, {total: room.target}),
                (chosen, {-1: room.target}),
                ({**dict(list(chosen.items())[1:]), total: shares[0]}, {0: room.target}),
                (chosen, {0: room.target[:-1]}),
            ):
                with pytest.raises(ValueError):
                    code.decode_into(given_shares, wanted)
            assert room.intact()

    def test_threads_share_one_code(self) -> None:
        """Eight threads encode and decode with one object, each a stripe of its own."""
        for geometry in self.geometries()[-2:]:
            code = self.new(geometry)
            stripes = [NOISE[index : index + geometry.needed * 333] for index in range(8)]
            right = [self.shares(self.new(geometry), stripe) for stripe in stripes]

            def work(
                index: int,
                code: Code = code,
                stripes: Sequence[bytes] = stripes,
                right: Sequence[list[bytes]] = right,
            ) -> bool:
                total, needed = code.geometry.total, code.geometry.needed
                for turn in range(10):
                    chosen = {
                        (index + turn + step) % total: right[index][(index + turn + step) % total]
                        for step in range(needed)
                    }
                    if self.decoded(code, chosen, range(total), 333) != right[index]:
                        return False
                return self.shares(code, stripes[index]) == right[index]

            assert all(in_threads(work))

    def test_no_stripe_is_copied(self) -> None:
        """Encoding and decoding 4 MiB makes no object of that size beside the targets."""
        geometry = self.plugin.fit(Geometry(2, 4))
        code, size = self.new(geometry), 4 * MIB // geometry.needed
        stripe = (NOISE * 4)[: size * geometry.needed]
        parity = [bytearray(size) for _ in range(geometry.total - geometry.needed)]
        made = bytearray(size)
        with memory_bound(MIB):
            code.encode_into(stripe, [memoryview(share) for share in parity])
        whole = [memoryview(stripe)[index * size : (index + 1) * size] for index in range(geometry.needed)]
        shares: dict[int, Buffer] = dict(enumerate([*whole, *(memoryview(share) for share in parity)]))
        last = {index: shares[index] for index in range(geometry.total - geometry.needed, geometry.total)}
        with memory_bound(MIB):
            code.decode_into(last, {0: memoryview(made)})
        check_bytes(made, whole[0])
