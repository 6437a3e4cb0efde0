"""Watch device telemetry on Amazon Kinesis: IoT SQL filters, exact windows, thresholds, alerts.

The names below are the whole library face; each is imported when it is first used, so that
``streamgauge --help`` loads neither numpy nor boto3.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamgauge.engine.batch import Alert, Position, Record, Rejected
    from streamgauge.engine.errors import StreamgaugeError
    from streamgauge.engine.pipeline import Outcome
    from streamgauge.rules.plan import Pipeline

__version__ = "0.1.0"
__all__ = [
    "Alert",
    "Outcome",
    "Pipeline",
    "Position",
    "Record",
    "Rejected",
    "StreamgaugeError",
    "__version__",
]

_HOMES = {
    "Alert": "streamgauge.engine.batch",
    "Outcome": "streamgauge.engine.pipeline",
    "Pipeline": "streamgauge.rules.plan",
    "Position": "streamgauge.engine.batch",
    "Record": "streamgauge.engine.batch",
    "Rejected": "streamgauge.engine.batch",
    "StreamgaugeError": "streamgauge.engine.errors",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'streamgauge' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
