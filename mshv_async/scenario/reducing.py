"""Smaller scenarios: one without a thread, an operation, an injection, a region, and its text.

Shrinking tries them one after the other; whether one still shows the same failure, only playing
it tells. Guest page numbers, sizes and everything of the host and the hypervisor stay as they are.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple

Raw = dict[str, Any]
"""A scenario file as TOML reads it."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_OF_VP = re.compile(r"((?:lp-)?)(vp|guest)(\d+)((?:-.*)?)")
_IN_HEX = frozenset({"gfn", "uaddr", "base"})


class Smaller(NamedTuple):
    """A smaller scenario: what is left out, its text, and what its threads were called before."""

    what: str
    text: str
    renamed: Callable[[str], str]


def smaller_scenarios(text: str) -> Iterator[Smaller]:
    """Yield each scenario that lacks one thing of this one; the largest things first.

    Not all can be loaded: one may lack what another line of it names.
    """
    raw = tomllib.loads(text)
    for number in range(len(raw.get("thread", []))):
        yield Smaller(f"thread {number}", toml_text(_without_thread(raw, number)), str)
    yield from _fewer_vps(raw)
    for key in ("process", "inject", "region"):
        for number in range(len(raw.get(key, []))):
            yield Smaller(f"{key} {number}", toml_text(_without(raw, key, number)), str)
    for key in ("thread", "vp"):
        for number, owner in enumerate(raw.get(key, [])):
            for program in shorter_programs(owner.get("program", [])):
                changed = deepcopy(raw)
                changed[key][number]["program"] = program
                yield Smaller(f"{key} {number}: {program}", toml_text(changed), str)
    for number, injection in enumerate(raw.get("inject", [])):
        if injection.get("times", 1) > 1:
            changed = deepcopy(raw)
            changed["inject"][number]["times"] = 1
            yield Smaller(f"inject {number}: once", toml_text(changed), str)


def shorter_programs(program: list[str]) -> Iterator[list[str]]:
    """Yield programs that lack a line, an operation of a group, or repetitions of a line."""
    for at in reversed(range(len(program))):
        if len(program) > 1:
            yield [*program[:at], *program[at + 1 :]]
    for at, line in enumerate(program):
        for shorter in _shorter_lines(line):
            yield [*program[:at], shorter, *program[at + 1 :]]


def _shorter_lines(line: str) -> Iterator[str]:
    prefix, group = _split(line)
    if prefix:
        yield group
    first, _, times = prefix.partition(" ")
    if first == "repeat" and times.isdecimal() and int(times) > 2:
        yield f"repeat {int(times) // 2} {group}"
        yield f"repeat {int(times) - 1} {group}"
    parts = [part.strip() for part in group.split(";")]
    for at in reversed(range(len(parts))):
        if len(parts) > 1:
            rest = "; ".join(parts[:at] + parts[at + 1 :])
            yield f"{prefix} {rest}".strip()


def _split(line: str) -> tuple[str, str]:
    """Return the prefix of a line (``repeat K``, ``forever`` or nothing) and its group."""
    first, _, rest = line.strip().partition(" ")
    if first == "forever":
        return first, rest.strip()
    if first == "repeat":
        count, _, group = rest.strip().partition(" ")
        return f"repeat {count}", group.strip()
    return "", line.strip()


def _without(raw: Raw, key: str, number: int) -> Raw:
    changed = deepcopy(raw)
    del changed[key][number]
    if not changed[key]:
        del changed[key]
    return changed


def _without_thread(raw: Raw, number: int) -> Raw:
    """Leave a thread out; those that were called after their kind keep their names."""
    changed = deepcopy(raw)
    of_kind: dict[str, int] = {}
    for thread in changed["thread"]:
        earlier = of_kind.get(thread["kind"], 0)
        of_kind[thread["kind"]] = earlier + 1
        if earlier and "name" not in thread:
            thread["name"] = f"{thread['kind']}{earlier}"
    return _without(changed, "thread", number)


def _fewer_vps(raw: Raw) -> Iterator[Smaller]:
    index = 0
    for number, group in enumerate(raw.get("vp", [])):
        count = group.get("count", 1)
        for member in range(count):
            if count > 1:
                changed = deepcopy(raw)
                changed["vp"][number]["count"] = count - 1
            else:
                changed = _without(raw, "vp", number)
            gone = index + member
            yield Smaller(f"vp{gone}", toml_text(changed), _without_vp(gone))
        index += count


def _without_vp(gone: int) -> Callable[[str], str]:
    """Return what gives the threads of later processors the names that they get."""

    def renamed(name: str) -> str:
        match = _OF_VP.fullmatch(name)
        if match is None or int(match[3]) < gone:
            return name
        if int(match[3]) == gone:
            return f"gone-{name}"
        return f"{match[1]}{match[2]}{int(match[3]) - 1}{match[4]}"

    return renamed


def toml_text(raw: Raw) -> str:
    """Write a scenario: first its own keys, then its tables, then its lists of tables."""
    plain = {k: v for k, v in raw.items() if not _is_table(v)}
    blocks = [_lines(plain)]
    blocks += [f"[{_key(k)}]\n{_lines(v)}" for k, v in raw.items() if isinstance(v, dict) and v]
    for key, value in raw.items():
        if _is_table(value) and isinstance(value, list):
            blocks += [f"[[{_key(key)}]]\n{_lines(table)}" for table in value]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)
    )


def _lines(table: Raw) -> str:
    return "\n".join(f"{_key(k)} = {_value(v, k)}" for k, v in table.items())


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _value(value: object, key: str = "") -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() if key in _IN_HEX:
            return hex(value)
        case str():
            return _string(value)
        case list():
            return "[" + ", ".join(_value(item, key) for item in value) + "]"
        case dict():
            return "{ " + ", ".join(f"{_key(k)} = {_value(v, k)}" for k, v in value.items()) + " }"
    return repr(value)


def _string(text: str) -> str:
    """Write a basic string: TOML's escapes are JSON's, and DEL has to be escaped as well."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
