"""What the contracts and dialects declare, read from their texts: routes, permissions, roles, bodies. Nothing here asks the running stack."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
FACES = ["backend", "saas", "system", "mvp", "elevate", "native"]
NO_PERMISSION = {"PUBLIC", "AUTHENTICATED", "INTERNAL"}


def _blocks(text, word):
    """The insides of `word { … }` at the left margin's level, braces in quotes not counted."""
    for m in re.finditer(r"^" + word + r"\s*\{", text, re.M):
        depth, at, quoted = 1, m.end(), False
        while depth:
            c = text[at]
            if c == "\\":
                at += 1
            elif c == '"':
                quoted = not quoted
            elif not quoted:
                depth += {"{": 1, "}": -1}.get(c, 0)
            at += 1
        yield text[m.end():at - 1]


def _without_comments(text):
    return re.sub(r"^\s*#.*$", "", text, flags=re.M)


def permissions():
    """rpc -> permission as the contracts have it: {"Leads.List": "leads.read", "Auth.Login": "PUBLIC"}."""
    out = {}
    for file in sorted((ROOT / "proto").glob("*.proto")):
        text = re.sub(r"//.*", "", file.read_text())
        for service in re.finditer(r"^service (\w+) \{(.*?)^\}", text, re.M | re.S):
            for rpc in re.finditer(r"rpc (\w+)\(.*?permission:\s*(\w+)", service[2], re.S):
                out[f"{service[1]}.{rpc[1]}"] = rpc[2] if rpc[2] in NO_PERMISSION else ".".join(rpc[2].lower().rsplit("_", 1))
    return out


def every_permission():
    text = re.sub(r"//.*", "", (ROOT / "proto/options.proto").read_text())
    names = re.findall(r"(\w+) = \d+;", re.search(r"enum Permission \{(.*?)^\}", text, re.M | re.S)[1])
    return {".".join(n.lower().rsplit("_", 1)) for n in names if n not in NO_PERMISSION}


def roles():
    """Built-in role -> permissions, from the service's own definitions."""
    text = (ROOT / "svc-auth/roles.c").read_text()

    def words(name):
        return set(re.findall(r'"([a-z_]+\.[a-z_]+)"', re.search(name + r"\[\] = \{(.*?)\};", text, re.S)[1]))
    return {"admin": every_permission(), "manager": every_permission() - words("manager_lacks"), "agent": words("agent_has")}


class Route:
    def __init__(self, face, block, of_rpc):
        self.face = face
        self.method, self.path = re.search(r'\bon: "(\w+) ([^"]+)"', block).groups()
        self.rpc = re.search(r'\brpc: "([^"]+)"', block)[1]
        self.body = (re.search(r'\bbody: "([^"]+)"', block) or [None, None])[1]
        note = re.search(r'\bnote: "([^"]+)"', block)
        self.needs = {of_rpc[rpc] for rpc in [self.rpc] + ([note[1]] if note else [])}

    def __repr__(self):
        return f"{self.face} {self.method} {self.path}"

    def is_public(self):
        return self.needs == {"PUBLIC"}

    def allows(self, held):
        return self.needs - NO_PERMISSION <= held


def routes():
    of_rpc = permissions()
    for face in FACES:
        text = _without_comments((ROOT / f"gateway/dialects/{face}.textproto").read_text())
        for block in _blocks(text, "route"):
            yield Route(face, block, of_rpc)


def references(face):
    """Body resource -> {member: kind} for members that refer to an entity by id: {"lead": {"assignedTo": "user"}}."""
    out = {}
    text = _without_comments((ROOT / f"gateway/dialects/{face}.textproto").read_text())
    for block in _blocks(text, "resource"):
        name = re.search(r'\bname: "([^"]+)"', block)[1]
        out[name] = {}
        for f in _blocks(re.sub(r"\bf \{", "\nf {", block), "f"):
            ref = re.search(r'\bas: "(?:ref|refobj|id):(\w+)"', f)
            if ref and "ro: true" not in f and re.search(r'\bp: "', f):
                out[name][re.search(r'\bj: "([^"]+)"', f)[1]] = ref[1]
    return out
