"""The process of one shard under the MultiLangDaemon: `python -m streamgauge.consumers.kcl_child`.

The daemon reads lines from our standard output. So the first thing here is to take that away from
everyone else: descriptor 1 is duplicated for the protocol and then points to standard error, before
any other module of ours is imported. Whoever prints, prints into the daemon's log.
"""

import os
import sys

if __name__ == "__main__":
    _PROTOCOL = os.dup(1)  # not inheritable
    os.dup2(2, 1)

FAILED = 1


def main(path: str, protocol: int) -> int:
    """Serve the daemon until it says no more; the exit status, 0 only where nothing failed."""
    import signal

    from ..engine.errors import StreamgaugeError
    from ..rules.spec import load
    from .kcl_host import made
    from .kcl_log import log
    from .kcl_protocol import Daemon

    for number in (signal.SIGINT, signal.SIGTERM):  # what we are to do, the daemon says
        signal.signal(number, signal.SIG_IGN)
    with open(0, "rb", closefd=False) as told, open(protocol, "wb", closefd=False) as tell:
        daemon = Daemon(told, tell)
        try:
            daemon.serve(made(load(path), daemon))
        except (StreamgaugeError, OSError) as error:
            log("shard_failed", cause=str(error))
            return FAILED
    return 0


if __name__ == "__main__":
    # No clean-up that could wait or write: the daemon waits for our end.
    status = FAILED
    try:
        status = main(sys.argv[1], _PROTOCOL)
    except BaseException:  # a bug: no status is sent, so the daemon counts nothing as done
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
