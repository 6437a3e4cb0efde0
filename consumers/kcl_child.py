"""The process of one shard under the MultiLangDaemon: `python -m streamgauge.consumers.kcl_child`.

Its arguments are the pipeline file and, if questions about devices are to be answered, a folder.

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


def main(path: str, folder: str | None, protocol: int) -> int:
    """Serve the daemon until it says no more; the exit status, 0 only where nothing failed."""
    import signal
    from pathlib import Path

    from ..engine.errors import StreamgaugeError
    from ..rules.spec import load
    from .kcl_host import made
    from .kcl_log import log
    from .kcl_protocol import Daemon
    from .kcl_questions import Answers

    for number in (signal.SIGINT, signal.SIGTERM):  # what we are to do, the daemon says
        signal.signal(number, signal.SIG_IGN)
    answers = None
    try:
        answers = Answers(Path(folder)) if folder else None
    except OSError as error:  # answers are a convenience: the shard goes on without them
        log("state_not_served", cause=str(error))
    with open(0, "rb", closefd=False) as told, open(protocol, "wb", closefd=False) as tell:
        daemon = Daemon(told, tell)
        try:
            daemon.serve(made(load(path), daemon, answers))
        except (StreamgaugeError, OSError) as error:
            log("shard_failed", cause=str(error))
            return FAILED
    return 0


if __name__ == "__main__":
    # No clean-up that could wait or write: the daemon waits for our end.
    status = FAILED
    try:
        status = main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None, _PROTOCOL)
    except BaseException:  # a bug: no status is sent, so the daemon counts nothing as done
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
