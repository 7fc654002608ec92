"""A whole page: one file of HTML that asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from runner.page.elements import data_block, joined
from runner.page.library import ASSETS, charting_library

DATA = "page-data"  # of the element with the page's data as JSON


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading; the page's list of contents names it."""

    title: str
    body: Markup

    @property
    def anchor(self) -> str:
        """Name for links to it."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


_PAGE = Markup("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
{head}
</header>
<nav aria-label="Contents">{contents}</nav>
<main>
{sections}
</main>
{data}
<script>{library}</script>
<script>{script}</script>
</body>
</html>
""")


def html_page(title: str, sections: Sequence[Section], *, head: Markup | str = "", data: Any = None) -> str:
    """Text of a page with these sections, in order. ``head`` stands under the title, before the list of contents;
    ``data`` is what programs are to find, as JSON in the element ``page-data``.

    Scripts and styles run only if their digest is in the page's policy, and the policy allows no network: what a text
    smuggles in does nothing. Raises DataError if the charting library isn't the pinned one.
    """
    style, script = (Markup((ASSETS / name).read_text()) for name in ("page.css", "page.js"))
    library = Markup(charting_library())
    policy = (
        f"default-src 'none'; script-src {_digest(library)} {_digest(script)}; style-src {_digest(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    contents = joined(Markup('<a href="#{}">{}</a>').format(part.anchor, part.title) for part in sections)
    bodies = joined(
        Markup('<section id="{}"><h2>{}</h2>\n{}\n</section>').format(part.anchor, part.title, part.body)
        for part in sections
    )
    return str(
        _PAGE.format(
            policy=Markup(policy),
            title=title,
            style=style,
            head=head,
            contents=contents,
            sections=bodies,
            data=data_block(DATA, data),
            library=library,
            script=script,
        )
    )


def _digest(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
