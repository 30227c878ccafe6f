"""A Modbus server for the tests: pymodbus, with the datastore of whichever version is there.

64 coils from 0, of which coil 50 fails. Prints its port and ends with its standard input. The
framing is its argument: tcp or rtu, both over TCP.
"""

import asyncio
import logging
import sys
import threading

from pymodbus.server import ModbusTcpServer

try:
    from pymodbus import FramerType
except ImportError:  # before 3.7
    from pymodbus.framer import Framer as FramerType

COILS = 64
FAILURE = 50


def new_context():
    """pymodbus from 3.12 on: simulated devices."""
    from pymodbus.constants import ExcCodes
    from pymodbus.simulator import DataType, SimData, SimDevice

    async def action(_function, _start, address, _count, _registers, _values):
        return ExcCodes.DEVICE_FAILURE if address == FAILURE else None

    coils = SimData(0, values=[False] * COILS, datatype=DataType.BITS)
    return SimDevice(1, simdata=[coils], use_bit_addressing=True, action=action)


def old_context():
    """pymodbus before: data blocks."""
    from pymodbus import datastore

    class Block(datastore.ModbusSequentialDataBlock):
        def setValues(self, address, values):
            if address == FAILURE:
                raise RuntimeError("failure asked for by the test")
            return super().setValues(address, values)

    class Coils(datastore.ModbusSlaveContext):
        # Addresses as on the wire, whichever offset this version adds.
        def validate(self, fc, address, count=1):
            return self.store["c"].validate(address, count)

        def getValues(self, fc, address, count=1):
            return self.store["c"].getValues(address, count)

        def setValues(self, fc, address, values):
            return self.store["c"].setValues(address, values)

    coils = Coils(co=Block(0, [False] * COILS))
    return datastore.ModbusServerContext(slaves={1: coils}, single=False)


async def main():
    try:
        context = new_context()
    except (ImportError, TypeError):
        context = old_context()
    framer = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU}[sys.argv[1]]
    server = ModbusTcpServer(context, framer=framer, address=("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve_forever())
    loop = asyncio.get_running_loop()

    def stop_with_stdin():
        sys.stdin.read()
        loop.call_soon_threadsafe(serving.cancel)

    threading.Thread(target=stop_with_stdin, daemon=True).start()
    while getattr(server, "transport", None) is None:
        await asyncio.sleep(0.01)
    print(server.transport.sockets[0].getsockname()[1], flush=True)
    try:
        await serving
    except asyncio.CancelledError:
        pass


logging.disable(logging.CRITICAL)
asyncio.run(main())
