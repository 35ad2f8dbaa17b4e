"""The rooms of the house import downward only."""

from __future__ import annotations

import ast
from pathlib import Path

import mshv_async

PACKAGE = Path(mshv_async.__file__).parent

# From the top; rooms of one row do not know each other.
ROWS = [
    {"cli", "pytest_plugin", "__main__"},
    {"testing"},
    {"explore"},
    {"log"},
    {"scenario"},
    {"oracle"},
    {"guest", "vmm"},
    {"driver"},
    {"hyperv", "host"},
    {"sim"},
]
LEVEL = {room: level for level, row in enumerate(ROWS) for room in row}
# The VMM owns the guests that it runs.
ALLOWED = {("vmm", "guest")}


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "mshv_async" and len(parts) > 1 else None


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def test_rooms_import_downward_only() -> None:
    wrong = []
    seen = 0
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in LEVEL, f"{path}: which room is this?"
        for module in sorted(imports_of(path)):
            other = room_of(module)
            if other is None or other == room:
                continue
            seen += 1
            upward = LEVEL[other] <= LEVEL[room] and (room, other) not in ALLOWED
            if upward:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {module}")
    assert not wrong, "\n".join(wrong)
    assert seen > 50, "the test must have seen the rooms' imports"
