"""Holds the daemon at argv[1] against its own OpenAPI document, by schemathesis.

The document is taken from the daemon; names of this daemon's PDUs are put into it so that calls
reach what is behind them, and waits are made short.
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

parameters = document["components"]["parameters"]
parameters["pdu"]["schema"]["enum"] = ["rack1", "rack2", "blind"]
parameters["outlet"]["schema"]["enum"] = ["1", "2", "3"]
parameters["alias"]["schema"]["enum"] = ["board"]
schemas = document["components"]["schemas"]
schemas["RebootBody"]["properties"]["delay"] = {"type": "number", "minimum": 0, "maximum": 0.01}
schemas["RebootBody"]["required"] = ["delay"]
many = schemas["ManyBody"]["properties"]
many["delay"] = {"type": "number", "minimum": 0, "maximum": 0.01}
many["targets"]["items"]["enum"] = ["rack[1-2]:1,3", "rack1:2-4", "@board"]
schemas["ManyBody"]["required"] = ["targets", "command", "delay"]
for operation in document["paths"].values():
    for parameter in operation.get("get", {}).get("parameters", []):
        if parameter.get("name") == "wait":
            parameter["schema"]["maximum"] = 1
    for method in ("put", "post"):
        if "requestBody" in operation.get(method, {}):
            operation[method]["requestBody"]["required"] = True

with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "openapi.json")
    path.write_text(json.dumps(document))
    command = [
        os.path.join(os.path.dirname(sys.executable), "schemathesis"),
        "--no-color", "run", str(path), "--url", base,
        "--phases", "coverage,fuzzing,stateful", "--max-examples", "10", "--checks", "all",
        "--generation-deterministic", "--generation-database", "none",
        "--request-timeout", "30",
        # The maxima above are ours, not the daemon's: more than them is no mistake.
        "--mode", "positive",
    ]
    sys.exit(subprocess.run(command, cwd=folder).returncode)
