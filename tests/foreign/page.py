"""What `docs/server.md` says, for tests of it."""

import pathlib
import re

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "server.md"


def snippets(section, language):
    """Returns the code in `language` of a section."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)[1]
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
    assert found, f"no {language} in `{section}`"
    return found


def with_values(snippet, values):
    """Replaces each text, which must be there."""
    for text, value in values.items():
        assert text in snippet, text
        snippet = snippet.replace(text, str(value))
    return snippet
