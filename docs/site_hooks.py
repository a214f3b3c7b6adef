"""What the site needs that MkDocs does not do: files beside the pages, and generated tables."""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)#]+)\)")
"""A link from a page to a file of the repository that is no page."""
_CHOICES = "<!-- choices -->"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Names files outside ``docs`` instead of linking to them, and fills in the choices."""
    if page.file.src_path == "configuration.md":
        from experiments.app.choices_page import choices_page

        markdown = markdown.replace(_CHOICES, choices_page())
    return _OUTSIDE.sub(_named, markdown)


def _named(link: re.Match[str]) -> str:
    text, path = link[1].strip().strip("`"), link[2]
    return f"`{path}`" if text in ("", path) or path.endswith(text) else f"{text} (`{path}`)"
