"""What the site needs that MkDocs does not do: files beside the pages, and generated tables."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_UP = re.compile(r"\[([^\]]*)\]\((\.\./[^)#]+)(?:#[^)]*)?\)")
"""A link from a page to a file in a folder above: of the repository, or another page."""
_CHOICES, _COMMANDS = "<!-- choices -->", "<!-- commands -->"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Names files outside ``docs`` instead of linking to them; fills in choices and commands."""
    if page.file.src_path == "configuration.md":
        from experiments.app.choices_page import choices_page, commands_page

        markdown = markdown.replace(_CHOICES, choices_page())
        markdown = markdown.replace(_COMMANDS, commands_page())
    folder = posixpath.dirname(page.file.src_path)
    return _UP.sub(lambda link: _named(link, folder), markdown)


def _named(link: re.Match[str], folder: str) -> str:
    """Returns the name of a file outside ``docs``; a link to another page as it is."""
    target = posixpath.normpath(posixpath.join(folder, link[2]))
    if not target.startswith("../"):
        return link[0]
    text, path = link[1].strip().strip("`"), target.removeprefix("../")
    return f"`{path}`" if text in ("", path) or path.endswith(text) else f"{text} (`{path}`)"
