"""A driver for `exec`, whole: relays that are files of a folder, each with `on` or `off` in it.

    "relays": {"driver": "exec", "command": ["python3", "/usr/local/lib/relays.py"],
               "folder": "/var/lib/pdudaemon/relays", "names": ["left", "right"]}
"""

import json
import os
import sys


class Refused(Exception):
    pass


class Relays:
    def hello(self, question):
        # Everything that the config says of the PDU: addresses and passwords belong there too.
        settings = question["settings"]
        self.folder = settings["folder"]
        os.makedirs(self.folder, exist_ok=True)
        return {"outlets": settings["names"], "reads": True}

    def switch(self, question):
        path = os.path.join(self.folder, question["outlet"])
        if os.path.exists(path + ".locked"):
            raise Refused("the relay is locked")
        with open(path, "w") as file:
            file.write(question["to"])
        # Whoever has read the state back may say so: then it is not asked for again.
        return self.state(question)

    def state(self, question):
        try:
            with open(os.path.join(self.folder, question["outlet"])) as file:
                return {"state": file.read()}
        except FileNotFoundError:
            return {"state": "unknown", "why": "nobody has switched it yet"}

    def rest(self, _question):
        return {"done": True}


relays = Relays()
for line in sys.stdin:
    question = json.loads(line)
    try:
        answer = getattr(relays, question["do"])(question)
    except Refused as error:
        answer = {"error": str(error), "kind": "refused"}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
