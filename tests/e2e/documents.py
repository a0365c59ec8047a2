"""Fenced code blocks of the API documents (docs/api/*.md), so that tests run what is printed there."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]


def blocks(document, language):
    """All blocks of a language in a document, in order."""
    text = (ROOT / "docs" / "api" / f"{document}.md").read_text(encoding="utf-8")
    return [m.group(1) for m in re.finditer(r"```" + language + r"\n(.*?)```", text, re.S)]


def block(document, language, containing):
    """The one block that contains a text."""
    found = [b for b in blocks(document, language) if containing in b]
    assert len(found) == 1, f"{len(found)} {language} blocks of {document} contain {containing!r}"
    return found[0]
