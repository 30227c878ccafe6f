"""Runs drivers of the Python pdudaemon: one JSON request a line on standard input, one answer a line.

A request is {"driver", "transport", "settings", "outlet", "action"}; the answer is "ok", "no such
driver", or the exception's words. The drivers are as they are; what is replaced is around them:
modules for hardware that is not here, the fixed ports of PDUs, and time-outs.
"""

import json
import logging
import os
import pathlib
import socket
import sys
import tempfile
from unittest import mock

for name in ("hid", "usb", "usb.core", "usb.util", "systemd", "systemd.journal"):
    sys.modules.setdefault(name, mock.MagicMock())

import pexpect  # noqa: E402
from pdudaemon.drivers import modbustcp, snmp, strategies  # noqa: E402,F401
from pdudaemon.drivers.driver import PDUDriver  # noqa: E402

logging.disable(logging.CRITICAL)

# Whatever port of this machine a driver knows, it comes to the simulator's.
simulator = None
connect = socket.socket.connect


def connect_to_simulator(self, address):
    inet = isinstance(address, tuple) and self.type & socket.SOCK_STREAM
    return connect(self, (address[0], simulator) if inet else address)


socket.socket.connect = connect_to_simulator


class Target(snmp.UdpTransportTarget):
    @classmethod
    async def create(cls, address, **named):
        return await super().create((address[0], simulator), timeout=1, retries=0)


snmp.UdpTransportTarget = Target


class ModbusClient(modbustcp.ModbusTcpClient):
    # What pymodbus calls device_id was slave when the driver was written.
    def write_coil(self, address, value, slave):
        return super().write_coil(address, value, device_id=slave)


modbustcp.ModbusTcpClient = ModbusClient

spawn = pexpect.spawn


def spawn_at_once(command):
    child = spawn(command, timeout=20)
    child.delaybeforesend = child.delayafterclose = child.delayafterterminate = 0.005
    return child


pexpect.spawn = spawn_at_once

# A driver writes SNMPv2-SMI::enterprises; Debian's snmpset comes without the file that explains it.
mibs = tempfile.TemporaryDirectory()
pathlib.Path(mibs.name, "SNMPv2-SMI.txt").write_text(
    "SNMPv2-SMI DEFINITIONS ::= BEGIN\n"
    "enterprises OBJECT IDENTIFIER ::= { iso org(3) dod(6) internet(1) private(4) 1 }\nEND\n"
)
pathlib.Path(mibs.name, "snmp.conf").write_text("timeout 1\nretries 0\n")
os.environ |= {"MIBDIRS": mibs.name, "MIBS": "SNMPv2-SMI", "SNMPCONFPATH": mibs.name}

# Drivers with a port beside the host's name; others put what they are given into a URL as it is.
WITH_PORT = {"esphome-http", "home-assistant-http", "intellinet", "netiojson", "SERVO"}


def known(driver):
    candidates, found = [PDUDriver], []
    while candidates:
        candidates = [sub for one in candidates for sub in one.__subclasses__()]
        found += candidates
    return any(candidate.accepts(driver) for candidate in found)


def run(request):
    global simulator
    name, transport, settings = request["driver"], request["transport"], request["settings"]
    if not known(name):
        return "no such driver"
    host = "pdu"
    if transport == "ssh":
        simulator = settings["sshport"]
        host = settings["ip"]
    elif "ip" in settings:
        address = settings["ip"]
        host, port = address.rsplit(":", 1)
        simulator = int(port)
        if transport == "telnet":
            settings["telnetport"] = simulator
        elif transport == "http" and name not in WITH_PORT or name in ("ip9258", "cyberpower81001"):
            host = settings["ip"] = address
        else:
            settings |= {"ip": host, "hostname": host, "port": simulator}
    settings["driver"] = name
    outlet = request["outlet"]
    if outlet.isdigit() and name != "tplink":
        outlet = int(outlet)
    try:
        driver = PDUDriver.select(name)(host, settings)
        try:
            driver.port_interaction(request["action"], outlet)
        finally:
            driver._cleanup()
            if getattr(driver, "serial_port", None):
                driver.serial_port.close()
        return "ok"
    except pexpect.ExceptionPexpect as error:
        return type(error).__name__
    except Exception as error:
        return f"{type(error).__name__}: {error}"


for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
