"""Plays one driver of the Python pdudaemon for the driver `python`.

pdudaemon sends this program to a Python interpreter, and speaks the protocol of exec-drivers.md with
it. A driver is a class with the constructor and the methods of pdudaemon.drivers.driver.PDUDriver. It
is looked for as the Python program did: among the entry points of the group `pdudaemon.driver`, then
among the classes of the package itself.
"""

import importlib
import json
import logging
import pkgutil
import sys
from importlib import metadata

GROUP = "pdudaemon.driver"


class Wrong(Exception):
    """Nothing that another attempt mends."""


def entry_point(name):
    found = list(metadata.entry_points().select(group=GROUP, name=name))
    if len(found) > 1:
        raise Wrong(f"several packages have a driver {name}")
    return found[0] if found else None


def descendants(base):
    for one in base.__subclasses__():
        yield one
        yield from descendants(one)


def of_the_package(name):
    """The class of the Python program's own package, if that is installed and has one."""
    try:
        package = importlib.import_module("pdudaemon.drivers")
        base = importlib.import_module("pdudaemon.drivers.driver").PDUDriver
    except ImportError:
        return None
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("test_"):
            try:
                importlib.import_module(f"pdudaemon.drivers.{module.name}")
            except Exception as error:  # One that cannot work here costs the others nothing.
                logging.debug("pdudaemon.drivers.%s: %s", module.name, error)
    return next((one for one in descendants(base) if one.accepts(name)), None)


def find(name):
    """The driver's class, or nothing."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise Wrong(f"{name}: {error}")
    entry = entry_point(name)
    if entry is None:
        return of_the_package(name)
    driver = entry.load()
    if not driver.accepts(name):
        raise Wrong(f"the class of the entry point {name} does not accept this name")
    return driver


def knows(name):
    return entry_point(name) is not None or of_the_package(name) is not None


class Player:
    def __init__(self):
        self.driver = None
        self.outlets_are_texts = False

    def hello(self, question):
        settings = question["settings"]
        name = settings.get("class") or settings["driver"]
        made = find(name)
        if made is None:
            raise Wrong(f"no package here has a driver {name}")
        # Drivers of several models look for theirs there.
        settings["driver"] = name
        self.outlets_are_texts = settings.get("outlets_are") == "texts"
        self.driver = made(question["pdu"], settings)
        return {"reads": False}

    def switch(self, question):
        outlet = question["outlet"]
        if outlet.isdigit() and not self.outlets_are_texts:
            outlet = int(outlet)
        try:
            self.driver.handle(question["to"], outlet)
        except BaseException:
            self.driver._bombout()
            raise
        return {"done": True}

    def rest(self, _question):
        return {"done": True}

    def knows(self, question):
        """Asked while a config is read, of a name that pdudaemon itself does not know."""
        return {"done": knows(question["name"])}

    def answer(self, question):
        try:
            return getattr(self, question["do"])(question)
        except Wrong as error:
            return {"error": str(error), "kind": "setup"}
        except (Exception, SystemExit) as error:
            logging.debug("the driver has failed", exc_info=True)
            return {"error": f"{type(error).__name__}: {error}"}


def play(questions, answers):
    player = Player()
    for line in questions:
        answer = player.answer(json.loads(line))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


# Whoever started this has put what drivers and their programs print elsewhere, see BOOT of the driver.
logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
play(QUESTIONS, ANSWERS)  # noqa: F821
