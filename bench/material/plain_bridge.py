"""A contestant of bridge.py: what one writes by hand with paho-mqtt and boto3.

Subscribes with QoS 1 and acknowledgement by hand, gathers up to 500 messages or 50 ms, puts them
with put_records, and acknowledges. What is refused it would lose. Arguments: the port of the
broker, the stream. Ends when its standard input does.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import boto3
import paho.mqtt.client as paho

ENTRIES_MAX = 500
GATHER_SECONDS = 0.05
SESSION_MAX = 2000  # messages without acknowledgement


def main() -> None:
    """Carry messages until nobody listens any more."""
    port, stream = int(sys.argv[1]), sys.argv[2]
    kinesis = boto3.client("kinesis")
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, client_id="plain", protocol=paho.MQTTv5, manual_ack=True
    )
    held: list[Any] = []
    client.on_message = lambda client, data, message: held.append(message)
    client.on_connect = lambda client, *_: client.subscribe("home/+/thermostat", 1)
    properties = paho.Properties(paho.PacketTypes.CONNECT)
    properties.ReceiveMaximum = SESSION_MAX
    client.connect("127.0.0.1", port, properties=properties)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    began = time.monotonic()
    while not ended.is_set():
        client.loop(GATHER_SECONDS)
        if not held or (len(held) < ENTRIES_MAX and time.monotonic() - began < GATHER_SECONDS):
            continue
        while held:
            part, held[:ENTRIES_MAX] = held[:ENTRIES_MAX], []
            entries = [
                {"Data": one.payload, "PartitionKey": one.topic.split("/")[1]} for one in part
            ]
            kinesis.put_records(StreamName=stream, Records=entries)
            for one in part:
                client.ack(one.mid, one.qos)
        began = time.monotonic()


if __name__ == "__main__":
    main()
