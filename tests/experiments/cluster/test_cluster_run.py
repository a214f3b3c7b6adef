"""``python -m experiments.run env=cluster``: files, figures, failures."""

from __future__ import annotations

import json

import numpy as np
import pandas
import pytest
from support.clock_times import without_clock_times

from envs import catalog
from envs.cluster.cluster import node_seeds
from envs.cluster.config import ServerCluster
from envs.cluster.env import ClusterEnv
from envs.cluster.factory import build_cluster
from envs.cluster.ray_config import server_itself
from envs.errors import ConfigurationError, ServerError
from envs.factory import make_env
from envs.simulator.server import SimulatedServer
from envs.telemetry import COLUMN
from experiments.app.composition import saved_run
from experiments.compare import main as compare_main
from experiments.evaluation.baseline import reference_key, reference_tokens
from experiments.profiling.store import profile_key
from experiments.profiling.sweep import ProfileConfig
from experiments.run import main
from experiments.runs.runner import execute

FILES = {"summary.json", "intervals.parquet", "config.yaml", "run.png", "describe.json"}
SMALL = (
    "env=cluster", "env.nodes.node0.model=olmoe_1b_7b", "env.nodes.node1.model=olmoe_1b_7b",
    "env.budget.signal.value=3600", "profile.tensor_parallel=[4]",
)  # fmt: skip


def scenarios_of(config):
    return config.options("pals").new_cluster().node_scenarios(config.scenario)


@pytest.fixture(scope="module")
def finished(compose, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    config = compose(*SMALL, "controller=pals", "seed=3", "allocator@env.allocator=predictive")
    return execute(config.scenario, config.options("pals"), folder), folder


def test_the_files_are_there_and_no_others(finished):
    assert {path.name for path in finished[1].iterdir()} == FILES


def test_the_summary_has_figures_of_all_and_of_each(finished):
    summary, folder = finished
    text = (folder / "summary.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == summary
    assert list(summary["nodes"]) == ["node0", "node1", "node2"]
    assert set(summary["nodes"]["node0"]) <= set(summary) | {
        "restarts",
        "decision_p50_s",
        "decision_p99_s",
    }
    assert summary["budget_mean_w"] == 3600.0
    assert summary["infeasible_fraction"] == 0.0
    assert summary["events"] == []
    assert summary["num_gpus"] == 12
    for key in ("output_tokens", "energy_gpu_j", "requests_finished"):
        assert summary[key] == pytest.approx(sum(n[key] for n in summary["nodes"].values()))
    rates = [node["qos_violation_rate"] for node in summary["nodes"].values()]
    assert summary["qos_violation_rate"] == pytest.approx(np.mean(rates))


def test_a_row_an_interval_and_node(finished):
    summary, folder = finished
    frame = pandas.read_parquet(folder / "intervals.parquet")
    assert frame["node"].tolist() == ["node0", "node1", "node2"] * 120
    assert frame["time_s"].iloc[[0, 2, 3, -1]].tolist() == [0.5, 0.5, 1.0, 60.0]
    assert frame["energy_gpu_j"].sum() == pytest.approx(summary["energy_gpu_j"])
    drawn = (1.05 * frame["energy_gpu_j"] / 0.5 + 345.0).groupby(frame["time_s"]).sum()
    assert drawn.tolist() == pytest.approx(frame.groupby("time_s")["cluster_power_w"].first())
    over = np.maximum(drawn - 3600.0, 0.0).sum() * 0.5
    assert summary["energy_over_budget_j"] == pytest.approx(over)
    assert summary["power_tracking_error_w"] == pytest.approx((drawn - 3600.0).abs().mean())


def test_caps_never_exceed_the_budget(finished):
    frame = pandas.read_parquet(finished[1] / "intervals.parquet")
    caps = (1.05 * 4 * frame["requested_power_cap_w"] + 345.0).groupby(frame["time_s"]).sum()
    assert (caps <= 3600.0 * (1 + 1e-6)).all()
    left = frame.groupby("time_s")["power_budget_w"].sum()
    assert (left <= 3600.0 * (1 + 1e-6)).all()


def test_every_node_has_its_own_target_load_and_reference(finished, compose):
    frame = pandas.read_parquet(finished[1] / "intervals.parquet")
    config = compose(*SMALL, "seed=3")
    nodes = scenarios_of(config)
    seeds = node_seeds(3, 3)
    for (name, own), seed, fraction in zip(nodes.items(), seeds, (0.9, 0.6, 0.75), strict=True):
        env = make_env(own)
        rows = frame[frame["node"] == name]
        assert rows["target_tok_s"].unique() == pytest.approx(
            [fraction * env.context.capacity_tok_s]
        )
        assert env.context.offered_tok_s == pytest.approx(
            fraction * env.context.capacity_tok_s, rel=0.02
        )
        tokens = reference_tokens(own, seed)
        window = rows["reference_tok_s"].iloc[-1]
        assert window == pytest.approx(tokens[-20:].sum() / 10.0)


def test_the_plot_is_a_plot(finished):
    from matplotlib.image import imread

    image = imread(finished[1] / "run.png")
    assert min(image.shape[:2]) > 800
    assert image[..., :3].std() > 0.05


def test_the_saved_configuration_gives_the_same_run(finished, tmp_path):
    summary, folder = finished
    config = saved_run(folder / "config.yaml")
    again = execute(config.scenario, config.options("pals"), tmp_path)
    assert without_clock_times(again) == without_clock_times(summary)
    for name in set(FILES) - {"summary.json"}:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_command_prints_nodes(command):
    done = command(main, *SMALL, "controller=static", "duration=20", "env.nodes.node2=null")
    assert done.code == 0, done.err
    assert "Power budget, mean" in done.out
    assert "node1" in done.out
    assert "node2" not in done.out


def test_clusters_are_compared(command, tmp_path):
    done = command(
        compare_main, *SMALL, "controllers=[static,static_dynamic_cap]", "seeds=2",
        "executor.jobs=1", "duration=20",
    )  # fmt: skip
    assert done.code == 0, done.err
    result = json.loads((tmp_path / "out" / "comparison.json").read_text())
    cells = result["controllers"]["static_dynamic_cap"]
    assert len(cells["power_tracking_error_w"]["values"]) == 2
    assert cells["budget_overshoot_rate"]["iqm"] == 0.0
    frame = pandas.read_csv(tmp_path / "out" / "comparison.csv")
    assert not {"nodes", "events", "provenance"} & set(frame)


@pytest.fixture
def dies(monkeypatch):
    """Lets the second server of a cluster die in its 81st interval, and start again later."""
    lets_pass, reset = SimulatedServer.run, SimulatedServer.reset
    life = {}

    def one(self, seconds):
        lets_pass(self, seconds)
        time_s = self.telemetry_row[0, COLUMN.time_s]
        if life["victim"] is self and not life["died"] and time_s > 40.0:
            life["died"] = True
            raise ServerError("the server ended")

    def two(self, seed):
        life.setdefault("seen", []).append(self)
        life["victim"] = life["seen"][1] if len(life["seen"]) > 1 else None
        return reset(self, seed)

    def arm():
        life.update(died=False, seen=[], victim=None)
        monkeypatch.setattr(SimulatedServer, "run", one)
        monkeypatch.setattr(SimulatedServer, "reset", two)

    return arm


def test_the_run_goes_on_when_a_node_dies_and_says_so(compose, tmp_path, dies):
    config = compose(*SMALL, "controller=static", "seed=5")
    for own, seed in zip(scenarios_of(config).values(), node_seeds(5, 3), strict=True):
        for attempt in range(2):  # references come from the cache, not from servers that die
            reference_tokens(own, seed + attempt)
    dies()
    summary = execute(config.scenario, config.options("static"), tmp_path)
    assert summary["events"] == [
        "40.5 s: node1 down: ServerError: the server ended", "45.5 s: node1 back"
    ]  # fmt: skip
    node = summary["nodes"]["node1"]
    assert node["restarts"] == 1
    assert node["down_fraction"] == pytest.approx(11 / 120)
    assert node["qos_violation_rate"] > 0.05  # a node that is down violates
    frame = pandas.read_parquet(tmp_path / "intervals.parquet").set_index(["node", "time_s"])
    assert frame.loc["node1", "alive"].eq(0).sum() == 11
    assert np.isnan(frame.loc[("node1", 41.0), "power_budget_w"])
    caps = 1.05 * 4 * frame["requested_power_cap_w"] + 345.0
    asked = caps.groupby("time_s").sum()  # a static controller asks for 400 W throughout
    assert (asked <= 3600.0 * (1 + 1e-6)).all()
    assert asked.iloc[0] == pytest.approx(3600.0)
    before = frame.loc[("node0", 40.5), "power_budget_w"]
    after = frame.loc[("node0", 41.0), "power_budget_w"]
    assert after > 1.2 * before
    assert frame.loc[("node0", 50.0), "power_budget_w"] == pytest.approx(before, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["env.nodes.node0.modle=x"], "modle"),
        (["env.nodes.node0.model=palm"], "no choice named 'palm'"),
        (["env.nodes.node0.target_fraction=0"], "target_fraction: must be > 0"),
        (["env.budget.unit=kw"], "env.budget.unit"),
        (["env.nodes.node0.server={tensor_paralel: 2}"], "tensor_paralel"),
        (["env.power_scope=rack"], "power_scope"),
    ],
)
def test_bad_clusters_are_one_message(command, arguments, message):
    done = command(main, "env=cluster", "duration=20", "controller=static", *arguments)
    assert done.code != 0
    assert message in done.err
    assert done.err.count("error:") == 1


def test_a_cluster_needs_nodes():
    with pytest.raises(ConfigurationError, match="at least one node"):
        ServerCluster(nodes={"node0": None})


def test_a_nodes_own_server_keys_hold_for_it_alone(compose):
    config = compose("env=cluster", "+env.nodes.node0.server={data_parallel: 3}")
    servers = [own.server_config for own in scenarios_of(config).values()]
    assert [server.num_gpus for server in servers] == [12, 4, 4]


@pytest.mark.parametrize("experiment", ["multi_node_qos", "demand_response"])
def test_the_papers_experiments_describe_three_nodes(compose, experiment):
    config = compose(f"experiment={experiment}")
    described = config.options("pals").new_cluster()
    nodes = described.node_scenarios(config.scenario)
    assert len(nodes) == 3
    for own in nodes.values():
        assert catalog.build("workload", own.workload).mean_output_tokens > 0
    assert described.power_scope == "system"


def test_an_agent_can_act_on_a_configured_cluster(compose):
    config = compose(*SMALL, "allocator@env.allocator=by_action", "duration=10")
    cluster = build_cluster(config.options("").new_cluster(), config.scenario)
    env = ClusterEnv(cluster)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert env.action_space.nvec.tolist() == [6, 6] * 3 + [6] * 3


def test_a_remote_simulator_is_evaluated_and_profiled_as_the_local_one(compose):
    def node(*overrides):
        config = compose("env=cluster", "+env.nodes.node0.server.inner.max_num_seqs=32", *overrides)
        return server_itself(scenarios_of(config)["node0"])

    remote = node("server=ray")
    local = compose("env=cluster", "+env.nodes.node0.server={max_num_seqs: 32}")
    local = scenarios_of(local)["node0"]
    assert remote.content()["server"]["max_num_seqs"] == 32
    assert reference_key(remote, 1) == reference_key(local, 1)
    assert profile_key(remote, ProfileConfig()) == profile_key(local, ProfileConfig())


def test_a_node_may_be_another_kind_of_server(compose):
    config = compose(
        "env=cluster", "server=ray",
        "+env.nodes.node0.server={inner: {base: vllm_cpu, url: 'http://127.0.0.1:8000'}}",
    )  # fmt: skip
    nodes = scenarios_of(config).values()
    targets = [type(server_itself(own).server_config).__name__ for own in nodes]
    assert targets == ["VllmServerConfig", "SimulatedServerConfig", "SimulatedServerConfig"]
