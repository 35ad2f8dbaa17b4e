"""Values that differ have keys that differ, or none: what a key cannot say it refuses."""

from __future__ import annotations

from collections import Counter, OrderedDict
from functools import partial
from typing import NamedTuple

import pytest

from mshv_async.sim import Shared
from mshv_async.sim.canonical import HiddenState, KeyWriter
from mshv_async.sim.current import instrumented


class Near(NamedTuple):
    page: int


class Far(NamedTuple):
    page: int


class Sealed:
    __slots__ = ("__page",)

    def __init__(self, page):
        self.__page = page


class SealedObject(Shared):
    __slots__ = ("__page",)

    def __init__(self, page):
        super().__init__("sealed")
        self.__page = page


class Pages(list):
    """Its items are no attribute of it."""


def key(value):
    writer = KeyWriter()
    writer.write(value)
    return writer.out


def condition(first):
    return (lambda: 1) if first else (lambda: 2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Near(1), Far(1)),
        (Sealed(1), Sealed(2)),
        (SealedObject(1), SealedObject(2)),
        (partial(key, 1), partial(key, 2)),
        (ValueError("a"), ValueError("b")),
        (condition(True), condition(False)),
        (lambda page=1: page, lambda page=2: page),
        (lambda *, page=1: page, lambda *, page=2: page),
        ([1].append, [2].append),
    ],
    ids=lambda value: type(value).__name__,
)
def test_two_values_do_not_have_one_key(one, other):
    assert key(one) != key(other)
    assert key(one) == key(one)


@pytest.mark.parametrize("value", [Pages([1]), OrderedDict(page=1), Counter("a"), {1}])
def test_what_keeps_its_content_to_itself_has_no_key(value):
    with pytest.raises(HiddenState, match=type(value).__name__):
        key(value)


def test_a_private_slot_of_a_modelled_object_reports_its_accesses():
    token = instrumented.set(True)
    try:
        assert key(SealedObject(1)) != key(SealedObject(2))
    finally:
        instrumented.reset(token)
