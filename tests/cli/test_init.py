import base64
import csv
import gzip
import json
import random
import shlex
import subprocess
import sys
from fractions import Fraction

import pytest
import typer
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamgauge.cli import init
from streamgauge.cli.check import examined
from streamgauge.engine.errors import InputError
from streamgauge.rules.spec import load

app = typer.Typer(add_completion=False)
app.command()(init.command)

START = 1_767_600_000  # s


def run(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def write(path, messages):
    text = "".join(json.dumps(message) + "\n" for message in messages)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def proposed(tmp_path, sample):
    """The spec that is proposed from a file, its text, the talk on stderr and the command."""
    result = run(tmp_path / "out", "--from-sample", sample)
    assert result.exit_code == 0, result.stderr
    (file,) = (tmp_path / "out").glob("*.toml")
    assert not examined(file)[2], file.read_text()
    return load(file, {}), file.read_text(), result.stderr, result.stdout.strip()


def backtest(command, cwd):
    """Run a printed command as printed, only that this interpreter finds the package."""
    program, *arguments = shlex.split(command)
    assert program == "streamgauge"
    return subprocess.run(
        [sys.executable, "-m", "streamgauge", *arguments], cwd=cwd, capture_output=True, text=True
    )


def test_the_shipped_example_fires_and_resolves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("my demo")
    assert result.exit_code == 0
    assert result.stdout == (
        "streamgauge backtest 'my demo/thermostats.toml' --input 'my demo/readings.ndjson' "
        "--thresholds 'my demo/thresholds.ndjson'\n"
    )
    assert result.stderr.count("wrote ") == 3
    spec, _, problems = examined(tmp_path / "my demo" / "thermostats.toml")
    assert spec is not None and not problems
    found = backtest(result.stdout, tmp_path)
    assert found.returncode == 0, found.stderr
    alerts = [json.loads(line) for line in found.stdout.splitlines()]
    changes = [(alert["device"], alert["state"], alert["time"]) for alert in alerts]
    assert changes == expected_changes(tmp_path / "my demo", spec.rules[0])
    assert {device for device, _, _ in changes} == {"thermostat-1", "thermostat-2"}
    assert [state for _, state, _ in changes].count("resolved") == 2


def expected_changes(directory, rule):
    """The plain reading of the example's rule: a list of samples for each device."""
    limits = {}
    for line in (directory / "thresholds.ndjson").read_text().splitlines():
        limit = json.loads(line)
        limits[limit["device"]] = limit["value"], limit.get("clear_margin", rule.clear_margin)
    samples, firing, changes = {}, set(), []
    for line in (directory / "readings.ndjson").read_text().splitlines():
        reading = json.loads(line)
        device, time, value = reading["device"], reading["ts"], Fraction(reading["temperature"])
        held = samples.setdefault(device, [])
        if not -40 < value < 200 or (time, value) in held:
            continue
        held.append((time, value))
        window = [number for at, number in held if time - rule.window <= at <= time]
        mean = float(sum(window) / len(window))
        threshold, margin = limits.get(device, (rule.threshold, rule.clear_margin))
        if device not in firing and mean > threshold and len(window) >= rule.min_samples:
            firing.add(device)
            changes.append((device, "firing", time))
        elif device in firing and mean <= threshold - margin:
            firing.remove(device)
            changes.append((device, "resolved", time))
    return changes


def test_nothing_is_overwritten_unless_told(tmp_path):
    target = tmp_path / "thermostats.toml"
    target.write_text("mine")
    result = run(tmp_path)
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr == f"already there: {target}; --force overwrites\n"
    assert target.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    assert run(tmp_path, "--force").exit_code == 0
    assert target.read_text() != "mine"


def test_the_working_directory_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run().stdout == (
        "streamgauge backtest thermostats.toml --input readings.ndjson "
        "--thresholds thresholds.ndjson\n"
    )


def warm(number, second):
    """A value that wanders, with a peak now and then."""
    return round(20 + number + random.Random(number * 100_000 + second).random() * 3, 3)


def test_nested_readings_in_seconds(tmp_path):
    messages = [
        {
            "meta": {"deviceId": f"ab-{number}", "sentAt": START + second + 0.25, "fw": "1.2"},
            "reading": {"seq": second, "temp": warm(number, second), "battery": 97 - second % 5},
            "message_id": f"m-{number}-{second}",
        }
        for second in range(200)
        for number in range(3)
    ]
    spec, text, talk, command = proposed(
        tmp_path, write(tmp_path / "field test.ndjson.gz", messages)
    )
    assert spec.pipeline.name == "field-test"
    assert spec.record.device == ("meta.deviceId",)
    assert (spec.record.time, spec.record.time_unit) == ("meta.sentAt", "s")
    rule = spec.rules[0]
    assert (rule.name, rule.measure, rule.window, rule.min_samples) == (
        "temp-high",
        "reading.temp",
        60_000,
        5,
    )
    assert 21 < rule.threshold < 25 and rule.clear_margin > 0
    for reason in (
        '"meta.deviceId" looks like a device id: 3 different in 600 readings (ab-0, ab-1, ab-2)',
        f'"meta.sentAt" is the event time: {START}.25 taken as s is a date after 2000',
        '"reading.temp" is a number that varies, from ',
        "a device reports about every 1 s: the window holds about 60",
        "of 600 means over the window in the sample are above",
    ):
        assert reason in talk
        assert reason in text.replace("\n# ", " ")
    limits = tmp_path / "out" / "thresholds.ndjson"
    assert json.loads(limits.read_text()) == {
        "device": "ab-0",
        "rule": "temp-high",
        "value": rule.threshold,
    }
    assert command == (
        f"streamgauge backtest {tmp_path}/out/field-test.toml --input "
        f"'{tmp_path}/field test.ndjson.gz' --thresholds {limits}"
    )
    found = backtest(command, tmp_path)
    assert found.returncode == 0, found.stderr
    assert '"firing"' in found.stdout


@pytest.mark.parametrize(("unit", "factor"), [("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_the_unit_of_a_time_is_told_by_its_size(tmp_path, unit, factor):
    messages = [{"id": 7, "t": (START + n) * factor, "value": n % 7} for n in range(50)]
    spec, *_ = proposed(tmp_path, write(tmp_path / "s.ndjson", messages))
    assert (spec.record.time, spec.record.time_unit) == ("t", unit)
    assert spec.record.device == ("id",)


def test_sensors_that_count_anew_in_each_gateway(tmp_path):
    messages = [
        {"gateway": gateway, "sensor": sensor, "ts": (START + n) * 1000, "value": warm(sensor, n)}
        for n in range(100)
        for gateway in ("north", "south")
        for sensor in (1, 2, 3)
    ]
    spec, _, talk, command = proposed(tmp_path, write(tmp_path / "s.ndjson", messages))
    assert spec.record.device == ("gateway", "sensor")
    assert "the same sensor occurs under several gateway, 6 devices in all" in talk
    assert '"device": "north/1"' in (tmp_path / "out" / "thresholds.ndjson").read_text()
    assert backtest(command, tmp_path).returncode == 0


def test_sensors_that_roam_between_gateways(tmp_path):
    messages = [
        {"gateway": f"g{n % 2}", "sensor": f"0a1b2c-{m}", "ts": (START + n) * 1000, "value": n % 9}
        for n in range(100)
        for m in range(4)
    ]
    spec, *_ = proposed(tmp_path, write(tmp_path / "s.ndjson", messages))
    assert spec.record.device == ("sensor",)


@pytest.mark.parametrize(
    ("hours", "window", "forget"), [(1, 12, 24), pytest.param(24, 288, 576, marks=pytest.mark.slow)]
)
def test_a_csv_file_of_one_device(tmp_path, hours, window, forget):
    sample = tmp_path / "boiler room.csv"
    with sample.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp", "value", "unit"])
        for n in range(300):
            day, hour = divmod(n * hours, 24)
            date = f"2024-{1 + day // 28:02}-{1 + day % 28:02}" if hours == 1 else None
            date = date or f"{2000 + n // 12}-{1 + n % 12:02}-01"
            rows.writerow([f"{date} {hour:02}:00:00", warm(1, n), "C"])
    spec, text, talk, command = proposed(tmp_path, sample)
    assert (spec.record.time, spec.record.time_unit) == ("timestamp", "iso8601")
    if hours == 1:
        assert spec.rules[0].window == window * 3_600_000
        assert spec.delivery.forget_after == forget * 3_600_000
    else:  # about once a month
        assert spec.rules[0].window > 300 * 86_400_000
        assert spec.delivery.forget_after == 2 * spec.rules[0].window
    assert "no field looks like a device id: all readings are taken to be of one device" in talk
    assert "# back-tests say it by --set device=boiler-room" in text
    assert " --format csv --set device=boiler-room --thresholds " in command
    found = backtest(command, tmp_path)
    assert found.returncode == 0, found.stderr
    assert '"device":"boiler-room"' in found.stdout


def test_kinesis_records_bring_their_arrival_time(tmp_path):
    records = [
        {
            "ShardId": f"shardId-{n % 2}",
            "SequenceNumber": str(1000 + n),
            "ApproximateArrivalTimestamp": START + n / 2,
            "PartitionKey": "k",
            "Data": base64.b64encode(
                json.dumps({"device": f"d{n % 2}", "flow": warm(n % 2, n)}).encode()
            ).decode(),
        }
        for n in range(100)
    ]
    spec, _, talk, command = proposed(tmp_path, write(tmp_path / "s.ndjson", records))
    assert (spec.record.time, spec.rules[0].measure) == (None, "flow")
    assert "no field looks like a time: readings get their arrival time in Kinesis" in talk
    assert " --format kinesis " in command
    found = backtest(command, tmp_path)
    assert found.returncode == 0, found.stderr


def test_readings_without_time_cannot_be_back_tested(tmp_path):
    messages = [{"device": f"d{n % 3}", "flow": n % 11 / 2} for n in range(60)]
    spec, _, talk, command = proposed(tmp_path, write(tmp_path / "s.ndjson", messages))
    assert spec.record.time is None
    assert "the readings carry no time, so the file cannot be back-tested" in talk
    assert command == f"streamgauge check {tmp_path}/out/s.toml"
    assert backtest(command, tmp_path).returncode == 0


def test_a_name_of_each_reading_is_no_device(tmp_path):
    messages = [{"uid": f"e{n}", "ts": START + n, "x": n % 3} for n in range(30)]
    _, _, talk, command = proposed(tmp_path, write(tmp_path / "s.ndjson", messages))
    assert "no field looks like a device id" in talk and "--set device=s " in command


def test_a_field_called_device_that_is_none(tmp_path):
    """Setting `device` would take the place of what the readings say there: here, their time."""
    messages = [{"device": START + n, "x": n % 3} for n in range(30)]
    spec, _, _, command = proposed(tmp_path, write(tmp_path / "s.ndjson", messages))
    assert "--set device_1=s " in command and spec.record.time is not None
    assert " 0  rejected" in backtest(command, tmp_path).stderr


def test_broken_lines_are_counted(tmp_path):
    sample = write(tmp_path / "s.ndjson", [{"device": "a", "ts": n, "x": n % 3} for n in range(20)])
    sample.write_text(sample.read_text() + "not json\n[1]\n\n")
    _, _, talk, _ = proposed(tmp_path, sample)
    assert "20 readings (ndjson), 3 fields; 3 lines are no JSON object" in talk


def test_a_file_named_like_a_number(tmp_path):
    """`--set device=2024` would set a number that is no device id where it has a fraction."""
    messages = [{"ts": (START + n) * 1000, "x": n % 3} for n in range(30)]
    *_, command = proposed(tmp_path, write(tmp_path / "20.24.ndjson", messages))
    assert "--set device=device-20.24 " in command
    assert " 0  rejected" in backtest(command, tmp_path).stderr


def test_times_by_name_and_by_value(tmp_path):
    """An arrival time, a counter of the size of a date, and a date in the future are no time."""
    messages = [
        {
            "device": "a",
            "received_at": START * 1000 + 5 * n,
            "uptime": 1_500_000_000 + (n * 7919) % 1000,
            "expires": "2190-01-01T00:00:00Z",
            "ts": f"2026-01-05T08:00:{n % 60:02}Z",
            "x": n % 4,
        }
        for n in range(60)
    ]
    spec, *_ = proposed(tmp_path, write(tmp_path / "s.ndjson", messages))
    assert (spec.record.time, spec.record.time_unit) == ("ts", "iso8601")


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "no reading: 0 lines"),
        ([[1], "x"], "no reading: 2 lines, none of them a JSON object"),
        (
            [{"device": "a", "ts": START, "value": "21.5"}] * 3,
            "fields: device, ts, value (a",
        ),
        ([{"device": "a", "ts": START, "value": 21.5}] * 3, "nothing to watch"),
    ],
)
def test_nothing_to_propose(tmp_path, messages, message):
    sample = write(tmp_path / "s.ndjson", messages)
    with pytest.raises(InputError) as caught:
        run(tmp_path / "out", "--from-sample", sample)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_error_of_the_installed_command(tmp_path):
    (tmp_path / "s.ndjson").write_text("{}\n")
    command = [sys.executable, "-m", "streamgauge", "init", "out", "--from-sample"]
    result = subprocess.run([*command, "s.ndjson"], cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert "nothing to watch; fields: none" in result.stderr
    result = subprocess.run([*command, "none"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2


def test_odd_names_and_values(tmp_path):
    messages = [
        {
            'de"vice\\id': f"a\nb\x7f{n % 2}",
            "ts": START * 1000 + n,
            "température": warm(n % 2, n),
            "a.b": 1,
            "": 2,
            "x\x00": 3,
            "huge": 10**400 + n,
        }
        for n in range(40)
    ]
    messages[7]["température"] = 10**400  # beyond float64: this one reading will be rejected
    sample = write(tmp_path / "-odd 'name'.ndjson", messages)
    spec, _, _, command = proposed(tmp_path, sample)
    assert spec.record.device == ('de"vice\\id',)
    assert spec.pipeline.name == "odd-name"
    found = backtest(command, tmp_path)
    assert found.returncode == 0 and "1  rejected" in found.stderr, found.stderr


KEYS = st.sampled_from(["device", "id", "ts", "time", "value", "a b", "é", '"', "x", "temp", "n"])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([START, START * 1000, 1e300, -0.0, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["a", "b1", "", "2026-01-05T08:00:00Z", "2026-01-05", "\u2028", "#\n"]),
)
MESSAGES = st.dictionaries(KEYS, st.one_of(VALUES, st.dictionaries(KEYS, VALUES, max_size=3)))


@settings(deadline=None, max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(MESSAGES, min_size=1, max_size=12))
def test_whatever_is_proposed_is_valid(tmp_path_factory, messages):
    tmp_path = tmp_path_factory.mktemp("sample")
    sample = write(tmp_path / "s.ndjson", messages)
    try:
        spec, *_ = proposed(tmp_path, sample)
    except InputError as error:
        assert "nothing to watch" in str(error)
    else:
        assert spec.rules[0].clear_margin >= 0
