"""Holds the daemon at argv[1] against its own OpenAPI document, by schemathesis.

Right calls first, then wrong ones.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

base = sys.argv[1]
with urllib.request.urlopen(f"{base}/api/v1/openapi.json", timeout=30) as answer:
    document = json.load(answer)

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

failed = 0
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "openapi.json")
    # 501, 502 and 504 tell of the PDU, not of a failing server; a request that was cancelled can
    # still be looked at, as its operation says.
    pathlib.Path(folder, "schemathesis.toml").write_text(
        "[checks]\n"
        'not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "501", "502", "504"]\n'
        "use_after_free.enabled = false\n"
    )
    for mode, text, phases in (
        ("positive", right, "coverage,fuzzing,stateful"),
        ("negative", wrong, "coverage,fuzzing"),
    ):
        path.write_text(text)
        command = [
            os.path.join(os.path.dirname(sys.executable), "schemathesis"),
            "--no-color", "run", str(path), "--url", base, "--mode", mode, "--phases", phases,
            "--max-examples", "8", "--checks", "all", "--generation-deterministic",
            "--request-timeout", "30", "--workers", "2",
        ]
        failed |= subprocess.run(command, cwd=folder).returncode
sys.exit(failed)
