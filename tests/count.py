#!/usr/bin/env python3
"""Counts how much there is to hold in the head: `make count`.

Nothing here is a limit. Whoever changes the middle of the program runs this before and after, and
tells both. Each line of the output says how it is counted.
"""

import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

# A line that begins a type, after any `pub`.
TYPE = re.compile(r"\s*(pub(\([^)]*\))? )?(struct|enum|trait|type) ")

# Names that answer the question whether a PDU may have acted, or carry the answer on. A name that
# takes the place of one of these is added; none is taken out.
DOUBT = re.compile(
    r"\b(may_have_acted|after_switching|tried_again|and_again|Doubtful|maybe_dark|doubt|\w*in_doubt)\b"
    r"|\.(turned_away|judge)\(|fn is_refusal"
)

# The way of `GET /power/control/on` from the listening socket to the driver, and of its answer
# from there to the client's socket: each file whose functions it runs through, with one of them. A
# file that only holds nouns or tables counts when a function of it decides something.
WAY_IN = """
listener/front/mod.rs run
listener/front/accept.rs accept
listener/front/connection.rs new
listener/front/serve.rs client_ready
listener/head.rs request
listener/front/forward.rs advance_http
listener/link.rs send
listener/http.rs start
listener/routes.rs serve
listener/guard.rs admit
access/mod.rs admit
access/guest.rs guest
access/browser.rs same_site
listener/power.rs control
listener/exchange.rs submit
dispatch/mod.rs submit
dispatch/ticket.rs open
dispatch/table.rs outlet
driver/outlets.rs parse
dispatch/place.rs take
dispatch/job.rs new
dispatch/worker.rs take
dispatch/plan/mod.rs accept
dispatch/queue.rs push
driver/confirm.rs switch
"""
WAY_OUT = """
driver/confirm.rs switch
dispatch/worker.rs call
dispatch/status.rs call_ended
dispatch/plan/mod.rs result
dispatch/job.rs end
dispatch/ticket.rs job_ended
listener/exchange.rs respond_when_ended
listener/power.rs ended
listener/response.rs send
listener/wire.rs answer
"""


def is_test(path):
    """Is the whole file the tests of its module?"""
    if path.name == "tests.rs":
        return True
    parent = path.parent / "mod.rs"
    if path.name == "mod.rs" or not parent.exists():
        return False
    return f"#[cfg(test)]\nmod {path.stem};" in parent.read_text()


def parted(path):
    """The lines of the program itself, and those of its tests, without comments and blank ones."""
    own, tests = [], []
    is_whole = is_test(path)
    # Where an item that is only for tests begins, and how far it is indented.
    begins, indent = False, None
    for line in path.read_text().splitlines():
        text = line.strip()
        if not text or text.startswith("//"):
            continue
        depth = len(line) - len(line.lstrip())
        if is_whole:
            tests.append(line)
        elif begins:
            tests.append(line)
            # An item of one line, or one that ends where a line is indented as its first one was.
            begins = text.startswith("#[")
            indent = None if begins or text[-1] in ";,}" else depth
        elif indent is not None:
            tests.append(line)
            if depth == indent and text[0] == "}":
                indent = None
        elif text == "#[cfg(test)]":
            tests.append(line)
            begins = True
        else:
            own.append(line)
    return own, tests


def stale(way):
    """The steps that are not there any more."""
    for step in way.split("\n"):
        if step:
            name, function = step.split()
            path = SRC / name
            text = path.read_text() if path.exists() else ""
            if not re.search(rf"\bfn {function}\b", text):
                yield step


def modules(way):
    return len({step.split()[0] for step in way.split("\n") if step})


def main():
    files = sorted(SRC.rglob("*.rs"))
    code = {path: parted(path) for path in files}
    under = lambda room: [path for path in files if path.is_relative_to(SRC / room)]
    types = lambda room: sum(
        bool(TYPE.match(line)) for path in under(room) for line in path.read_text().splitlines()
    )
    own = sum(len(lines) for lines, _ in code.values())
    unit = sum(len(lines) for _, lines in code.values())
    suites = [path for path in (ROOT / "tests").rglob("*.rs") if "target" not in path.parts]
    suite = sum(len(part) for path in suites for part in parted(path))
    doubt = sum(len(DOUBT.findall(line)) for lines, _ in code.values() for line in lines)
    rooms = {path.relative_to(SRC).parts[0].removesuffix(".rs") for path in files}
    rooms -= {"lib", "main", "bin"}
    longest = lambda paths: max((len(path.read_text().splitlines()), path) for path in paths)
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    say = lambda what, count: print(f"{count:>7}  {what}")
    for room in ("dispatch", "listener"):
        say(f"types in {room}: lines that begin struct, enum, trait or type, after any pub", types(room))
    say("modules that a request passes on its way in (tests/count.py lists them)", modules(WAY_IN))
    say("modules that its answer passes on its way out", modules(WAY_OUT))
    say("places that decide doubt: names of a list in tests/count.py, src without tests", doubt)
    say(f"top-level rooms of src, beside lib, main and bin: {', '.join(sorted(rooms))}", len(rooms))
    say("lines of src without its unit tests, comments and blank lines", own)
    say("lines of unit tests in src, likewise", unit)
    say("lines of Rust in tests, likewise", suite)
    for what, paths in (("src", files), ("tests", suites)):
        length, path = longest(paths)
        say(f"lines of the longest file of {what}, {path.relative_to(ROOT)}", length)
    say("bytes of README.md", (ROOT / "README.md").stat().st_size)
    say("dependencies that Cargo.toml names", len(cargo["dependencies"]))
    say("crates in Cargo.lock, those for tests included", (ROOT / "Cargo.lock").read_text().count("[[package]]"))
    gone = [step for way in (WAY_IN, WAY_OUT) for step in stale(way)]
    if gone:
        sys.exit("the way of a request has changed, mend tests/count.py: " + "; ".join(gone))


main()
