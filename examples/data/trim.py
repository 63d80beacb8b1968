#!/usr/bin/env python3
"""Writes github_webhooks.json and github_webhooks.schema.json from the two unpacked npm packages.

    python3 trim.py WEBHOOKS_EXAMPLES WEBHOOKS_SCHEMAS [OUT]

WEBHOOKS_EXAMPLES and WEBHOOKS_SCHEMAS are the `package` folders of @octokit/webhooks-examples 7.6.1 and
@octokit/webhooks-schemas 7.6.1; OUT is where the files go, by default this script's folder. No network.

Payloads are taken or left whole. White space between tokens is all that changes in them and in the schema.
"""

import json
import sys
from pathlib import Path

# An event whose smallest payload is larger than this is left out, unless it is all that its type has.
MAX_BYTES = 8_000

# In most types the first example is an old one that does not pass the schema of today, so it is passed over where there
# is another; these are taken on purpose, for the demo of validation and dead letters.
FIRST_TOO = [
    "create",
    "delete",
    "installation",
    "label",
    "ping",
    "push",
    "repository_dispatch",
    "security_advisory",
    "star",
    "watch",
]

# Events that a reader looks for, whatever their size.
ALWAYS = [("issues", "opened"), ("pull_request", "opened")]


def minified(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def size(payload):
    return len(minified(payload).encode())


def action(payload):
    given = payload.get("action")
    return given if isinstance(given, str) else None


def chosen(name, examples):
    """The smallest payload of each action and the exceptions above, in the package's order."""
    smallest = {}
    for index in range(min(1, len(examples) - 1), len(examples)):
        best = smallest.setdefault(action(examples[index]), index)
        if size(examples[index]) < size(examples[best]):
            smallest[action(examples[index])] = index
    least = min(smallest.values(), key=lambda index: size(examples[index]))
    taken = {index for index in smallest.values() if index == least or size(examples[index]) <= MAX_BYTES}
    taken |= {index for given, index in smallest.items() if (name, given) in ALWAYS}
    if name in FIRST_TOO:
        taken.add(0)
    return [examples[index] for index in sorted(taken)]


def sample(types):
    blocks = []
    for entry in types:
        lines = ",\n".join(minified(payload) for payload in chosen(entry["name"], entry["examples"]))
        blocks.append(f'{{"name":{minified(entry["name"])},"examples":[\n{lines}\n]}}')
    return "[\n" + ",\n".join(blocks) + "\n]\n"


def main(examples, schemas, out):
    types = json.loads(Path(examples, "api.github.com", "index.json").read_text("utf-8"))
    schema = json.loads(Path(schemas, "schema.json").read_text("utf-8"))
    Path(out, "github_webhooks.json").write_text(sample(types), "utf-8")
    Path(out, "github_webhooks.schema.json").write_text(minified(schema) + "\n", "utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) == 4 else Path(__file__).parent)
