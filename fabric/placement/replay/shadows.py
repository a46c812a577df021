"""The kernel of the shadow ledger: a day of one copy of an object, real or on paper, and what paper has taught.

Scalar functions over arrays, for `kernels.compiled`. Copies 0 to ``rules - 1`` of an object are on paper: copy r has
obeyed rule r since the object's birth. The last copy is the real one. The words are those of `ledger.RECORD`; what the
rule is and why is derived in docs/design/placement-rule.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fabric.placement.replay.tariff import Prices
from fabric.placement.replay.trace import Past

YOUNG_UP, YOUNG_SHALLOW, YOUNG_DEEP, UP, SHALLOW, DEEP = range(6)  # columns of the rules
STRAND = 1.0  # times the price, from a cold class to a colder one
WORSE = 1.4  # a spell that lost stretches the next wait of its kind by this much
BETTER_COLD, BETTER_HOT = 0.7, 0.5  # and one that paid shrinks it
COLD_MOST, HOT_MOST, LEAST = 4.0, 1.0, 0.25  # learning never takes a wait further than this
NEVER = 1e30
MOST_DAYS = 65535  # of the counters
MOST_HEATS = 255
HORIZON_DAYS = 90  # after which a demotion is judged, unless a promotion ended it before
WEEK_DECAY, MONTH_DECAY = 0.9057236642639067, 0.9771599684342459  # a day's share of half-lives of 7 and 30 days
WEEK_RATE, MONTH_RATE = 1.0 - WEEK_DECAY, 1.0 - MONTH_DECAY
KINDS = 6  # of demotions, see `kind_of`
TRIALS = 8  # a trial is its class plus this many times its kind
F, L, C, T, SCORE, CONFIDENCE = range(6)  # columns of `Told.factors`


class Columns(NamedTuple):
    """The columns of the records of one block of objects, as kernels take them; see `ledger.RECORD`."""

    held: NDArray[np.uint8]
    heats: NDArray[np.uint8]
    age: NDArray[np.uint16]
    quiet: NDArray[np.uint16]
    wait: NDArray[np.float32]
    patience: NDArray[np.float32]
    rent: NDArray[np.float32]
    lean: NDArray[np.float32]
    spell: NDArray[np.float32]
    own: NDArray[np.float64]
    trial: NDArray[np.uint8]
    week: NDArray[np.float32]
    month: NDArray[np.float32]
    lived: NDArray[np.uint16]


class Told(NamedTuple):
    """Moves of the real copies, as they are made; ``made[0]`` is how many."""

    life: NDArray[np.int64]
    day: NDArray[np.int32]
    to: NDArray[np.int16]
    after_reads: NDArray[np.int64]
    factors: NDArray[np.float32]
    made: NDArray[np.int64]


class Gate(NamedTuple):
    """What a demotion of a real copy must pass, and what paper has learned of such demotions.

    Attributes:
        on: whether it is asked at all.
        weights: shape (4,); of the factors f, l, c, t in the score.
        score: must be above this.
        confidence: must be above this.
        floor: every factor must be at least this.
        latency: shape (classes,); l of each class.
        tried: shape (KINDS, classes); demotions that paper copies have seen the end of, by kind and class.
        paid: same shape; how many of them saved more than they cost by their way back, or by the end of the horizon.
        trying: same shape; those seen since the last lesson, which no decision may know yet: another object's day may
            be later than this one's.
        paying: same shape.
    """

    on: bool
    weights: NDArray[np.float64]
    score: float
    confidence: float
    floor: float
    latency: NDArray[np.float64]
    tried: NDArray[np.float64]
    paid: NDArray[np.float64]
    trying: NDArray[np.float64]
    paying: NDArray[np.float64]


def advance(
    past: Past,
    lo: int,
    begin: int,
    stop: int,
    row: NDArray[np.int64],
    block: Columns,
    prices: Prices,
    plain: int,
    rules: NDArray[np.float64],
    rule: int,
    gate: Gate,
    told: Told,
) -> None:
    """Live the days ``begin`` to ``stop`` - 1 of the objects of a block, whose first is life ``lo`` of ``past``.

    Args:
        row: shape (objects,); each one's first row that is not lived yet. Moved on.
        plain: how many plain classes there are.
        rules: shape (rules, 6), thresholds as multiples of a price.
        rule: the one that the real copies obey.
        told: has room for two moves per object and day.
    """
    for at in range(len(block.lived)):
        life = lo + at
        size = float(past.size[life])
        hot = prices.managed if prices.managed >= 0 and size >= prices.floor_bytes else 0
        last = past.end[life] + 1 if past.ended[life] else past.end[life]
        for day in range(max(begin, past.birth[life]), min(stop, last)):
            reads, each = 0, 0.0
            if row[at] < past.first[life + 1] and past.day[row[at]] == day:
                reads = past.reads[row[at]]
                each = past.bytes[row[at]] / reads
                row[at] += 1
            for copy in range(len(rules) + 1):
                real = copy == len(rules)
                obeyed = rules[rule if real else copy]
                teller = life if real else -1
                if day == past.birth[life]:
                    bear(at, copy, hot, block, prices)
                    tell(teller, day, hot, -1, told)
                else:
                    dawn(at, copy, size, hot, teller, day, block, prices, plain, obeyed, gate, told)
                if reads > 0:
                    serve(at, copy, size, hot, reads, each, teller, day, block, prices, plain, obeyed, gate, told)
                if day < past.end[life]:
                    dusk(at, copy, size, hot, block, prices, plain, gate)
                else:
                    finish(at, copy, size, hot, block, prices)
            block.week[at] = float(block.week[at]) * WEEK_DECAY + reads * WEEK_RATE
            block.month[at] = float(block.month[at]) * MONTH_DECAY + reads * MONTH_RATE
            block.lived[at] = min(MOST_DAYS, int(block.lived[at]) + 1)


def tell(life: int, day: int, to: int, after_reads: int, told: Told) -> None:
    """Write down a move that no score was asked for."""
    if life >= 0:
        for factor in range(6):
            told.factors[told.made[0], factor] = np.nan
    write(life, day, to, after_reads, told)


def write(life: int, day: int, to: int, after_reads: int, told: Told) -> None:
    """Write a move down, unless it was made on paper (``life`` -1)."""
    if life >= 0:
        at = told.made[0]
        told.life[at] = life
        told.day[at] = day
        told.to[at] = to
        told.after_reads[at] = after_reads
        told.made[0] = at + 1


def pay(at: int, copy: int, usd: float, block: Columns) -> None:
    """Book a cost of a paper copy."""
    if copy < block.own.shape[1]:
        block.own[at, copy] += usd


def bear(at: int, copy: int, hot: int, block: Columns, prices: Prices) -> None:
    block.held[at, copy] = hot
    block.wait[at, copy] = 1.0
    block.patience[at, copy] = 1.0
    pay(at, copy, prices.transition[hot], block)


def arrive(at: int, copy: int, to: int, block: Columns) -> None:
    """Begin a stay: every count of the last one ends."""
    block.held[at, copy] = to
    block.age[at, copy] = 0
    block.quiet[at, copy] = 0
    block.rent[at, copy] = 0.0
    for back in range(block.lean.shape[2]):
        block.lean[at, copy, back] = 0.0


def keep(size: float, place: int, prices: Prices) -> float:
    """USD for a day in a plain class."""
    return float(max(size, prices.min_bytes[place]) * prices.storage[place])


def keep_hot(size: float, hot: int, prices: Prices) -> float:
    """USD for a day in the hot class; of a managed tier, at its hottest level."""
    if hot == prices.managed:
        return float(size * prices.level_storage[0] + prices.monitoring)
    return keep(size, hot, prices)


def read_price(place: int, each: float, prices: Prices) -> float:
    """USD for one read of ``each`` bytes."""
    return float(prices.get[place] + prices.retrieval_request[place] + prices.retrieval[place] * each)


def level(quiet: int, prices: Prices) -> int:
    """Return how deep a managed tier has sunk after ``quiet`` days without a read."""
    found = 0
    while found + 1 < len(prices.after_days) and quiet >= prices.after_days[found + 1]:
        found += 1
    return found


def rest(at: int, copy: int, size: float, block: Columns, prices: Prices) -> float:
    """USD for leaving the class now: the rest of its minimum duration."""
    held = int(block.held[at, copy])
    return float(max(0.0, prices.min_days[held] - float(block.age[at, copy])) * keep(size, held, prices))


def price_there_and_back(size: float, to: int, hot: int, prices: Prices) -> float:
    return float(prices.transition[to] + prices.transition[hot] + read_price(to, size, prices))


def price_back(at: int, copy: int, size: float, hot: int, block: Columns, prices: Prices) -> float:
    """USD for promoting a cold copy now: one GET and the whole size, the PUT, the rest of the minimum duration."""
    held = int(block.held[at, copy])
    return float(prices.transition[hot] + read_price(held, size, prices) + rest(at, copy, size, block, prices))


def threshold(at: int, copy: int, to: int, hot: int, block: Columns, plain: int, rule: NDArray[np.float64]) -> float:
    """Return how many times the price there and back must have been wasted before the move is made."""
    if block.held[at, copy] != hot:
        return STRAND if rule[DEEP] < NEVER else NEVER
    shallow = to == 1 and plain > 2
    if block.heats[at, copy] == 0:
        base = rule[YOUNG_SHALLOW] if shallow else rule[YOUNG_DEEP]
    else:
        base = rule[SHALLOW] if shallow else rule[DEEP]
    return float(base) * float(block.wait[at, copy])


def dawn(
    at: int,
    copy: int,
    size: float,
    hot: int,
    teller: int,
    day: int,
    block: Columns,
    prices: Prices,
    plain: int,
    rule: NDArray[np.float64],
    gate: Gate,
    told: Told,
) -> None:
    """Demote to the coldest class whose saving has been forgone for long enough, on facts up to yesterday."""
    held = int(block.held[at, copy])
    warmest = 1 if held == hot else held + 1
    for back in range(plain - warmest):
        to = plain - 1 - back
        lean = float(block.lean[at, copy, to - 1])
        due = threshold(at, copy, to, hot, block, plain, rule)
        if lean <= 0.0 or due >= NEVER:
            continue
        early = rest(at, copy, size, block, prices)
        price = price_there_and_back(size, to, hot, prices)
        if lean - early >= due * price:
            if teller >= 0:
                judge(at, (lean - early) / price, due, to, block, gate, told)
                if gate.on and not opens(told.factors[told.made[0]], gate):
                    continue
            if held == hot:
                end_hot_spell(at, copy, block)
                block.trial[at, copy] = 0 if teller >= 0 else to + TRIALS * kind_of((lean - early) / price)
            pay(at, copy, prices.transition[to] + early, block)
            arrive(at, copy, to, block)
            write(teller, day, to, -1, told)
            return


def judge(at: int, waited: float, due: float, to: int, block: Columns, gate: Gate, told: Told) -> None:
    """Write the figures of a demotion into the row that is to come.

    f = (1 + 2 Q) / (2 + 2 Q), where Q = ``waited`` is the saving forgone in prices there and back: 0.5 at none.
    c = 2 / (2 + a), where a = ``due`` is what such an object must wait: 1 where its demotions have always paid.
    t = m / (m + w), reads a day of a half-life of 30 and of 7 days: 0.5 where reads are steady or none were seen.
    Confidence = the share of such demotions that saved more than they cost, (paid + 1) / (tried + 2).
    """
    row = told.factors[told.made[0]]
    week, month = float(block.week[at]), float(block.month[at])
    kind = kind_of(waited)
    row[F] = (1.0 + 2.0 * waited) / (2.0 + 2.0 * waited)
    row[L] = gate.latency[to]
    row[C] = 2.0 / (2.0 + due)
    row[T] = month / (month + week) if month + week > 0.0 else 0.5
    score = 0.0
    for factor in range(4):
        score += gate.weights[factor] * float(row[factor])
    row[SCORE] = score
    row[CONFIDENCE] = (gate.paid[kind, to] + 1.0) / (gate.tried[kind, to] + 2.0)


def opens(row: NDArray[np.float32], gate: Gate) -> bool:
    lowest = min(float(row[F]), float(row[L]), float(row[C]), float(row[T]))
    if lowest < gate.floor or lowest <= 0.0:
        return False
    return bool(float(row[SCORE]) > gate.score and float(row[CONFIDENCE]) > gate.confidence)


def kind_of(waited: float) -> int:
    """Return how long a demotion was waited for, in steps of prices there and back; a longer quiet promises more."""
    if waited < 0.6:
        return 0 if waited < 0.3 else 1
    if waited < 1.6:
        return 2 if waited < 1.0 else 3
    return 4 if waited < 2.5 else 5


def settle(at: int, copy: int, paid: bool, block: Columns, gate: Gate) -> None:
    """Count how a demotion of a paper copy ended."""
    trial = int(block.trial[at, copy])
    if trial > 0:
        kind, to = trial // TRIALS, trial % TRIALS
        gate.trying[kind, to] += 1.0
        gate.paying[kind, to] += 1.0 if paid else 0.0
        block.trial[at, copy] = 0


def adapt(factor: float, lost: bool, better: float, most: float) -> float:
    """Return a wait stretched by a spell that lost, or shrunk by one that paid, within the bounds."""
    return min(most, factor * WORSE) if lost else max(LEAST, factor * better)


def end_hot_spell(at: int, copy: int, block: Columns) -> None:
    if block.heats[at, copy] > 0:
        lost = float(block.spell[at, copy]) < 0.0
        block.patience[at, copy] = adapt(float(block.patience[at, copy]), lost, BETTER_HOT, HOT_MOST)
    block.spell[at, copy] = 0.0


def serve(
    at: int,
    copy: int,
    size: float,
    hot: int,
    reads: int,
    each: float,
    teller: int,
    day: int,
    block: Columns,
    prices: Prices,
    plain: int,
    rule: NDArray[np.float64],
    gate: Gate,
    told: Told,
) -> None:
    """Serve some reads of ``each`` bytes, and promote a cold copy at the read that makes renting dearer than buying."""
    held = int(block.held[at, copy])
    cold = 0
    if held != hot:
        here = read_price(held, each, prices)
        extra = here - read_price(hot, each, prices)
        buy = price_back(at, copy, size, hot, block, prices)
        up = rule[YOUNG_UP] if block.heats[at, copy] == 0 else rule[UP]
        due = float(up) * float(block.patience[at, copy]) * buy - extra - float(block.rent[at, copy])
        cold = reads_before(due, extra, reads)
        pay(at, copy, cold * here, block)
        block.spell[at, copy] = float(block.spell[at, copy]) - cold * extra
        if cold < reads:
            pay(at, copy, buy, block)
            end_cold_spell(at, copy, buy, block, gate)
            arrive(at, copy, hot, block)
            block.spell[at, copy] = -buy
            tell(teller, day, hot, cold, told)
        else:
            block.rent[at, copy] = float(block.rent[at, copy]) + reads * extra
            lean_back(at, copy, held, held + 1, reads, each, block, prices, plain)
    if reads > cold:
        serve_hot(at, copy, hot, reads - cold, each, block, prices, plain)


def reads_before(due: float, extra: float, reads: int) -> int:
    """Return how many reads are served cold before one is due a promotion; all where none is.

    ``due`` is what the rent still lacks, the read at hand not counted: that one pays the copy's retrieval instead.
    """
    if due <= extra:
        return 0 if extra > 0.0 else reads
    if extra <= 0.0 or due > extra * reads:
        return reads
    return int(np.ceil(due / extra)) - 1


def end_cold_spell(at: int, copy: int, buy: float, block: Columns, gate: Gate) -> None:
    lost = float(block.spell[at, copy]) < buy
    settle(at, copy, not lost, block, gate)
    block.wait[at, copy] = adapt(float(block.wait[at, copy]), lost, BETTER_COLD, COLD_MOST)
    block.heats[at, copy] = min(MOST_HEATS, int(block.heats[at, copy]) + 1)


def serve_hot(
    at: int, copy: int, hot: int, reads: int, each: float, block: Columns, prices: Prices, plain: int
) -> None:
    if hot == prices.managed:
        pay(at, copy, prices.rise_request[level(int(block.quiet[at, copy]), prices)], block)
        block.quiet[at, copy] = 0
    here = read_price(hot, each, prices)
    pay(at, copy, reads * here, block)
    gain = reads * (read_price(plain - 1, each, prices) - here)
    block.spell[at, copy] = float(block.spell[at, copy]) + gain
    lean_back(at, copy, hot, 1, reads, each, block, prices, plain)


def lean_back(
    at: int, copy: int, held: int, warmest: int, reads: int, each: float, block: Columns, prices: Prices, plain: int
) -> None:
    """What the reads would have cost more in a colder class speaks against going there."""
    here = read_price(held, each, prices)
    for to in range(warmest, plain):
        more = reads * max(0.0, read_price(to, each, prices) - here)
        block.lean[at, copy, to - 1] = max(0.0, float(block.lean[at, copy, to - 1]) - more)


def dusk(at: int, copy: int, size: float, hot: int, block: Columns, prices: Prices, plain: int, gate: Gate) -> None:
    """Bill the day's storage, and count what another class would have saved."""
    held = int(block.held[at, copy])
    if held == prices.managed:
        here = size * prices.level_storage[level(int(block.quiet[at, copy]), prices)] + prices.monitoring
        block.quiet[at, copy] = min(MOST_DAYS, int(block.quiet[at, copy]) + 1)
    else:
        here = keep(size, held, prices)
    pay(at, copy, here, block)
    if held == hot:
        block.spell[at, copy] = float(block.spell[at, copy]) - (here - keep(size, plain - 1, prices))
    else:
        saved = keep_hot(size, hot, prices) - here
        block.rent[at, copy] = max(0.0, float(block.rent[at, copy]) - saved)
        block.spell[at, copy] = float(block.spell[at, copy]) + saved
        if block.trial[at, copy] > 0 and block.age[at, copy] + 1 >= HORIZON_DAYS:
            settle(at, copy, float(block.spell[at, copy]) >= prices.transition[held], block, gate)
    for to in range(1 if held == hot else held + 1, plain):
        lean = float(block.lean[at, copy, to - 1]) + (here - keep(size, to, prices))
        block.lean[at, copy, to - 1] = max(0.0, lean)
    block.age[at, copy] = min(MOST_DAYS, int(block.age[at, copy]) + 1)


def finish(at: int, copy: int, size: float, hot: int, block: Columns, prices: Prices) -> None:
    """Bill the rest of a minimum duration as the object is deleted; a copy that is gone owes no way back."""
    pay(at, copy, rest(at, copy, size, block, prices), block)
    arrive(at, copy, hot, block)
    block.trial[at, copy] = 0


def weigh(
    past: Past,
    lo: int,
    begin: int,
    block: Columns,
    prices: Prices,
    costs: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    """Add up what every rule has cost the objects of a block, each cold paper copy charged with its way back.

    Args:
        begin: objects born later are not there yet.
        costs: shape (rules,), USD.
        squares: shape (rules, rules); sums over objects of squared differences of their costs.
    """
    rules = block.own.shape[1]
    one = np.zeros(rules)
    for at in range(len(block.lived)):
        if block.lived[at] == 0 or past.birth[lo + at] > begin:
            continue
        size = float(past.size[lo + at])
        hot = prices.managed if prices.managed >= 0 and size >= prices.floor_bytes else 0
        for rule in range(rules):
            one[rule] = float(block.own[at, rule])
            if block.held[at, rule] != hot:
                one[rule] += price_back(at, rule, size, hot, block, prices)
            costs[rule] += one[rule]
        for rule in range(rules):
            for rival in range(rules):
                gap = one[rule] - one[rival]
                squares[rule, rival] += gap * gap
