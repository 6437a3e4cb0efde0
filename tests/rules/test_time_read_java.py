"""time_to_epoch() against java.time itself, over drawn patterns and texts, where java is there."""

import random
import subprocess
from pathlib import Path

import pytest
from msgspec import UNSET
from servers import need

from streamgauge.rules.time_read import refusal, time_to_epoch

pytestmark = pytest.mark.slow
CASES = 4000
SEED = 7
REFUSED, UNREAD, DATE_ALONE = "refused", "unread", "date"

SOURCE = """
import java.io.*; import java.time.*; import java.time.format.*; import java.time.temporal.*;
import java.util.*;
public class Reads {
  static String read(String text, String pattern) {
    DateTimeFormatter format;
    try { format = DateTimeFormatter.ofPattern(pattern, Locale.US); }
    catch (RuntimeException e) { return "refused"; }
    try {
      TemporalAccessor found = format.parse(text);
      LocalDate date = found.query(TemporalQueries.localDate());
      LocalTime time = found.query(TemporalQueries.localTime());
      if (date == null) return "unread";
      if (time == null) return "date";
      ZoneId zone = found.query(TemporalQueries.zone());
      Instant at = found.isSupported(ChronoField.INSTANT_SECONDS) ? Instant.from(found)
        : date.atTime(time).atZone(zone == null ? ZoneOffset.UTC : zone).toInstant();
      return "" + at.toEpochMilli();
    } catch (RuntimeException e) { return "unread"; }
  }
  public static void main(String[] arguments) throws IOException {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
    for (String text = in.readLine(); text != null; text = in.readLine())
      System.out.println(read(text, in.readLine()));
  }
}
"""
SHAPES = (
    "yMdHms", "yMd", "uMdhma", "yDH", "EyMdHmsS", "yMdHmsX", "yMdHmV", "yMdHmO", "yMdKax", "yMdkZ",
    "yMdA", "yMdN", "GyMdHm", "eyMdH", "yMdHmsn", "yMdHz",
)  # fmt: skip
COUNTS = {
    "y": (4, 4, 4, 1, 2, 3, 5), "u": (4, 1, 2, 5), "M": (2, 2, 1, 3, 4), "D": (1, 2, 3),
    "S": (3, 3, 1, 6, 9), "n": (1, 9, 3), "A": (1, 8), "N": (1, 14), "a": (1,), "E": (1, 3, 4),
    "e": (1, 2, 4), "G": (1, 4), "X": (1, 2, 3, 4, 5), "x": (1, 2, 3, 4, 5), "Z": (1, 3, 4, 5),
    "O": (1, 4), "V": (2, 2, 2, 1), "z": (1, 3),
}  # fmt: skip
MOST = {"y": 9999, "u": 9999, "M": 13, "D": 367, "d": 32, "H": 25, "k": 25, "K": 12, "h": 13,
        "m": 60, "s": 60, "n": 10**9, "A": 86_400_000, "N": 86_400 * 10**9, "e": 8}  # fmt: skip
NAMES = {
    "M": "January February March April May June July August September October November".split(),
    "E": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
    "e": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
}
IDS = ["Europe/Berlin", "America/New_York", "Asia/Tokyo", "UTC", "GMT0", "GMT", "UT", "Z"]


def offset(draw: random.Random) -> str:
    sign, hour = draw.choice("+-"), draw.randint(0, 19)
    minute, second = draw.choice([0, 30, 59, 60]), draw.choice([0, 15])
    return draw.choice(["Z", "+0000", "+00:00", f"{sign}{hour}", f"{sign}{hour:02}",
                        f"{sign}{hour:02}{minute:02}", f"{sign}{hour:02}:{minute:02}",
                        f"{sign}{hour:02}:{minute:02}:{second:02}"])  # fmt: skip


def field_text(draw: random.Random, letter: str, count: int) -> str:
    """A text for a field: most often one that can be read."""
    if letter in NAMES and (count > 2 or letter == "E"):
        return draw.choice(NAMES[letter])[: None if count == 4 else 3]
    if letter in MOST:
        text = str(draw.randint(0, MOST[letter])).zfill(count)
        return draw.choice(["-", "+", "9"]) + text if draw.random() < 0.04 else text
    if letter == "S":
        return str(draw.randint(0, 10**count - 1)).zfill(count)
    if letter == "a":
        return draw.choice(["AM", "PM", "am"])
    if letter == "G":
        return draw.choice(["AD", "BC"] if count < 4 else ["Anno Domini", "Before Christ"])
    if letter in "Vz":
        return draw.choice([*IDS, offset(draw), "UTC" + offset(draw), "GMT" + offset(draw)])
    return ("GMT" if letter == "O" or (letter, count) == ("Z", 4) else "") + offset(draw)


def drawn(draw: random.Random) -> tuple[str, str]:
    """A text and a pattern."""
    letters = list(draw.choice(SHAPES))
    if draw.random() < 0.2:
        draw.shuffle(letters)
    mark = draw.choice(["", "-", " ", "'T'"])
    text = pattern = ""
    for place, letter in enumerate(letters):
        count = draw.choice(COUNTS.get(letter, (2, 2, 1)))
        between = mark if place and draw.random() < 0.9 else ""
        pattern, text = pattern + between, text + between.strip("'")
        written = field_text(draw, letter, count)
        kind = draw.random()
        if kind < 0.08:
            pattern += f"[{letter * count}]"
            written = written if draw.random() < 0.7 else ""
        elif kind < 0.12:
            pattern += "p" * (count + 2) + letter * count
            written = written.rjust(count + 2)
        else:
            pattern += letter * count
        text += written
    return text + " " * (draw.random() < 0.03), pattern


def test_java_reads_the_same(tmp_path: Path) -> None:
    java = need("java")
    draw = random.Random(SEED)
    cases = [drawn(draw) for _ in range(CASES)]
    source = tmp_path / "Reads.java"
    source.write_text(SOURCE)
    done = subprocess.run(
        [java, str(source)],
        input="".join(f"{text}\n{pattern}\n" for text, pattern in cases),
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = done.stdout.split()
    assert len(found) == CASES
    read = 0
    for (text, pattern), java in zip(cases, found, strict=True):
        ours = time_to_epoch(None, [text, pattern])
        case = f"seed {SEED}: {text!r} by {pattern!r}: java {java}, ours {ours}"
        assert (refusal(pattern) is not None) == (java == REFUSED), case
        if java == DATE_ALONE:
            continue  # what is missing of the time is 0 here, also where java gives the time up
        if "a" in pattern and ("[h" in pattern or "[K" in pattern):
            continue  # a half of the day alone: its middle, in java
        assert (str(ours) if ours is not UNSET else UNREAD) == java.replace(REFUSED, UNREAD), case
        read += ours is not UNSET
    assert read > CASES // 8
