"""The series that a search exports to Prometheus, and the dashboard that shows them."""

import json
import re
import socket
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from data_prep.prepared import Prepared
from search.run_dir.pulse_file import Pulse, read_pulse
from search.watch.prometheus import (
    COUNTERS,
    GAUGES,
    PREFIX,
    WORKER_MEMORY,
    WORKER_ROWS,
    WorkerTelemetry,
    exported_names,
)
from whole_search import finish, start, write_study

DASHBOARD = Path(__file__).parents[3] / "clusters" / "grafana.json"
PROGRAM = """
import sys, time
from pathlib import Path
from search.ray_tune.ray_session import prepare_environment
prepare_environment()
import ray
init, shutdown = ray.init, ray.shutdown
port, ended, scraped = int(sys.argv.pop(1)), Path(sys.argv.pop(1)), Path(sys.argv.pop(1))

def small(**options):
    fixed = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "_metrics_export_port": port}
    return init(**{**options, **fixed, "_node_ip_address": "127.0.0.1"})

def late():
    ended.touch()
    deadline = time.monotonic() + 60
    while not scraped.exists() and time.monotonic() < deadline:
        time.sleep(0.05)  # until the test has scraped the last values
    shutdown()

ray.init, ray.shutdown = small, late
from data_prep.console import run_app
from search.__main__ import app
run_app(app)
"""


@dataclass
class Scrapes:
    """Every value that was seen of each series of ours, by WorkerId."""

    port: int
    seen: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    latest: dict[tuple[str, str], float] = field(default_factory=dict)
    """What the last scrape found."""
    studies: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)

    def take(self) -> None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return
        self.latest.clear()
        for sample in self._samples(text):
            self.latest[sample.name, sample.labels["WorkerId"]] = sample.value
            self.seen[sample.name][sample.labels["WorkerId"]].append(sample.value)
            self.studies.add(sample.labels["study"])
            self.tags |= sample.labels.keys()

    def _samples(self, text: str) -> Iterator[Any]:
        for family in text_string_to_metric_families(text):
            yield from (sample for sample in family.samples if sample.name.startswith(f"ray_{PREFIX}"))

    def has_all_of(self, pulse: Pulse) -> bool:
        """Tell whether the last scrape found every number of a pulse, and no worker that still has a speed."""
        expected = {f"{name}_total": pulse.counts[count] for name, (count, _) in COUNTERS.items()}
        expected |= {name: value for name, (value_of, _) in GAUGES.items() if (value := value_of(pulse)) is not None}
        found = {name.removeprefix(f"ray_{PREFIX}"): value for (name, _), value in self.latest.items()}
        return not any(self.speeds()) and all(
            found.get(name, 0) == pytest.approx(value) for name, value in expected.items()
        )

    def speeds(self) -> list[float]:
        """Return the speed of each worker in the last scrape."""
        return [value for (name, _), value in self.latest.items() if name == f"ray_{PREFIX}{WORKER_ROWS}"]

    def last(self, name: str) -> float:
        (values,) = self.seen[f"ray_{PREFIX}{name}"].values()
        return values[-1]


@pytest.mark.ray
def test_prometheus_finds_all_that_a_search_exports(tmp_path: Path, prepared_tiny: Prepared, tiny_bert: str) -> None:
    study = write_study(tmp_path, prepared_tiny, tiny_bert)
    content = yaml.safe_load(study.read_text())
    content["candidates"]["long"] = content["candidates"]["mean"] | {"epochs": 60}  # so that its speed is scraped
    study.write_text(yaml.safe_dump(content))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    scrapes = Scrapes(port)
    ended, scraped, run_dir = tmp_path / "ended", tmp_path / "scraped", str(tmp_path / "runs" / "tiny")
    program = ["-c", PROGRAM, str(port), str(ended), str(scraped)]
    process = start(study, program=program, RAY_metrics_report_interval_ms="100")
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        scrapes.take()
        if ended.exists() and (last := read_pulse(run_dir)) is not None and scrapes.has_all_of(last):
            scraped.touch()
        time.sleep(0.05)
    finish(process)
    pulse = read_pulse(run_dir)
    assert pulse is not None
    assert pulse.ended == "done"
    for name, (count, _) in COUNTERS.items():
        happened = pulse.counts[count]
        assert f"ray_{PREFIX}{name}_total" in scrapes.seen or not happened, name
        if happened:
            assert scrapes.last(f"{name}_total") == happened, name
    assert {name for name, n in pulse.counts.items() if n} >= {"started", "finished", "stopped", "dead", "promoted"}
    for name, (value_of, _) in GAUGES.items():
        if (value := value_of(pulse)) is not None:
            assert scrapes.last(name) == pytest.approx(value), name
    assert pulse.blend is not None
    (driver,) = scrapes.seen[f"ray_{PREFIX}fold_runs_running"]
    assert max(scrapes.seen[f"ray_{PREFIX}fold_runs_running"][driver]) == 1
    speeds = scrapes.seen[f"ray_{PREFIX}{WORKER_ROWS}"]
    assert driver not in speeds
    assert max(max(values) for values in speeds.values()) > 1
    assert not any(scrapes.speeds()), "a worker that is gone is forgotten, one that is idle has a speed of 0"
    assert (f"ray_{PREFIX}fold_runs_started_total", driver) in scrapes.latest, "the last scrape found something"
    assert scrapes.seen.keys() <= set(exported_names())
    assert scrapes.studies == {"tiny"}
    ours = {tag for tag in scrapes.tags if tag[0].islower() and not tag.startswith("otel_")}
    assert ours == {"study"}, "the number of series is bounded"


def test_a_worker_exports_its_speed_between_rungs_and_its_gpu_memory() -> None:
    exported: list[tuple[str, float]] = []
    memory: list[int | None] = [None, 5 * 2**30]

    class FakeGauge:
        def __init__(self, name: str, **_: object) -> None:
            self.name = name.removeprefix(PREFIX)

        def set_default_tags(self, tags: dict[str, str]) -> None:
            assert tags == {"study": "s"}

        def set(self, value: float) -> None:
            exported.append((self.name, value))

    with WorkerTelemetry("s", gauge=FakeGauge, gpu_memory=lambda: memory.pop(0)) as telemetry:
        telemetry.show(100, 10)
        telemetry.show(400, 20)
    assert exported == [(WORKER_ROWS, 10), (WORKER_ROWS, 30), (WORKER_MEMORY, 5 * 2**30), (WORKER_ROWS, 0)]


def expressions() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [entry["query"] for entry in dashboard["templating"]["list"] if entry["type"] == "query"]
    return queries + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_dashboard_asks_for_every_series_and_for_none_that_does_not_exist() -> None:
    asked: set[str] = set()
    for expression in expressions():
        names = re.findall(r"\b[a-z]+_[a-z_]+\b", re.sub(r"\{.*?\}|\(study\)|label_values", "", expression))
        assert len(names) == 1, expression
        assert names[0] in exported_names(), expression
        assert expression.count("(") == expression.count(")"), expression
        asked.update(names)
    assert asked == set(exported_names())


def test_the_dashboard_is_what_grafana_takes() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells)), "no panel covers another"
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {"${datasource}"}


def test_the_documentation_names_every_series() -> None:
    text = (DASHBOARD.parents[1] / "docs" / "watching.md").read_text()
    assert re.findall(r"^\| `(ray_\w+)` \|", text, re.MULTILINE) == exported_names()
