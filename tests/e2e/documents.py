"""Fenced code blocks of the API documents (docs/api/*.md), so that tests run what is printed there."""

import json
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


# -- what a document promises: its JSON, its routes

PREFIX = {"backend": "/api/v1"}
METHODS = "GET|POST|PUT|PATCH|DELETE"


def _json_of(text):
    """The value printed in a block, or None; `[...]` is an empty list, `// …` a comment."""
    text = re.sub(r"\s//.*", "", text.replace("[...]", "[]"))
    start = re.search(r"^\{", text, re.M)
    if not start:
        return None
    try:
        return json.loads(text[start.start():])
    except ValueError:
        return None


def json_blocks(document):
    """(heading, n, value) of everything that is JSON in `json` and `http` blocks; n counts within the heading."""
    text = (ROOT / "docs" / "api" / f"{document}.md").read_text(encoding="utf-8")
    heading, n, found = "", 0, []
    for m in re.finditer(r"^#{2,} ([^\n]+)$|^```(\w*)\n(.*?)^```", text, re.S | re.M):
        if m.group(1) is not None:
            heading, n = m.group(1).strip(), 0
            continue
        if m.group(2) not in ("json", "http"):
            continue
        value = _json_of(m.group(3))
        assert value is not None or m.group(2) == "http", f"{document}: {heading}: this block is no JSON: {m.group(3)}"
        if value is not None:
            found.append((heading, n, value))
            n += 1
    return found


def _saas_routes(text):
    """The guide lists resources in a table and the rest in its examples."""
    for endpoint, methods in re.findall(r"^\| \*\*\w+\*\* \| `(/api/[a-z/*]+)` \| ([A-Z, ]+) \|$", text, re.M):
        for method in methods.split(", "):
            if method in ("GET", "POST") and not endpoint.endswith("*"):
                yield method, endpoint
            if method in ("GET", "PUT", "DELETE"):
                yield method, endpoint.removesuffix("/*") + "/{id}"
    for method, path in re.findall(r"\*\*Endpoint\*\*: `(\w+) (\S+)`", text):
        yield method, path
    for method, path in re.findall(r"curl -X (\w+) http://localhost:5000(/\S+)", text):
        yield method, path
    for path, options in re.findall(r"fetch\('(/api/[^']+)'(, \{\s*method: 'POST')?", text):
        yield ("POST" if options else "GET"), path


def routes(document):
    """Every (method, path) that a document names; parameters are all called {}."""
    text = (ROOT / "docs" / "api" / f"{document}.md").read_text(encoding="utf-8")
    if document == "saas":
        found = _saas_routes(text)
    else:
        found = re.findall(rf"^(?:#+ )?({METHODS}) (/\S+)", text, re.M)
    return sorted({(method, normal(PREFIX.get(document, "") + path.split("?")[0])) for method, path in found if not path.startswith("/*")})


def normal(path):
    return re.sub(r"\{[^}]*\}", "{}", path)
