"""The kernel of the shadow ledger: the days on which something happens to a copy of an object, real or on paper.

Scalar functions over arrays, for `kernels.compiled`. Copies 0 to ``rules - 1`` of an object are on paper: copy r has
obeyed rule r since the object's birth. The last copy is the real one. The words are those of `ledger.RECORD`; what the
rule is and why is derived in docs/design/placement-rule.md.

Between two events every count of a copy is linear in the nights that pass. A record therefore states the counts as of
its copy's last event, day ``since``, before that day's night, and ``next``, the first day on which the copy must be
looked at although nobody reads it: a demotion falls due, a managed tier sinks a level, a trial reaches its horizon.
Both depend on what happened alone, never on how days are cut into calls. `stated` gives the counts of any later day.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fabric.placement.replay.tariff import Prices
from fabric.placement.replay.trace import Past
from fabric.pricing.managed import level_at

YOUNG_UP, YOUNG_SHALLOW, YOUNG_DEEP, UP, SHALLOW, DEEP = range(6)  # columns of the rules
STRAND = 1.0  # times the price, from a cold class to a colder one
WORSE = 1.4  # a spell that lost stretches the next wait of its kind by this much
BETTER_COLD, BETTER_HOT = 0.7, 0.5  # and one that paid shrinks it
COLD_MOST, HOT_MOST, LEAST = 4.0, 1.0, 0.25  # learning never takes a wait further than this
NEVER = 1e30
LEAST_PRICE = 1e-300  # USD; a class may be free to enter and to leave
LATER = 1 << 30  # a day that never comes
EPOCH_DAYS = 7  # days between two lessons
MOST_DAYS = 65535  # of the counters
MOST_HEATS = 255
HORIZON_DAYS = 90  # after which a demotion is judged, unless a promotion ended it before
WEEK_DECAY, MONTH_DECAY = 0.9057236642639067, 0.9771599684342459  # a day's share of half-lives of 7 and 30 days
WEEK_RATE, MONTH_RATE = 1.0 - WEEK_DECAY, 1.0 - MONTH_DECAY
WAITS = 6  # kinds of one size, see `kind_of`
SIZES = 5  # and how many sizes
KINDS = WAITS * SIZES  # of demotions
SIZE_LEAST, SIZE_STEP = float(1 << 20), 32.0  # bytes up to which the first kinds reach, and by how much the next
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
    since: NDArray[np.int32]
    next: NDArray[np.int32]
    due: NDArray[np.int32]
    week: NDArray[np.float32]
    month: NDArray[np.float32]
    seen: NDArray[np.int32]
    lived: NDArray[np.uint32]


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
    who: NDArray[np.int64],
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
    """Live the days ``begin`` to ``stop`` - 1 of some objects of a block, whose first is life ``lo`` of ``past``.

    Args:
        who: the objects to which something happens on these days, as `ledger.awake` finds them.
        row: shape (objects,); each one's first row that is not lived yet. Moved on.
        plain: how many plain classes there are.
        rules: shape (rules, 6), thresholds as multiples of a price; the first ones are those of paper copies.
        rule: the one that the real copies obey.
        told: has room for two moves per object and day.
    """
    for at in who:
        day = upcoming(at, lo + at, begin, row, block, past)
        while day < stop:
            visit(at, lo + at, day, row, block, past, prices, plain, rules, rule, gate, told)
            day = upcoming(at, lo + at, day + 1, row, block, past)


def upcoming(at: int, life: int, begin: int, row: NDArray[np.int64], block: Columns, past: Past) -> int:
    """Return the first day from ``begin`` on on which something happens to an object; it ends with its life."""
    if block.lived[at] == 0:
        return max(begin, int(past.birth[life]))
    if past.end[life] < begin:
        return LATER
    day = int(block.due[at])
    if row[at] < past.first[life + 1]:
        day = min(day, int(past.day[row[at]]))
    if past.ended[life]:
        return min(day, int(past.end[life]))
    return day if day < past.end[life] else LATER


def visit(
    at: int,
    life: int,
    day: int,
    row: NDArray[np.int64],
    block: Columns,
    past: Past,
    prices: Prices,
    plain: int,
    rules: NDArray[np.float64],
    rule: int,
    gate: Gate,
    told: Told,
) -> None:
    """Live one day of an object: dawn, reads and, as it is deleted, the end of every copy to which they happen."""
    size = float(past.size[life])
    hot = prices.managed if prices.managed >= 0 and size >= prices.floor_bytes else 0
    born, ends = day == past.birth[life], day == past.end[life]
    reads, each = 0, 0.0
    if row[at] < past.first[life + 1] and past.day[row[at]] == day:
        reads = past.reads[row[at]]
        each = past.bytes[row[at]] / reads
        row[at] += 1
    soonest = LATER
    copies = block.held.shape[1]
    for copy in range(copies):
        real = copy == copies - 1
        obeyed = rule if real else copy
        teller = life if real else -1
        again = day + 1
        if born:
            bear(at, copy, day, hot, block, prices)
            tell(teller, day, hot, -1, told)
        elif day >= block.next[at, copy]:
            again = dawn(at, copy, size, hot, teller, day, block, prices, plain, rules, obeyed, gate, told)
        elif reads == 0 and not ends:
            soonest = min(soonest, int(block.next[at, copy]))
            continue
        roll(at, copy, size, hot, day, block, prices, plain)
        if reads > 0:
            serve(at, copy, size, hot, reads, each, teller, day, block, prices, plain, rules, obeyed, gate, told)
            again = day + 1  # what a gate was closed for is another demotion now
        if ends:
            finish(at, copy, size, hot, block, prices)
        else:
            horizon(at, copy, size, hot, block, prices, gate)
            block.next[at, copy] = seek(at, copy, size, hot, again, block, prices, plain, rules, obeyed)
            soonest = min(soonest, int(block.next[at, copy]))
    block.due[at] = soonest
    block.lived[at] = day + 1 - past.birth[life]
    if born or reads > 0:
        nights = 0 if born else day - block.seen[at]
        block.week[at] = float(block.week[at]) * power(WEEK_DECAY, nights) + reads * WEEK_RATE
        block.month[at] = float(block.month[at]) * power(MONTH_DECAY, nights) + reads * MONTH_RATE
        block.seen[at] = day


def reconsider(
    past: Past,
    lo: int,
    day: int,
    block: Columns,
    prices: Prices,
    plain: int,
    rules: NDArray[np.float64],
    rule: int,
) -> None:
    """Find anew when the real copies must be looked at: another rule is in force from ``day`` on."""
    real = block.held.shape[1] - 1
    for at in range(len(block.lived)):
        life = lo + at
        if block.lived[at] == 0 or past.end[life] < day:
            continue
        size = float(past.size[life])
        hot = prices.managed if prices.managed >= 0 and size >= prices.floor_bytes else 0
        block.next[at, real] = seek(at, real, size, hot, day, block, prices, plain, rules, rule)
        soonest = LATER
        for copy in range(real + 1):
            soonest = min(soonest, int(block.next[at, copy]))
        block.due[at] = soonest


def power(base: float, times: int) -> float:
    """Return ``base`` multiplied ``times`` times by itself, by squaring: the same bits compiled or not."""
    found, square = 1.0, base
    while times > 0:
        if times % 2 == 1:
            found *= square
        square *= square
        times //= 2
    return found


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


def bear(at: int, copy: int, day: int, hot: int, block: Columns, prices: Prices) -> None:
    block.held[at, copy] = hot
    block.since[at, copy] = day
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


def rest(at: int, copy: int, nights: int, size: float, block: Columns, prices: Prices) -> float:
    """USD for leaving the class after some more nights: the rest of its minimum duration."""
    held = int(block.held[at, copy])
    lacks = prices.min_days[held] - (float(block.age[at, copy]) + nights)
    return float(max(0.0, lacks) * keep(size, held, prices))


def price_there_and_back(size: float, to: int, hot: int, prices: Prices) -> float:
    return float(prices.transition[to] + prices.transition[hot] + read_price(to, size, prices))


def price_back(at: int, copy: int, size: float, hot: int, block: Columns, prices: Prices) -> float:
    """USD for promoting a cold copy now: one GET and the whole size, the PUT, the rest of the minimum duration."""
    held = int(block.held[at, copy])
    return float(prices.transition[hot] + read_price(held, size, prices) + rest(at, copy, 0, size, block, prices))


def threshold(
    at: int, copy: int, to: int, hot: int, block: Columns, plain: int, rules: NDArray[np.float64], rule: int
) -> float:
    """Return how many times the price there and back must have been wasted before the move is made."""
    if block.held[at, copy] != hot:
        return STRAND if rules[rule, DEEP] < NEVER else NEVER
    shallow = to == 1 and plain > 2
    if block.heats[at, copy] == 0:
        base = rules[rule, YOUNG_SHALLOW] if shallow else rules[rule, YOUNG_DEEP]
    else:
        base = rules[rule, SHALLOW] if shallow else rules[rule, DEEP]
    return float(base) * float(block.wait[at, copy])


def roll(at: int, copy: int, size: float, hot: int, day: int, block: Columns, prices: Prices, plain: int) -> None:
    """Bring a copy's counts to ``day``: bill the nights' storage, and count what another class would have saved."""
    nights = day - int(block.since[at, copy])
    if nights <= 0:
        return
    held = int(block.held[at, copy])
    here = keep_here(at, copy, size, block, prices)
    pay(at, copy, nights * here, block)
    for to in range(1 if held == hot else held + 1, plain):
        block.lean[at, copy, to - 1] = lean_after(at, copy, to, nights, size, block, prices)
    if held == hot:
        block.spell[at, copy] = float(block.spell[at, copy]) - nights * (here - keep(size, plain - 1, prices))
    else:
        saved = keep_hot(size, hot, prices) - here
        block.rent[at, copy] = max(0.0, float(block.rent[at, copy]) - nights * saved)
        block.spell[at, copy] = float(block.spell[at, copy]) + nights * saved
    if held == prices.managed:
        block.quiet[at, copy] = min(MOST_DAYS, int(block.quiet[at, copy]) + nights)
    block.age[at, copy] = min(MOST_DAYS, int(block.age[at, copy]) + nights)
    block.since[at, copy] = day


def keep_here(at: int, copy: int, size: float, block: Columns, prices: Prices) -> float:
    """USD for the next night where the copy is; the same for every night up to its `next` day."""
    held = int(block.held[at, copy])
    if held == prices.managed:
        return float(
            size * prices.level_storage[level_at(int(block.quiet[at, copy]), prices.after_days)] + prices.monitoring
        )
    return keep(size, held, prices)


def lean_after(at: int, copy: int, to: int, nights: int, size: float, block: Columns, prices: Prices) -> float:
    saved = keep_here(at, copy, size, block, prices) - keep(size, to, prices)
    return max(0.0, float(block.lean[at, copy, to - 1]) + nights * saved)


def waited(at: int, copy: int, to: int, nights: int, size: float, hot: int, block: Columns, prices: Prices) -> float:
    """Return the saving forgone after some nights, less the rest of the minimum, in prices there and back; 0: none."""
    lean = lean_after(at, copy, to, nights, size, block, prices)
    if lean <= 0.0:
        return 0.0
    price = max(LEAST_PRICE, price_there_and_back(size, to, hot, prices))
    return (lean - rest(at, copy, nights, size, block, prices)) / price


def seek(
    at: int,
    copy: int,
    size: float,
    hot: int,
    begin: int,
    block: Columns,
    prices: Prices,
    plain: int,
    rules: NDArray[np.float64],
    rule: int,
) -> int:
    """Return the next day on which a copy must be looked at; no demotion is wanted before ``begin``."""
    held, since = int(block.held[at, copy]), int(block.since[at, copy])
    found = LATER
    if held == prices.managed:
        quiet = int(block.quiet[at, copy])
        below = level_at(quiet, prices.after_days) + 1
        if below < len(prices.after_days):
            found = since + int(prices.after_days[below]) - quiet
    if block.trial[at, copy] > 0:
        found = min(found, max(since + 1, since + HORIZON_DAYS - 1 - int(block.age[at, copy])))
    for to in range(1 if held == hot else held + 1, plain):
        due = threshold(at, copy, to, hot, block, plain, rules, rule)
        if due < NEVER:
            nights = first_due(at, copy, to, begin - since, due, size, hot, block, prices)
            found = min(found, since + nights)
    return found


def first_due(
    at: int, copy: int, to: int, least: int, due: float, size: float, hot: int, block: Columns, prices: Prices
) -> int:
    """Return the first number of nights, ``least`` or more, after which a demotion is due.

    What was waited is linear in the nights up to the end of the minimum duration, and again from there on. A division
    tells where to look, `waited` itself whether it is there; where it falls with the nights only ``least`` can be it.
    """
    held = int(block.held[at, copy])
    saved = keep_here(at, copy, size, block, prices) - keep(size, to, prices)
    there = price_there_and_back(size, to, hot, prices)
    lacks = due * there - float(block.lean[at, copy, to - 1])
    left = max(0.0, prices.min_days[held] - float(block.age[at, copy]))
    fee = keep(size, held, prices) if left > 0.0 else 0.0
    guess = float(least)
    if saved + fee > 0.0:
        guess = (lacks + left * fee) / (saved + fee)
        if guess > left and saved > 0.0:
            guess = lacks / saved
    if not guess < LATER / 2:
        return LATER // 2
    nights = max(least, int(guess) - 1)
    lean, age, price = float(block.lean[at, copy, to - 1]), float(block.age[at, copy]), max(LEAST_PRICE, there)
    stay, least_days = keep(size, held, prices), float(prices.min_days[held])
    for step in range(nights, nights + 4):  # as `waited` has it, to the last bit
        forgone = max(0.0, lean + step * saved)
        if forgone > 0.0 and (forgone - max(0.0, least_days - (age + step)) * stay) / price >= due:
            return step
    return LATER // 2


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
    rules: NDArray[np.float64],
    rule: int,
    gate: Gate,
    told: Told,
) -> int:
    """Demote to the coldest class whose saving has been forgone for long enough, on facts up to yesterday.

    Returns:
        The first day on which another demotion may be wanted: where the gate closed, when it may have opened.
    """
    held, nights = int(block.held[at, copy]), day - int(block.since[at, copy])
    warmest, closed = 1 if held == hot else held + 1, False
    for back in range(plain - warmest):
        to = plain - 1 - back
        due = threshold(at, copy, to, hot, block, plain, rules, rule)
        prices_waited = waited(at, copy, to, nights, size, hot, block, prices)
        if due >= NEVER or prices_waited < due:
            continue
        kind = kind_of(prices_waited, size)
        if teller >= 0:
            judge(at, kind, prices_waited, due, to, day, block, gate, told)
            if gate.on and not opens(told.factors, told.made[0], gate):
                closed = True
                continue
        roll(at, copy, size, hot, day, block, prices, plain)
        if held == hot:
            end_hot_spell(at, copy, block)
            block.trial[at, copy] = 0 if teller >= 0 else to + TRIALS * kind
        pay(at, copy, prices.transition[to] + rest(at, copy, 0, size, block, prices), block)
        arrive(at, copy, to, block)
        write(teller, day, to, -1, told)
        return day + 1
    return reopens(at, copy, size, hot, day, block, prices, plain, rules, rule, gate, told) if closed else day + 1


def reopens(
    at: int,
    copy: int,
    size: float,
    hot: int,
    day: int,
    block: Columns,
    prices: Prices,
    plain: int,
    rules: NDArray[np.float64],
    rule: int,
    gate: Gate,
    told: Told,
) -> int:
    """Return the first day after ``day`` on which a gate that is closed may open: the next lesson's, or tomorrow.

    Through quiet nights f and t rise, l and c stay, and confidence changes with the kind alone; so a gate that is
    closed on the eve of the lesson for a demotion of the same kind as tomorrow's stays closed until then.
    """
    held, since = int(block.held[at, copy]), int(block.since[at, copy])
    lesson = (day // EPOCH_DAYS + 1) * EPOCH_DAYS
    for to in range(1 if held == hot else held + 1, plain):
        due = threshold(at, copy, to, hot, block, plain, rules, rule)
        last = waited(at, copy, to, lesson - 1 - since, size, hot, block, prices)
        if due >= NEVER or last < due:
            continue
        kind = kind_of(last, size)
        if kind_of(waited(at, copy, to, day + 1 - since, size, hot, block, prices), size) != kind:
            return day + 1
        judge(at, kind, last, due, to, lesson - 1, block, gate, told)
        if opens(told.factors, told.made[0], gate):
            return day + 1
    return lesson


def judge(
    at: int, kind: int, prices_waited: float, due: float, to: int, day: int, block: Columns, gate: Gate, told: Told
) -> None:
    """Write the figures of a demotion at a dawn into the row that is to come.

    f = (1 + 2 Q) / (2 + 2 Q), where Q = ``prices_waited`` is the saving forgone in prices there and back: 0.5 at none.
    c = 2 / (2 + a), where a = ``due`` is what such an object must wait: 1 where its demotions have always paid.
    t = m / (m + w), reads a day of a half-life of 30 and of 7 days: 0.5 where reads are steady or none were seen.
    Confidence = the share of such demotions that saved more than they cost, (paid + 1) / (tried + 2).
    """
    row = told.made[0]
    nights = day - 1 - int(block.seen[at])
    week, month = float(block.week[at]) * power(WEEK_DECAY, nights), float(block.month[at]) * power(MONTH_DECAY, nights)
    told.factors[row, F] = (1.0 + 2.0 * prices_waited) / (2.0 + 2.0 * prices_waited)
    told.factors[row, L] = gate.latency[to]
    told.factors[row, C] = 2.0 / (2.0 + due)
    told.factors[row, T] = month / (month + week) if month + week > 0.0 else 0.5
    score = 0.0
    for factor in range(4):
        score += gate.weights[factor] * float(told.factors[row, factor])
    told.factors[row, SCORE] = score
    told.factors[row, CONFIDENCE] = (gate.paid[kind, to] + 1.0) / (gate.tried[kind, to] + 2.0)


def opens(factors: NDArray[np.float32], at: int, gate: Gate) -> bool:
    lowest = min(float(factors[at, F]), float(factors[at, L]), float(factors[at, C]), float(factors[at, T]))
    if lowest < gate.floor or lowest <= 0.0:
        return False
    return bool(float(factors[at, SCORE]) > gate.score and float(factors[at, CONFIDENCE]) > gate.confidence)


def kind_of(prices_waited: float, size: float) -> int:
    """Return the kind of a demotion: how long it was waited for, in steps of prices there and back, and its size.

    A longer quiet promises more; small objects, which fees decide, are read otherwise than large ones.
    """
    if prices_waited < 0.6:
        found = 0 if prices_waited < 0.3 else 1
    elif prices_waited < 1.6:
        found = 2 if prices_waited < 1.0 else 3
    else:
        found = 4 if prices_waited < 2.5 else 5
    reached = SIZE_LEAST
    for _ in range(SIZES - 1):
        if size < reached:
            return found
        found += WAITS
        reached *= SIZE_STEP
    return found


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
    rules: NDArray[np.float64],
    rule: int,
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
        up = rules[rule, YOUNG_UP] if block.heats[at, copy] == 0 else rules[rule, UP]
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
        pay(at, copy, prices.rise_request[level_at(int(block.quiet[at, copy]), prices.after_days)], block)
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


def horizon(at: int, copy: int, size: float, hot: int, block: Columns, prices: Prices, gate: Gate) -> None:
    """Judge a trial that the coming night makes old enough."""
    if block.trial[at, copy] > 0 and int(block.age[at, copy]) + 1 >= HORIZON_DAYS:
        held = int(block.held[at, copy])
        brought = float(block.spell[at, copy]) + (keep_hot(size, hot, prices) - keep(size, held, prices))
        settle(at, copy, brought >= prices.transition[held], block, gate)


def finish(at: int, copy: int, size: float, hot: int, block: Columns, prices: Prices) -> None:
    """Bill the rest of a minimum duration as the object is deleted; a copy that is gone owes no way back."""
    pay(at, copy, rest(at, copy, 0, size, block, prices), block)
    arrive(at, copy, hot, block)
    block.trial[at, copy] = 0
    block.next[at, copy] = LATER


def state(at: int, life: int, day: int, block: Columns, past: Past, prices: Prices, plain: int) -> None:
    """Bring every count of an object to the dawn of ``day``, up to which it was lived, whatever happened last."""
    size = float(past.size[life])
    hot = prices.managed if prices.managed >= 0 and size >= prices.floor_bytes else 0
    until = min(day, int(past.end[life]))
    if block.lived[at] == 0 or until < past.birth[life]:
        return
    for copy in range(block.held.shape[1]):
        roll(at, copy, size, hot, until, block, prices, plain)
    nights = max(0, until - 1 - int(block.seen[at]))
    block.week[at] = float(block.week[at]) * power(WEEK_DECAY, nights)
    block.month[at] = float(block.month[at]) * power(MONTH_DECAY, nights)
    block.seen[at] = max(int(block.seen[at]), until - 1)
    block.lived[at] = max(int(block.lived[at]), until - int(past.birth[life]))
