"""Plans: what a study would take on the nodes of a cluster file, without Ray, weights or a GPU."""

import json
import math
from pathlib import Path

import pytest
import yaml

from data_prep.console import console
from data_prep.cpu_cores import cpu_cores
from data_prep.errors import InputError
from data_prep.prepared import Prepared
from models.backbones.family_memory import GIB
from search.__main__ import app as search_app
from search.cluster.machines import Machine, NodeType, read_cluster, read_machines, this_machine
from search.plan.plan_report import misfits
from search.plan.search_plan import SearchPlan, count_slots, plan_study
from search.study.study_file import Resources

CLUSTER = {
    "cluster_name": "small",
    "max_workers": 6,
    "provider": {"type": "aws", "region": "us-east-1"},
    "head_node_type": "head",
    "available_node_types": {
        "gpu_worker": {
            "min_workers": 1,
            "max_workers": 4,
            "resources": {},
            "node_config": {"InstanceType": "g5.xlarge", "InstanceMarketOptions": {"MarketType": "spot"}},
        },
        "head": {"resources": {"CPU": 0}, "node_config": {"InstanceType": "m7g.large"}},
        "own": {"resources": {"CPU": 16, "GPU": 2, "accelerator_type:T4": 1}, "node_config": {}},
    },
}


def write(path: Path, content: object) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture
def cluster(tmp_path: Path) -> str:
    return write(tmp_path / "cluster.yaml", CLUSTER)


def write_study(folder: Path, data: Prepared, **changes: object) -> str:
    study = {
        "name": "planned",
        "data": data.path,
        "resources": {"cpu": 2, "gpu": 0.5, "backbones": {"roberta-large": {"cpu": 4, "gpu": 1}}},
        "ladder": {"rungs": [0.5]},
        "candidates": {
            "large": {"backbone": "roberta-large", "epochs": 2},
            "base": {"backbone": "roberta-base", "epochs": 2},
            "base-short": {"backbone": "roberta-base", "epochs": 1},
        },
        **changes,
    }
    return write(folder / "study.yaml", study)


def plan_of(study: str, cluster: str | None = None, own: str | None = None) -> SearchPlan:
    machines = read_machines(own)
    nodes = [this_machine(2)] if cluster is None else read_cluster(cluster, machines)
    return plan_study(study, nodes=nodes, machines=machines)


def test_nodes_have_what_the_file_says_and_else_what_the_machine_has(cluster: str) -> None:
    head, gpu, own = read_cluster(cluster, read_machines())
    assert (head.head, head.cpu, head.most) == (True, 0, 1)
    assert (gpu.cpu, gpu.gpu, gpu.accelerator, gpu.least, gpu.most, gpu.spot) == (4, 1, "A10G", 1, 4, True)
    assert gpu.dollars_per_hour == 1.006
    assert (own.cpu, own.gpu, own.accelerator, own.most, own.dollars_per_hour) == (16, 2, "T4", 6, None)


def test_a_file_of_ones_own_replaces_figures_and_needs_sources(tmp_path: Path, cluster: str) -> None:
    shipped = read_machines().machines["g5.xlarge"]
    entry = {**shipped.model_dump(), "spot_dollars_per_hour": 0.4, "source": "my bill"}
    machines = read_machines(write(tmp_path / "own.yaml", {"machines": {"g5.xlarge": entry}}))
    assert read_cluster(cluster, machines)[1].dollars_per_hour == 0.4
    assert machines.machines["g6.xlarge"] == read_machines().machines["g6.xlarge"]
    del entry["source"]
    with pytest.raises(InputError, match=r"machines\.g5\.xlarge\.source: is required"):
        read_machines(write(tmp_path / "own.yaml", {"machines": {"g5.xlarge": entry}}))
    with pytest.raises(InputError, match="needs a `utilisation_source:`"):
        read_machines(write(tmp_path / "own.yaml", {"utilisation": 0.4}))


def test_a_machine_that_nobody_knows_is_asked_for(tmp_path: Path) -> None:
    types = {"worker": {"node_config": {"InstanceType": "x9.huge"}}}
    file = write(tmp_path / "cluster.yaml", {**CLUSTER, "available_node_types": types})
    with pytest.raises(InputError, match=r"nothing says what a x9\.huge has"):
        read_cluster(file, read_machines())


def test_a_local_cluster_file_has_its_nodes_described_by_name(tmp_path: Path) -> None:
    file = write(
        tmp_path / "c.yaml", {"provider": {"type": "local", "head_ip": "h", "worker_ips": ["a", "b"]}, "max_workers": 2}
    )
    own = {"machines": {"local.cluster.node": {"cpu": 16, "gpu": 1, "accelerator": "L4", "source": "our rack"}}}
    (node,) = read_cluster(file, read_machines(write(tmp_path / "own.yaml", own)))
    assert (node.cpu, node.gpu, node.most, node.dollars_per_hour) == (16, 1, 2, None)


@pytest.mark.parametrize(
    ("size", "cpu", "gpu", "slots"),
    [
        ({"cpu": 1}, 4, 0, 4),
        ({"cpu": 2, "gpu": 0.5}, 4, 1, 2),
        ({"cpu": 4, "gpu": 0.5}, 4, 1, 1),
        ({"cpu": 1, "gpu": 0.4}, 16, 2, 4),  # a fifth would span two GPUs
        ({"cpu": 1, "gpu": 2}, 16, 4, 2),
        ({"cpu": 8}, 4, 0, 0),
    ],
)
def test_shares_are_packed_and_never_span_two_gpus(size: dict[str, float], cpu: int, gpu: int, slots: int) -> None:
    node = NodeType("n", "n", cpu, gpu, None, None, None, "test", least=0, most=1, head=False, spot=False)
    assert count_slots(Resources(**size), node) == slots


def test_hours_and_money_are_operations_over_speed(tmp_path: Path, prepared_tiny: Prepared, cluster: str) -> None:
    plan = plan_of(write_study(tmp_path, prepared_tiny), cluster)
    gpu = next(found for found in plan.nodes if found.node.name == "gpu_worker")
    large = next(run for run in plan.runs if run.candidate.backbone == "roberta-large")
    speed = 70e12 * 0.25
    assert gpu.placements["roberta-large"].slot_hours == pytest.approx(large.operations / speed / 3600)
    base = [run.operations for run in plan.runs if run.candidate.backbone == "roberta-base"]
    place = gpu.placements["roberta-base"]
    assert place.slot_hours == pytest.approx(sum(base) / 2 / (speed * 0.5) / 3600)
    assert (place.slots, place.node_hours) == (2, place.slot_hours / 2)
    grid = 4 * (large.operations + sum(base)) / speed / 3600
    assert gpu.full_gpu == pytest.approx(grid)
    assert gpu.full == pytest.approx(grid)
    assert gpu.expected < gpu.full
    assert gpu.dollars(gpu.full) == pytest.approx(grid * 1.006)
    assert plan.full_grid == 12
    trained = 6 * 303e6 * large.counts.tokens * 2  # 6 N for each token
    assert trained < large.operations < 1.6 * trained


def test_a_measured_speed_replaces_the_peak(tmp_path: Path, prepared_tiny: Prepared, cluster: str) -> None:
    measured = {"backbone": "roberta-large", "accelerator": "A10G", "tokens_per_second": 1000, "source": "our run"}
    own = write(tmp_path / "own.yaml", {"throughput": [measured]})
    gpu = plan_of(write_study(tmp_path, prepared_tiny), cluster, own).nodes[0]
    large = plan_of(write_study(tmp_path, prepared_tiny), cluster).runs[0]
    assert gpu.placements["roberta-large"].slot_hours == pytest.approx(large.tokens / 1000 / 3600)
    assert gpu.placements["roberta-large"].source == "measured: our run"


def test_what_does_not_fit_is_told(tmp_path: Path, prepared_tiny: Prepared, cluster: str) -> None:
    changes = {
        "resources": {"cpu": 2, "gpu": 0.25, "backbones": {"roberta-base": {"cpu": 64, "gpu": 1}}},
        "budget": {"disk_gb": 1},
    }
    plan = plan_of(write_study(tmp_path, prepared_tiny, **changes), cluster)
    told = "\n".join(misfits(plan))
    assert "roberta-base: fits no node type; the search would wait" in told
    assert "roberta-base on gpu_worker: requires cpu=64, gpu=1; gpu_worker has cpu=4, gpu=1" in told
    needed = plan.nodes[0].placements["roberta-large"].memory / GIB
    assert f"roberta-large on gpu_worker: needs {needed:.1f} GiB of a GPU; gpu=0.25 of A10G is 5.5 GiB" in told
    assert "budget.disk_gb is 1" in told


def test_a_node_with_too_little_main_memory_is_named_with_what_it_has(
    tmp_path: Path, prepared_tiny: Prepared, cluster: str
) -> None:
    plan = plan_of(write_study(tmp_path, prepared_tiny, resources={"cpu": 1}), cluster)
    needed = 4 * plan.nodes[0].placements["roberta-large"].memory / GIB
    sentence = f"4 at a time need {needed:.1f} GiB of main memory, gpu_worker has 16"
    assert misfits(plan) == [f"Does not fit: roberta-large on gpu_worker: {sentence}"]


def test_a_gpu_without_bf16_is_planned_in_fp16_and_a_gpu_of_no_known_kind_has_no_hours(
    tmp_path: Path, prepared_tiny: Prepared, cluster: str
) -> None:
    study = write_study(tmp_path, prepared_tiny)
    assert plan_of(study, cluster).nodes[1].placements["roberta-base"].precision == "fp16"
    types = {"own": {"resources": {"CPU": 16, "GPU": 2}}}
    file = write(tmp_path / "c.yaml", {**CLUSTER, "available_node_types": types})
    (found,) = plan_of(study, file).nodes
    assert math.isnan(found.placements["roberta-base"].slot_hours)


def test_candidates_to_be_drawn_are_stood_in_for(tmp_path: Path, prepared_tiny: Prepared) -> None:
    space = {"backbone": ["roberta-base", "minilm-l6"], "backbone_lr": {"loguniform": [1e-5, 1e-4]}}
    changes = {"space": space, "budget": {"candidates": 7}, "sampler": "tpe", "resources": {"cpu": 1}}
    plan = plan_of(write_study(tmp_path, prepared_tiny, **changes))
    assert (plan.n_named, len(plan.runs), plan.full_grid) == (3, 7, 28)
    assert plan.nodes[0].dollars(10) == 0


@pytest.mark.parametrize("with_cluster", [True, False])
def test_the_command_prints_a_plan_and_writes_nothing(
    tmp_path: Path, prepared_tiny: Prepared, cluster: str, with_cluster: bool
) -> None:
    study = write_study(tmp_path, prepared_tiny, **({} if with_cluster else {"resources": {"cpu": 1}}))
    if with_cluster:  # which has the data elsewhere
        Path(study).write_text(Path(study).read_text().replace(prepared_tiny.path, "s3://elsewhere/prepared"))
    before = sorted(tmp_path.rglob("*"))
    options = ["--cluster", cluster, "--data", prepared_tiny.path] if with_cluster else []
    with console.capture() as capture:
        search_app(["plan", study, *options], standalone_mode=False)
    told = " ".join(capture.get().split())  # lines break where the width ends
    assert "The full grid has 12 fold runs" in told
    assert "These are estimates, not measurements" in told
    following = f"launch {study} --cluster {cluster} --data " if with_cluster else f"run {study}"
    assert f"next: blendfold {following}" in told
    assert ("gpu_worker" in told) == with_cluster
    assert sorted(tmp_path.rglob("*")) == before


def test_a_plan_for_another_program_has_the_numbers(
    tmp_path: Path, prepared_tiny: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path, prepared_tiny, resources={"cpu": 1})
    search_app(["plan", study, "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    plan = plan_study(study, nodes=[this_machine(cpu_cores())], machines=read_machines())
    assert (found["full_grid"], found["expected_runs"]) == (plan.full_grid, plan.expected_runs)
    assert found["nodes"][0]["wall_hours"] == plan.nodes[0].wall_hours
    assert {row["family"] for row in found["placements"]} == set(plan.families)


def test_every_machine_that_ships_has_a_source() -> None:
    machines = read_machines()
    assert all(isinstance(machine, Machine) and machine.source for machine in machines.machines.values())
    assert all(machine.accelerator in machines.accelerators for machine in machines.machines.values() if machine.gpu)
