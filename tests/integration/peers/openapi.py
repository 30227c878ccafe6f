"""Holds the daemon at argv[1] against its own OpenAPI document, by schemathesis.

    openapi.py URL [DOCUMENT_TOKEN [CALL_TOKEN]]

With a document token the daemon is one that asks for tokens: the document is fetched with it, and
the calls are made with the call token, or without any. Right calls first, then wrong ones. The last
line printed counts the answers by status.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

base, document_token, call_token = (sys.argv[1:] + ["", ""])[:3]
request = urllib.request.Request(f"{base}/api/v1/openapi.json")
if document_token:
    request.add_header("Authorization", f"Bearer {document_token}")
with urllib.request.urlopen(request, timeout=30) as answer:
    document = json.load(answer)
if document_token:
    # The document is for daemons with and without tokens; this one must insist.
    assert document["security"] == [{}, {"token": []}], document["security"]
    document["security"] = [{"token": []}]

# Names that are there, so that calls reach what is behind them.
parameters = document["components"]["parameters"]
parameters["pdu"]["schema"]["enum"] = ["rack1", "rack2", "blind"]
parameters["outlet"]["schema"]["enum"] = ["1", "2", "3"]
parameters["alias"]["schema"]["enum"] = ["board"]
schemas = document["components"]["schemas"]
many = schemas["ManyBody"]["properties"]
many["targets"]["items"]["enum"] = ["rack[1-2]:1,3", "rack1:2-4", "@board"]
wrong = json.dumps(document)

# And short waits, where the calls are right and so carried out.
for properties in (schemas["RebootBody"], schemas["ManyBody"]):
    properties["properties"]["delay"] = {"type": "number", "minimum": 0, "maximum": 0.01}
    properties["required"].append("delay")
for operations in document["paths"].values():
    for parameter in operations.get("get", {}).get("parameters", []):
        if parameter.get("name") == "wait":
            parameter["schema"]["maximum"] = 1
    for operation in operations.values():
        if "requestBody" in operation:
            operation["requestBody"]["required"] = True
right = json.dumps(document)

# Schemathesis also tries tokens that are none. An address that does so too often must wait; here
# each connection comes from another one, and serves one call.
HOOKS = """
import itertools, urllib3.util.connection as connections

numbers, connect = itertools.count(1), connections.create_connection

def create_connection(address, *rest, source_address=None, **named):
    number = next(numbers)
    own = (f"127.77.{number >> 8 & 255}.{number & 255}", 0)
    return connect(address, *rest, source_address=own, **named)

connections.create_connection = create_connection
"""

failed = 0
statuses = collections.Counter()
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "openapi.json")
    record = pathlib.Path(folder, "record.har")
    # 501, 502 and 504 tell of the PDU, not of a failing server; a request that was cancelled can
    # still be looked at, as its operation says.
    pathlib.Path(folder, "schemathesis.toml").write_text(
        "[checks]\n"
        'not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501", "502", "504"]\n'
        "use_after_free.enabled = false\n"
    )
    environment = dict(os.environ)
    options = []
    if document_token:
        pathlib.Path(folder, "addresses.py").write_text(HOOKS)
        environment |= {"SCHEMATHESIS_HOOKS": "addresses", "PYTHONPATH": folder}
        options += ["--header", "Connection: close"]
    if call_token:
        options += ["--header", f"Authorization: Bearer {call_token}"]
    runs = [
        ("positive", right, "coverage,fuzzing,stateful"),
        ("negative", wrong, "coverage,fuzzing"),
    ]
    # Who shows no token is turned away before anything else is looked at.
    if document_token and not call_token:
        runs = runs[:1]
    for mode, text, phases in runs:
        path.write_text(text)
        command = [
            sys.executable, "-m", "schemathesis.cli",
            "--no-color", "run", str(path), "--url", base, "--mode", mode, "--phases", phases,
            "--max-examples", "8", "--checks", "all", "--generation-deterministic",
            "--request-timeout", "30", "--workers", "1", "--report-har-path", str(record), *options,
        ]
        failed |= subprocess.run(command, cwd=folder, env=environment).returncode
        if record.exists():
            for entry in json.loads(record.read_text())["log"]["entries"]:
                statuses[entry["response"]["status"]] += 1
            record.unlink()
print(json.dumps(statuses))
sys.exit(failed)
