"""The operations of programs: what each is called, takes, and which threads can do it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, get_args

import msgspec

from mshv_async.scenario.errors import Misfit, listed, quoted
from mshv_async.scenario.model import BackingKind, RegionFlag
from mshv_async.scenario.quantities import (
    PAGE_SIZE,
    parse_gfn,
    parse_number,
    parse_size,
    parse_uaddr,
)
from mshv_async.vmm import PERFORM

ADVICE: Final = ("dontneed", "free", "pageout", "hugepage", "nohugepage", "collapse")
PROTECTIONS: Final = ("none", "r", "rw")
FILES: Final = ("vp", "partition")
PAGES_MAX: Final = 1 << 34
VP_LIMIT: Final = 1 << 32
NS_MAX: Final = 1 << 62


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One operation of a program; ``kind`` is its first word, the rest its arguments.

    The place is a ``gfn`` or a raw ``address`` in the VMM's process (bytes); neither, for
    ``reclaim``, leaves the choice of pages to the reclaimer. Once a scenario is loaded, every
    operation on host memory has its ``address`` and every ``map`` its ``uaddr``. ``pages``: 4 KiB
    pages from there on; ``ns``: virtual nanoseconds; ``tag``: what is written (None: thread name
    and a counter). ``file``: whose descriptor, ``vp`` (that of index ``vp``) or ``partition``;
    ``process``: the name of another process than the VMM.
    """

    kind: str
    gfn: int | None = None
    address: int | None = None
    pages: int = 1
    tag: str | None = None
    advice: str | None = None
    prot: str | None = None
    backing: str = "anon"
    flags: tuple[str, ...] = ("writable", "executable")
    uaddr: int | None = None
    ns: int = 0
    file: str | None = None
    vp: int | None = None
    process: str | None = None

    def __str__(self) -> str:
        """Return the operation as it would stand in a program."""
        return " ".join(w for w in GRAMMARS[self.kind].words(self) if w)


Parser = Callable[[str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Grammar:
    """One operation: ``usage`` is shown to users, the parsers read its arguments in order.

    ``check`` looks at all of them together.
    """

    usage: str
    threads: tuple[str, ...]
    words: Callable[[Operation], list[str]]
    arguments: tuple[Parser, ...] = ()
    optional: tuple[Parser, ...] = ()
    keywords: tuple[str, ...] = ()
    check: Callable[[dict[str, Any]], None] | None = None

    @property
    def kind(self) -> str:
        """The operation's name."""
        return self.usage.split()[0]


def parse_operation(text: str, thread_kind: str) -> Operation:
    """Return the operation that ``text`` describes, for a thread of that kind.

    ``thread_kind`` is ``vp`` or the kind of a ``[[thread]]``. ``Misfit`` says what is wrong.
    """
    words = text.split()
    if not words:
        raise Misfit("an empty operation", _choice(thread_kind))
    grammar = GRAMMARS.get(words[0])
    if grammar is None:
        raise Misfit(quoted(text.strip()), _choice(thread_kind))
    if grammar.threads and thread_kind not in grammar.threads:
        owners = f"{listed(grammar.threads)} threads"
        raise Misfit(f"{quoted(words[0])}, an operation of {owners}", _choice(thread_kind))
    if not _modelled(grammar):
        raise Misfit(f"{quoted(words[0])}, which is not modelled yet", _choice(thread_kind))
    try:
        return msgspec.structs.replace(Operation(kind=words[0]), **_arguments(grammar, words[1:]))
    except Misfit as misfit:
        raise Misfit(misfit.found, f"{misfit.allowed}, as in: {grammar.usage}") from None


def _arguments(grammar: Grammar, words: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    parsers = grammar.arguments + grammar.optional
    plain = [w for w in words if not (grammar.keywords and "=" in w)]
    if not len(grammar.arguments) <= len(plain) <= len(parsers):
        raise Misfit(f"{len(plain)} arguments", _expected_arguments(grammar))
    for parser, word in zip(parsers, plain, strict=False):
        values |= parser(word)
    seen = set()
    for word in (w for w in words if grammar.keywords and "=" in w):
        name, _, value = word.partition("=")
        if name not in grammar.keywords or name in seen:
            raise Misfit(quoted(word), f"each once: {listed(f'{k}=…' for k in grammar.keywords)}")
        seen.add(name)
        values |= _KEYWORDS[name](value)
    if grammar.check is not None:
        grammar.check(values)
    return values


def _expected_arguments(grammar: Grammar) -> str:
    least, most = len(grammar.arguments), len(grammar.arguments) + len(grammar.optional)
    return f"{least}" if least == most else f"{least} to {most}"


def _choice(thread_kind: str) -> str:
    usages = [
        grammar.usage
        for grammar in GRAMMARS.values()
        if _modelled(grammar) and (not grammar.threads or thread_kind in grammar.threads)
    ]
    return listed(f"`{usage}`" for usage in usages)


def _modelled(grammar: Grammar) -> bool:
    """Whether somebody performs it: the guest, or the VMM's threads."""
    return grammar.threads == _VP or grammar.kind in PERFORM


def _one_of(field: str, known: tuple[str, ...]) -> Parser:
    def parse(word: str) -> dict[str, Any]:
        if word not in known:
            raise Misfit(quoted(word), listed(known))
        return {field: word}

    return parse


def _gfn(word: str) -> dict[str, Any]:
    return {"gfn": parse_gfn(word)}


def _place(word: str) -> dict[str, Any]:
    return {"address": parse_uaddr(word[1:])} if word.startswith("@") else _gfn(word)


def _place_or_some(word: str) -> dict[str, Any]:
    return {} if word == "some" else _place(word)


def _pages(word: str) -> dict[str, Any]:
    allowed = "a number of pages, at least 1"
    pages = parse_number(word, allowed)
    if not 1 <= pages <= PAGES_MAX:
        raise Misfit(quoted(word), allowed)
    return {"pages": pages}


def _size(word: str) -> dict[str, Any]:
    size = parse_size(word)
    if size == 0 or size % PAGE_SIZE or size // PAGE_SIZE > PAGES_MAX:
        raise Misfit(quoted(word), f"a size that is a multiple of {PAGE_SIZE} bytes, at least one")
    return {"pages": size // PAGE_SIZE}


def _ns(word: str) -> dict[str, Any]:
    ns = parse_number(word, "virtual nanoseconds")
    if ns > NS_MAX:
        raise Misfit(quoted(word), f"virtual nanoseconds up to {NS_MAX}")
    return {"ns": ns}


def _tag(word: str) -> dict[str, Any]:
    if not re.fullmatch(r"\w[\w.:-]{0,39}", word):
        raise Misfit(quoted(word), "a tag: a word of letters, digits and _ . : -, 40 at most")
    return {"tag": word}


def _index(word: str) -> dict[str, Any]:
    allowed = f"the index of a VP, below {VP_LIMIT}"
    index = parse_number(word, allowed)
    if index >= VP_LIMIT:
        raise Misfit(quoted(word), allowed)
    return {"vp": index}


def _vp(word: str) -> dict[str, Any]:
    if not re.fullmatch(r"vp[0-9]{1,9}", word):
        raise Misfit(quoted(word), "the thread of a VP, such as vp0")
    return {"vp": int(word[2:])}


def _process(word: str) -> dict[str, Any]:
    return {"process": word}


def _check_file(values: dict[str, Any]) -> None:
    if (values["file"] == "vp") != ("vp" in values):
        found = "vp without an index" if values["file"] == "vp" else "partition with an index"
        raise Misfit(found, "an index for a vp, and only for a vp")


def _flags(value: str) -> dict[str, Any]:
    known = get_args(RegionFlag)
    flags = () if value == "none" else tuple(value.split(","))
    if len(set(flags)) < len(flags) or not set(flags) <= set(known):
        raise Misfit(quoted(f"flags={value}"), f"flags=none or, with commas, {listed(known)}")
    return {"flags": flags}


_KEYWORDS: Final[dict[str, Parser]] = {
    "backing": _one_of("backing", get_args(BackingKind)),
    "flags": _flags,
    "uaddr": lambda word: {"uaddr": parse_uaddr(word)},
}


def _place_word(op: Operation) -> str:
    if op.gfn is not None:
        return f"{op.gfn:#x}"
    return "some" if op.address is None else f"@{op.address:#x}"


def _map_words(op: Operation) -> list[str]:
    return [
        "map",
        f"{op.gfn:#x}",
        f"{op.pages * 4}KiB",
        f"backing={op.backing}",
        f"flags={','.join(op.flags) or 'none'}",
        f"uaddr={op.uaddr:#x}" if op.uaddr is not None else "",
    ]


def _touch_words(op: Operation) -> list[str]:
    return [op.kind, _place_word(op), op.tag or ""]


def _range_words(op: Operation) -> list[str]:
    return [op.kind, op.advice or "", _place_word(op), str(op.pages), op.prot or ""]


def _file_words(op: Operation) -> list[str]:
    return [op.kind, op.file or "", "" if op.vp is None else str(op.vp)]


def _process_words(op: Operation) -> list[str]:
    return [op.kind, op.process or ""]


def _bare_words(op: Operation) -> list[str]:
    return [op.kind]


# A VMM thread is a thread of the process whose memory this is, so it can do what hosts do.
_HOST: Final = ("host", "vmm")
_VMM: Final = ("vmm",)
_VP: Final = ("vp",)


def _on_a_file(kind: str) -> Grammar:
    usage = f"{kind} vp I|partition"
    which = (_one_of("file", FILES),)
    return Grammar(usage, _VMM, _file_words, which, (_index,), check=_check_file)


GRAMMARS: Final[dict[str, Grammar]] = {
    g.kind: g
    for g in (
        Grammar("read G", _VP, _touch_words, (_gfn,)),
        Grammar("write G [TAG]", _VP, _touch_words, (_gfn,), (_tag,)),
        Grammar("exec G", _VP, _touch_words, (_gfn,)),
        Grammar("touch G", _HOST, _touch_words, (_place,)),
        Grammar("store G [TAG]", _HOST, _touch_words, (_place,), (_tag,)),
        Grammar(
            f"madvise {'|'.join(ADVICE)} G N",
            _HOST,
            _range_words,
            (_one_of("advice", ADVICE), _place, _pages),
        ),
        Grammar("munmap G N", _HOST, _range_words, (_place, _pages)),
        Grammar(
            f"mprotect G N {'|'.join(PROTECTIONS)}",
            _HOST,
            _range_words,
            (_place, _pages, _one_of("prot", PROTECTIONS)),
        ),
        Grammar(
            "map GFN SIZE [backing=…] [flags=…] [uaddr=…]",
            _VMM,
            _map_words,
            (_gfn, _size),
            keywords=tuple(_KEYWORDS),
        ),
        Grammar("unmap GFN", _VMM, _touch_words, (_gfn,)),
        Grammar("create-vp I", _VMM, _file_words, (_index,)),
        Grammar("signal vpI", _VMM, lambda op: ["signal", f"vp{op.vp}"], (_vp,)),
        Grammar("kill [PROCESS]", _VMM, _process_words, (), (_process,)),
        Grammar("exit", _VMM, _bare_words),
        _on_a_file("close"),
        _on_a_file("dup"),
        Grammar("reclaim G|some N", ("reclaimer",), _range_words, (_place_or_some, _pages)),
        Grammar("collapse G [N]", ("khugepaged",), _range_words, (_place,), (_pages,)),
        Grammar("reap [PROCESS]", ("oom-reaper",), _process_words, (), (_process,)),
        Grammar("sleep NS", (), lambda op: ["sleep", str(op.ns)], (_ns,)),
        Grammar("yield", (), _bare_words),
    )
}
"""Every operation by name; no ``threads``: any thread."""
