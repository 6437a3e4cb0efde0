"""An endpoint of Kinesis over HTTP, for processes that put into a stream in memory."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from memory_kinesis import MemoryKinesis

LOCK = threading.Lock()  # held around every use of a stream


class Handler(BaseHTTPRequestHandler):
    """Two operations of Kinesis, over a stream in memory."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    stream: MemoryKinesis

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.headers["X-Amz-Target"].partition(".")[2]
        status, answer = 200, self.answer(operation, request)
        if answer is None:
            status = 400
            answer = {"__type": "ProvisionedThroughputExceededException", "message": "slow down"}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, operation: str, request: dict[str, Any]) -> Any:
        try:
            with LOCK:
                if operation == "ListShards":
                    return self.stream.list_shards(**request)
                for entry in request["Records"]:
                    entry["Data"] = base64.b64decode(entry["Data"])
                return self.stream.put_records(**request)
        except (ClientError, EndpointConnectionError, ReadTimeoutError):
            return None

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(stream: MemoryKinesis) -> Iterator[str]:
    """Serve a stream while this lasts; the URL of the endpoint."""
    handler = type("Bound", (Handler,), {"stream": stream})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
