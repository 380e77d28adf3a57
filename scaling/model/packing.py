"""Several sequences in one row: how the rows of an update are laid out, with little filler and in few shapes.

In: lengths. Out: the calls of an update, and for each which sequences lie in which of its rows. All calls of a stage
have as many rows; a call is as wide as its sequences need, rounded up to one of at most MOST_WIDTHS widths. Pure
arithmetic, no jax: a plan and the training that it is about ask the same functions.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heapreplace

from scaling.model.sizes import SMALL_VOCABULARY, ModelConfig

MOST_WIDTHS = 6
SPREAD = 0.02  # fewer widths are taken as long as they cost at most this fraction of the tokens
# A row is about as wide as this many of the longest sequences: wider ones are filled better, and their attention costs
# more. At 3 a row of GSM8K holds four to seven sequences.
SEQUENCES_WIDE = 3
FINENESS = 16  # widths between a power of two and the next, so that stages on different data share compiled programs
LEAST_STEP = 8  # tokens between two widths


@dataclass(frozen=True)
class Packing:
    """What the calls of a stage have in common."""

    ways: int  # devices that rows are divided over
    rows: int  # on each of them
    limit: int  # tokens of a call on each of them
    longest: int  # tokens of the longest sequence, rounded up
    widths: tuple[int, ...] = ()  # increasing
    members: int = 0  # the most members of a call, rounded up to a power of two


@dataclass(frozen=True)
class Call:
    """Where the sequences of one call lie."""

    members: tuple[int, ...]  # of the update, by their index there, increasing
    width: int  # tokens of a row
    places: tuple[tuple[int, ...], ...]  # the sequences in each row; member i has i*S to i*S + S - 1


def is_packed(config: ModelConfig) -> bool:
    """Whether a policy's sequences share rows: a checkpoint's do. The programs of smaller ones stay what they were."""
    return config.vocab_size > SMALL_VOCABULARY


def packing_of(updates: Iterable[Sequence[Sequence[int]]], ways: int, limit: int) -> Packing:
    """The packing of a stage. updates: of each member of each update, the lengths of its sequences (two of a pair).

    limit: tokens of a call on one device; at least one member fits whatever it is.
    """
    updates = list(updates)
    longest = rounded(max(length for update in updates for member in update for length in member))
    limit = max(limit, *(rounded(sum(member)) for update in updates for member in update))
    tokens = max(sum(map(sum, update)) for update in updates)
    packing = Packing(ways, _rows(tokens, longest, ways, limit), limit, longest)
    calls = [call for update in updates for call in _calls(update, packing)]
    members = max(len(call.members) for call in calls)
    widths = few_widths([call.width for call in calls])
    return replace(packing, widths=widths, members=1 << (members - 1).bit_length())


def largest_call(members: int, sequences: int, length: int, ways: int, limit: int) -> tuple[int, int]:
    """Rows on each device, and tokens of a row, of the largest call of updates of so many members.

    sequences: of a member; length: tokens of the longest. Where an update takes several calls, ragged sequences fill
    the limit better than equal ones: a row is then as wide as the limit allows.
    """
    count, longest, limit = members * sequences, rounded(length), max(limit, rounded(sequences * length))
    rows = _rows(count * length, longest, ways, limit)
    in_one_call, widest = rounded(-(-count // (ways * rows)) * length), limit // rows
    return rows, min(in_one_call, widest // _step(widest) * _step(widest))


def calls_of(update: Sequence[Sequence[int]], packing: Packing) -> Iterator[Call]:
    """The calls of one of the updates that a packing was made for. update: as in `packing_of`."""
    for call in _calls(update, packing):
        yield Call(call.members, next(width for width in packing.widths if width >= call.width), call.places)


def few_widths(needed: Sequence[int]) -> tuple[int, ...]:
    """The widths, increasing, that calls which need these are rounded up to: by dynamic programming, the fewest that
    add at most SPREAD to all tokens, or MOST_WIDTHS of the least total."""
    distinct = sorted(set(needed))
    upto = [0]  # calls that need at most so many of the distinct widths
    for width in distinct:
        upto.append(upto[-1] + needed.count(width))
    # best[j]: the least total of the calls that need the first j widths, and the widths that give it.
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for _ in range(MOST_WIDTHS):
        best = {
            j: min(
                (total + distinct[j - 1] * (upto[j] - upto[i]), (*widths, distinct[j - 1]))
                for i, (total, widths) in best.items()
                if i < j
            )
            for j in range(1 + min(best), len(distinct) + 1)
        }
        total, widths = best[len(distinct)]
        if total <= (1 + SPREAD) * sum(needed):
            break
    return widths


def rounded(width: int) -> int:
    """The next of the widths that calls have before they are made fewer."""
    width = max(1, width)
    return -(-width // _step(width)) * _step(width)


def _step(width: int) -> int:
    return max(LEAST_STEP, (1 << (width - 1).bit_length()) // 2 // FINENESS)


def _rows(tokens: int, longest: int, ways: int, limit: int) -> int:
    """Of a call on each device, in a stage whose largest update has so many tokens."""
    return max(1, -(-min(limit, -(-tokens // ways)) // (SEQUENCES_WIDE * longest)))


def _calls(update: Sequence[Sequence[int]], packing: Packing) -> list[Call]:
    """The fewest calls within the limit, each as narrow as it can be."""
    totals = list(map(sum, update))
    count = max(1, sum(totals) // (packing.ways * packing.limit))
    while True:
        _, parts = _bins(totals, min(count, len(totals)))
        calls = [_call(update, sorted(part), packing) for part in parts if part]
        if max(call.width for call in calls) * packing.rows <= packing.limit:
            return calls
        count += 1 + count // 50


def _call(update: Sequence[Sequence[int]], members: Sequence[int], packing: Packing) -> Call:
    width, places = _bins([length for member in members for length in update[member]], packing.ways * packing.rows)
    return Call(tuple(members), width, tuple(map(tuple, places)))


def _bins(sizes: Sequence[int], count: int) -> tuple[int, list[list[int]]]:
    """The least rounded capacity found at which so many bins hold all, and what is in each bin.

    Longest first, either each into the emptiest bin (Graham 1969), or each into the fullest bin with room for it, at
    the least capacity at which all find room (Coffman, Garey and Johnson 1978).
    """
    order = sorted(range(len(sizes)), key=lambda index: -sizes[index])
    even, largest = _evenly(order, sizes, count)
    capacity = rounded(max(sizes[order[0]], -(-sum(sizes) // count)))
    while capacity < largest:
        if (found := _best_fit(order, sizes, count, capacity)) is not None:
            return capacity, found
        capacity = rounded(capacity + 1)
    return capacity, even


def _evenly(order: Sequence[int], sizes: Sequence[int], count: int) -> tuple[list[list[int]], int]:
    """Each into the emptiest bin; also what is in the fullest."""
    bins: list[list[int]] = [[] for _ in range(count)]
    loads = [(0, index) for index in range(count)]  # a heap
    for item in order:
        load, index = loads[0]
        bins[index].append(item)
        heapreplace(loads, (load + sizes[item], index))
    return bins, max(loads)[0]


def _best_fit(order: Sequence[int], sizes: Sequence[int], count: int, capacity: int) -> list[list[int]] | None:
    """Each into the fullest bin with room for it; None if one has no room."""
    bins: list[list[int]] = [[] for _ in range(count)]
    rooms = [(capacity, index) for index in range(count)]  # increasing
    for item in order:
        at = bisect_left(rooms, (sizes[item], -1))
        if at == count:
            return None
        room, index = rooms.pop(at)
        bins[index].append(item)
        insort(rooms, (room - sizes[item], index))
    return bins
