"""Parts of a page as HTML. Every text that comes in is escaped; only ``Markup`` is taken as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

# What would end a script element or begin a comment in it; JSON reads the escapes as the same characters.
_IN_SCRIPTS = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def joined(parts: Iterable[Markup | str]) -> Markup:
    """The parts one after the other; texts among them are escaped."""
    return Markup("\n").join(parts)


def paragraph(text: Markup | str, kind: str = "") -> Markup:
    """A paragraph; ``kind`` is a class of the style sheet: ``note``, ``good``, ``bad``."""
    return Markup('<p class="{}">{}</p>').format(kind, text) if kind else Markup("<p>{}</p>").format(text)


def big(text: Markup | str) -> Markup:
    """The answer of a card, in large letters."""
    return Markup('<p class="big">{}</p>').format(text)


def heading(text: str) -> Markup:
    """Heading of a part of a section."""
    return Markup("<h3>{}</h3>").format(text)


def code(text: str) -> Markup:
    """A command or a file's text, in lines of its own."""
    return Markup("<pre><code>{}</code></pre>").format(text)


def items(texts: Iterable[Markup | str]) -> Markup:
    """A list with points."""
    return Markup("<ul>{}</ul>").format(Markup("").join(Markup("<li>{}</li>").format(text) for text in texts))


def table(rows: Sequence[Mapping[str, object]]) -> Markup:
    """A table with the keys of the first row as its header; columns of numbers are aligned to the right. It scrolls by
    itself where the screen is too narrow. Empty for no rows."""
    if not rows:
        return Markup("")
    names = list(rows[0])
    cells = [["" if row.get(name) is None else row[name] for name in names] for row in rows]
    kinds = ["number" if all(_is_number(line[index]) for line in cells) else "" for index in range(len(names))]
    head = Markup("").join(
        Markup('<th scope="col" class="{}">{}</th>').format(kind, name) for kind, name in zip(kinds, names, strict=True)
    )
    body = Markup("\n").join(
        Markup("<tr>{}</tr>").format(Markup("").join(map(_cell, zip(kinds, line, strict=True)))) for line in cells
    )
    return Markup(
        '<div class="wide" tabindex="0"><table><thead><tr>{}</tr></thead>\n<tbody>{}</tbody></table></div>'
    ).format(head, body)


def transposed(rows: Sequence[Mapping[str, object]]) -> Markup:
    """A table with a column per row: few rows of many values read better so."""
    if not rows:
        return Markup("")
    first, *names = rows[0]
    return table([{first: name, **{str(row[first]): row.get(name) for row in rows}} for name in names])


def folded(summary: str, body: Markup | str) -> Markup:
    """What opens at a click."""
    return Markup("<details><summary>{}</summary>\n{}\n</details>").format(summary, body)


def data_block(identifier: str, data: Any) -> Markup:
    """Data as JSON, for programs and for the page's own script. Numbers that JSON has not become null."""
    text = json.dumps(_finite(data), ensure_ascii=False, allow_nan=False).translate(_IN_SCRIPTS)
    return Markup('<script type="application/json" id="{}">{}</script>').format(identifier, Markup(text))


def _cell(told: tuple[str, object]) -> Markup:
    return Markup('<td class="{}">{}</td>').format(*told)


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    if isinstance(data, float) and not abs(data) < float("inf"):
        return None
    return data if isinstance(data, str | int | float | bool) or data is None else str(data)


def _is_number(value: object) -> bool:
    text = str(value).translate({ord(mark): None for mark in "†‡§,%"}).strip()
    try:
        float(text or 0)
    except ValueError:
        return text == "-"
    return True
