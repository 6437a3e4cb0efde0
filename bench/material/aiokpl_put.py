"""A contestant of producers.py: aiokpl puts readings, in a Python of its own that has it.

Its pins of botocore are not ours. Arguments: a file of NDJSON ([partition key, data] a line), the
URL of the endpoint, the stream. Prints the CPU seconds that it took from the first put to the last
outcome.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

HELD_MAX = 50_000  # records whose outcome is waited for before more are put


async def put(readings: list[tuple[str, bytes]], url: str, stream: str) -> float:
    """Put all of them, as fast as they are taken."""
    from aiokpl import Config, Producer

    config = Config(
        region="us-east-1", endpoint_url=url, aws_access_key_id="testing",
        aws_secret_access_key="testing", rate_limit_records_per_sec_per_shard=1e9,
        rate_limit_bytes_per_sec_per_shard=1e12,
    )  # fmt: skip
    async with Producer(config) as producer:
        warm = await producer.put_record(stream=stream, partition_key="warm", data=b"up")
        await producer.flush()
        await warm.wait()
        start = time.process_time()
        outcomes: list[Any] = []
        for key, data in readings:
            outcomes.append(await producer.put_record(stream=stream, partition_key=key, data=data))
            if len(outcomes) == HELD_MAX:
                await producer.flush()
                outcomes.clear()
        await producer.flush()
        return time.process_time() - start


def main() -> None:
    """Read, put, tell."""
    path, url, stream = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        readings = [(key, data.encode()) for key, data in map(json.loads, file)]
    print(asyncio.run(put(readings, url, stream)))


if __name__ == "__main__":
    main()
