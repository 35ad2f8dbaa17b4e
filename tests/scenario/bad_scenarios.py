"""A good scenario and ways to break it, and what an error has to look like."""

import pytest

from mshv_async.scenario import Scenario, ScenarioError

GOOD = """
summary = "A scenario to break"
[[region]]
gfn = 0x200
size = "8KiB"
[[vp]]
program = ["read 0x200"]
"""


def vp(program):
    return f'summary = "s"\n[[vp]]\nprogram = [{program!r}]\n'


def thread(kind, *lines, region=True):
    mapped = '[[region]]\ngfn = 0x200\nsize = "8KiB"\n' if region else ""
    return f'summary = "s"\n{mapped}[[thread]]\nkind = "{kind}"\nprogram = {list(lines)!r}\n'


def workload(text):
    return (
        f'summary = "s"\n[[region]]\ngfn = 0x200\nsize = "8KiB"\n[[vp]]\nworkload = {{ {text} }}\n'
    )


def inject(text):
    return f"{GOOD}[[inject]]\n{text}\n"


def expect(text):
    return f"{GOOD}[expect]\n{text}\n"


def told(text, key, found, allowed, tmp_path):
    """Load a bad file and see that the error is one line with these fragments in their places."""
    file = tmp_path / "bad.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        Scenario.load(file)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(f"{file}: {key}")
    assert found in caught.value.found
    assert allowed in caught.value.allowed
    assert caught.value.found in message
    assert caught.value.allowed in message
    assert not key or key.endswith('."') or caught.value.key == key
