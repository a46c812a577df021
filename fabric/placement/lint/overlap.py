"""When two filters can take the same object, and when one takes everything the other takes."""

from __future__ import annotations

from fabric.placement.lint.model import Action, Filter, Since, Subject, Wait


def meet(one: Filter, other: Filter) -> bool:
    """Whether an object can pass both filters."""
    return (
        _begin_alike(one.prefixes, other.prefixes)
        and _begin_alike(_reversed(one.suffixes), _reversed(other.suffixes))
        and _tags_agree(one, other)
        and max(_low(one), _low(other)) < min(_high(one), _high(other))
        and _classes_meet(one.classes, other.classes)
    )


def covers(one: Filter, other: Filter) -> bool:
    """Whether every object that ``other`` takes is taken by ``one``."""
    return (
        _all_begin(one.prefixes, other.prefixes)
        and _all_begin(_reversed(one.suffixes), _reversed(other.suffixes))
        and set(one.tags) <= set(other.tags)
        and _low(one) <= _low(other)
        and _high(one) >= _high(other)
        and (not one.classes or (bool(other.classes) and set(other.classes) <= set(one.classes)))
    )


def empty(where: Filter) -> bool:
    """Whether no size passes."""
    return _low(where) >= _high(where)


def comes_before(one: Action, other: Action) -> bool:
    """Whether ``one`` is due no later than ``other`` for every object, as far as their waits tell."""
    first, second = _waits(one), _waits(other)
    if first is None or second is None or first.since is not second.since or bool(first.date) != bool(second.date):
        return False
    return (first.date, first.days) <= (second.date, second.days)


def _waits(action: Action) -> Wait | None:
    if len(action.waits) != 1 or action.newer is not None:
        return None
    wait = action.waits[0]
    return None if wait.date and wait.since is not Since.CALENDAR else wait


def same_subject(one: Action, other: Action) -> bool:
    """Whether ``one`` acts on every version that ``other`` acts on."""
    return one.subject is other.subject or (
        one.subject is Subject.ANY and other.subject in (Subject.CURRENT, Subject.NONCURRENT)
    )


def _begin_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return any(a.startswith(b) or b.startswith(a) for a in one or ("",) for b in other or ("",))


def _all_begin(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return all(b.startswith(one or ("",)) for b in other or ("",))


def _reversed(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text[::-1] for text in texts)


def _tags_agree(one: Filter, other: Filter) -> bool:
    known = dict(one.tags)
    return all(known.get(key, value) == value for key, value in other.tags)


def _classes_meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return not one or not other or bool(set(one) & set(other))


def _low(where: Filter) -> float:
    """The smallest size that passes."""
    return 0 if where.larger_than is None else where.larger_than + 1


def _high(where: Filter) -> float:
    """One above the largest size that passes."""
    return float("inf") if where.smaller_than is None else where.smaller_than
