"""The scenarios that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mshv_async.scenario.errors import ScenarioError, close_match

_PACKAGE: Final = Path(__file__).resolve().parent.parent


def shipped_folder() -> Path:
    """Return the folder of the shipped scenarios: in the package, or beside it in a checkout."""
    installed = _PACKAGE / "scenarios"
    return installed if installed.is_dir() else _PACKAGE.parent / "scenarios"


def shipped_paths() -> dict[str, Path]:
    """Return the shipped scenario files by name: the path below the folder, without ``.toml``."""
    folder = shipped_folder()
    paths = {
        path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.toml")
    }
    return dict(sorted(paths.items()))


def find(path_or_name: str | Path) -> tuple[str, Path]:
    """Return the name and file of a scenario; ``ScenarioError`` where there is none.

    An existing file wins; else it is the name of a shipped scenario, which may be written as in
    a checkout (``scenarios/litmus/one-page.toml``).
    """
    allowed = "the path of a scenario file, or a name that `list scenarios` shows"
    if not path_or_name:
        raise ScenarioError("scenario", "", "nothing", allowed)
    path = Path(path_or_name)
    text = path.as_posix()
    shipped = shipped_paths()
    if path.is_file():
        resolved = path.resolve()
        names = [name for name, known in shipped.items() if known.resolve() == resolved]
        return (names[0] if names else text.removesuffix(".toml")), path
    name = text.removeprefix("scenarios/").removesuffix(".toml")
    if name in shipped:
        return name, shipped[name]
    hint = close_match(name, shipped)
    found = "a folder" if path.is_dir() else f"no such file, nor a shipped scenario{hint}"
    raise ScenarioError(text, "", found, allowed)
