"""Runs drivers of the Python pdudaemon: one JSON request a line on standard input, one answer a line.

A request is {"driver", "settings", "outlet", "action"}; the answer is "ok" or the exception's words.
Modules that the drivers at hand do not need are replaced by empty ones.
"""

import json
import logging
import socket
import sys
from unittest import mock

for name in ("hid", "usb", "usb.core", "usb.util", "systemd", "systemd.journal"):
    sys.modules.setdefault(name, mock.MagicMock())

from pdudaemon.drivers.driver import PDUDriver  # noqa: E402
from pdudaemon.drivers import strategies  # noqa: E402,F401

logging.disable(logging.CRITICAL)
connect = socket.create_connection

for line in sys.stdin:
    request = json.loads(line)
    settings = request["settings"]
    if "ip" in settings:
        settings["ip"], port = settings["ip"].rsplit(":", 1)
        settings["port"] = int(port)
        # egpms knows no other port than 5000.
        socket.create_connection = lambda address, *rest, port=int(port), **named: connect(
            (address[0], port), *rest, **named
        )
    try:
        driver = PDUDriver.select(request["driver"])("pdu", settings)
        try:
            driver.port_interaction(request["action"], int(request["outlet"]))
        finally:
            driver._cleanup()
            if getattr(driver, "serial_port", None):
                driver.serial_port.close()
        answer = "ok"
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print(json.dumps(answer), flush=True)
