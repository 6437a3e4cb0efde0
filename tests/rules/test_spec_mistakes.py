from pathlib import Path

import pytest

from streamgauge.engine.errors import ConfigError
from streamgauge.rules.spec import examine, parse

SMALLEST = """\
[pipeline]
name = "thermostats"
[[rules]]
name = "overheating"
sql = "SELECT temperature FROM '#'"
measure = "temperature"
threshold = 90
"""


def read_cases():
    """The cases of spec_mistakes.txt: title, text of the file, message."""
    content = Path(__file__).with_name("spec_mistakes.txt").read_text()
    for case in content.split("\n\n# ")[1:]:
        title, *edits = case.strip("\n").split("\n")
        lines = SMALLEST.splitlines()
        cursor = len(lines)
        message = []
        for edit in edits:
            sign, text = edit[:1], edit[2:]
            if sign == "-":
                cursor = lines.index(text)
                del lines[cursor]
            elif sign == ">":
                message.append(text)
            else:
                assert sign in "+^", edit
                lines.insert(0 if sign == "^" else cursor, text)
                cursor += 1
        yield pytest.param("\n".join(lines) + "\n", "\n".join(message), id=title)


CASES = list(read_cases())


def test_the_file_of_mistakes_is_read():
    assert len(CASES) >= 50
    assert parse(SMALLEST).rules[0].threshold == 90.0


@pytest.mark.parametrize(("text", "message"), CASES)
def test_a_mistake_is_named(text, message):
    assert [str(problem) for problem in examine(text, "t.toml")[1]] == [message]
    with pytest.raises(ConfigError) as caught:
        parse(text, "t.toml")
    assert str(caught.value) == message
