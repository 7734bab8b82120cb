"""How fast and how steadily a collector takes events, over HTTP, into Delta.

    python bench/ingest.py [--rows 1000000] [--labels 20000] [--bulk 2000000] [--json]

Starts one collector on an empty store and measures it from outside: rows a second of wall time,
and rows a second of the collector's own CPU time (all its threads), which is what one core could
do and does not depend on who else is using the machine. Predictions are spool batches of one-row
requests with 30 features, as a shipper sends them. Single labels are one request each, over
keep-alive connections. Bulk labels are NDJSON uploads.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from heliotrope.adapters.collector_client import CollectorClient
from heliotrope.domain.spool_format import (
    FRAME,
    Record,
    SegmentHeader,
    encode_header,
    encode_record,
)
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.vocabulary import Role, Task

TOKEN = "bench-token-0123456789"
MODEL = "bench"
FEATURES = 30
BATCH = 20_000
_SEQUENCE_AT = FRAME.size + 12
_NAME_AT = FRAME.size + 36
_NAME = 16


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    rows: int
    wall_rows_s: float
    cpu_rows_s: float
    wanted: str
    rss_mb: float
    note: str = ""


class Collector:
    """A collector process and what /proc says of it."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url
        self.rss: list[float] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def cpu(self) -> float:
        """Seconds, of all threads."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_now(self) -> float:
        """MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", text)
        return int(found[1]) / 1024 if found else 0.0

    def _sample(self) -> None:
        while not self._stopping.wait(0.5):
            try:
                self.rss.append(self.rss_now())
            except OSError:
                return

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self.process.terminate()
        self.process.wait(30)


@contextmanager
def collector(folder: Path, commit_ms: int) -> Iterator[Collector]:
    """A collector on a free port and an empty store."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from heliotrope.cli import main; main()", "collector"),
            *("--store", str(folder / "store"), "--port", "0", "--commit-ms", str(commit_ms)),
            *("--upkeep-seconds", "20"),
        ],
        env={**os.environ, "HELIOTROPE_COLLECTOR_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline() if process.stdout else ""
    found = re.search(r"http://[\d.:]+", line)
    if found is None:
        raise SystemExit(f"the collector must say its address. Got {line!r}.")
    running = Collector(process, found[0].rstrip("."))
    try:
        yield running
    finally:
        running.stop()


class SpoolSource:
    """Makes batches of one-row records: a template whose ids, numbers and checksums are renewed."""

    def __init__(self, number: int) -> None:
        self.spool = f"00000000-0000-0000-0000-{number:012d}"
        features = tuple(Feature(name=f"x{i}", type=FeatureType.FLOAT) for i in range(FEATURES))
        header = SegmentHeader(
            spool=self.spool,
            first_sequence=1,
            model=MODEL,
            version="1",
            role=Role.CHAMPION,
            task=Task.BINARY,
            features=features,
            classes=("no", "yes"),
        )
        self._header = encode_header(header)
        self._number = number
        rng = np.random.default_rng(number)
        frames = [self._record(rng) for _ in range(BATCH)]
        self._frames = np.frombuffer(b"".join(frames), np.uint8).reshape(BATCH, -1).copy()
        self.sequence = 0

    def _record(self, rng: np.random.Generator) -> bytes:
        return encode_record(
            Record(
                sequence=1,
                predicted_at_ns=time.time_ns(),
                latency_ns=400_000,
                request_id="0" * _NAME,
                protocol="v1",
                features=rng.random((1, FEATURES), dtype=np.float32),
                scores=rng.random(1, dtype=np.float32),
                predictions=np.array([1], np.uint16),
            )
        )

    def batch(self) -> tuple[bytes, int]:
        """The next batch and what it follows."""
        follows = self.sequence
        numbers = np.arange(follows + 1, follows + BATCH + 1, dtype="<u8")
        self.sequence += BATCH
        self._frames[:, _SEQUENCE_AT : _SEQUENCE_AT + 8] = numbers.view(np.uint8).reshape(-1, 8)
        ids = "".join(f"{self._number:04d}{n:012d}" for n in numbers.tolist()).encode()
        names = np.frombuffer(ids, np.uint8).reshape(-1, _NAME)
        self._frames[:, _NAME_AT : _NAME_AT + _NAME] = names
        width = self._frames.shape[1]
        data, size = self._frames.tobytes(), width - FRAME.size
        checks = [
            crc32(data[at + FRAME.size : at + width], size) for at in range(0, len(data), width)
        ]
        self._frames[:, 8:12] = np.array(checks, "<u4").view(np.uint8).reshape(-1, 4)
        return self._header + self._frames.tobytes(), follows


def predictions(running: Collector, rows: int, spools: int = 2, first: int = 1) -> Figure:
    """Spool batches from a few shippers at once."""
    each = -(-rows // (spools * BATCH))
    failures: list[str] = []

    def ship(number: int) -> None:
        source, client = SpoolSource(number), CollectorClient(running.url, TOKEN)
        for _ in range(each):
            body, follows = source.batch()
            answer = client.send_batch(body, follows, "budget")
            while answer.status in (429, 503):
                time.sleep(0.05)
                answer = client.send_batch(body, follows, "budget")
            if answer.status != 200:
                failures.append(f"{answer.status} {answer.error}")
                return

    return _measured(
        "predictions, 30 features",
        running,
        each * spools * BATCH,
        [threading.Thread(target=ship, args=(first + number,)) for number in range(spools)],
        ">= 50,000 /s a core",
        failures,
    )


def bulk(running: Collector, rows: int, senders: int = 2, size: int = 40_000) -> Figure:
    """NDJSON uploads."""
    each = -(-rows // (senders * size))
    failures: list[str] = []

    def send(number: int) -> None:
        client = CollectorClient(running.url, TOKEN)
        for upload in range(each):
            start = upload * size
            body = b"\n".join(
                b'{"prediction_id":"%04d%012d/0","label":"%s"}'
                % (number, n, b"yes" if n % 7 else b"no")
                for n in range(start, start + size)
            )
            key = f"bulk-{number}-{upload}"
            reply = client.send_labels(body, "application/x-ndjson", MODEL, key)
            while reply.status in (429, 503):
                time.sleep(0.05)
                reply = client.send_labels(body, "application/x-ndjson", MODEL, key)
            if reply.status != 200 or reply.value["accepted"] != size:
                failures.append(f"{reply.status} {reply.error}")
                return

    return _measured(
        "labels in bulk (NDJSON)",
        running,
        each * senders * size,
        [threading.Thread(target=send, args=(number + 1,)) for number in range(senders)],
        ">= 100,000 /s",
        failures,
    )


def singles(running: Collector, rows: int, connections: int) -> Figure:
    """One label a request."""
    failures: list[str] = []
    flood = _flooder(running, rows, connections)
    return _measured(
        f"labels singly, {connections} connections",
        running,
        rows,
        [threading.Thread(target=lambda: failures.extend(asyncio.run(flood())))],
        ">= 2,000 /s",
        failures,
    )


def _flooder(running: Collector, rows: int, connections: int) -> Any:
    host, port = running.url.removeprefix("http://").split(":")

    async def one(numbers: range, failures: list[str]) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for number in numbers:
            body = b'{"prediction_id":"0001%012d/0","label":"yes"}' % number
            writer.write(
                b"POST /v1/labels?model=%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (MODEL.encode(), TOKEN.encode(), len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                failures.append(answer.decode())
                break
        writer.close()

    async def flood() -> list[str]:
        failures: list[str] = []
        share = rows // connections
        await asyncio.gather(
            *(one(range(c * share, (c + 1) * share), failures) for c in range(connections))
        )
        return failures

    return flood


def _measured(
    what: str,
    running: Collector,
    rows: int,
    threads: list[threading.Thread],
    wanted: str,
    failures: list[str],
) -> Figure:
    cpu, began = running.cpu(), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall, spent = time.monotonic() - began, running.cpu() - cpu
    if failures:
        raise SystemExit(f"{what}: {failures[0]}")
    return Figure(what, rows, rows / wall, rows / spent, wanted, running.rss_now())


def memory_note(samples: list[float]) -> str:
    """How the resident size went: at the end of the first, second, third and last quarter."""
    if len(samples) < 8:
        return ""
    quarter = len(samples) // 4
    peaks = [max(samples[q * quarter : (q + 1) * quarter]) for q in range(4)]
    return "peak RSS by quarter, MiB: " + " ".join(f"{peak:.0f}" for peak in peaks)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=20_000)
    parser.add_argument("--bulk", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=640)
    parser.add_argument("--commit-ms", type=int, default=250)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="heliotrope-bench-") as folder,
        collector(Path(folder), given.commit_ms) as running,
    ):
        # Makes the table, so that the model is known and first imports are not measured.
        predictions(running, BATCH, spools=1)
        figures = [
            singles(running, given.labels, given.connections),
            bulk(running, given.bulk),
        ]
        running.rss.clear()
        figures.append(predictions(running, given.rows, first=2))
        note = memory_note(running.rss)
    if given.json:
        print(json.dumps({"figures": [asdict(f) for f in figures], "memory": note}, indent=2))
        return
    print(f"{'':34}{'rows':>12}{'rows/s':>12}{'rows/CPU s':>12}{'RSS MiB':>9}  wanted")
    for f in figures:
        print(
            f"{f.what:34}{f.rows:>12,}{f.wall_rows_s:>12,.0f}{f.cpu_rows_s:>12,.0f}"
            f"{f.rss_mb:>9,.0f}  {f.wanted}"
        )
    print(note)


if __name__ == "__main__":
    main()
