"""Every file in ``conf`` composes and builds what it describes, so that no file goes stale."""

from __future__ import annotations

import re
from pathlib import Path

import hydra
import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from envs import catalog
from envs.errors import ConfigurationError, WorkloadError
from experiments.app import schemas

SAMPLES = {
    "budget_file": ("objective.power_budget.path", "time_s,value\n0,1000\n"),
    "carbon": ("budget.signal.signal.path", "timestamp,avg_CI\n2022-01-01,300\n"),
    "price": ("budget.signal.signal.path", "timestamp,price_per_kwh\n2022-01-01,0.2\n"),
    "target_file": ("objective.target.path", "time_s,value\n0,1000\n"),
}
APPLICATIONS = sorted(path.stem for path in catalog.CONF_DIR.glob("*.yaml"))
FILES = sorted(
    path.relative_to(catalog.CONF_DIR).with_suffix("").as_posix()
    for path in catalog.CONF_DIR.rglob("*.yaml")
    if path.parent != catalog.CONF_DIR
)
CHOICES = [file for file in FILES if not file.startswith("experiment/")]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PALS_CACHE", str(tmp_path_factory.getbasetemp() / "conf-cache"))


def compose(name: str, *overrides: str) -> DictConfig:
    schemas.register()
    with hydra.initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
        return hydra.compose(name, list(overrides))


def build_all(config: DictConfig) -> dict[str, object]:
    """Builds every node that names a class."""
    nodes = {key: config[key] for key in config if key != "_target_"}
    return {
        key: catalog.build(key, node)
        for key, node in nodes.items()
        if isinstance(node, DictConfig) and "_target_" in node
    }


@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_compose_and_build(name):
    config = compose(name)
    OmegaConf.resolve(config)
    assert build_all(config)


@pytest.mark.parametrize("name", catalog.names("experiment"))
def test_every_experiment_composes_and_builds(name):
    built = build_all(compose("run", f"experiment={name}"))
    assert built["workload"].mean_output_tokens > 0


def missing_keys(node):
    """Keys without a value, named from the node itself wherever it hangs."""
    return OmegaConf.missing_keys(OmegaConf.create(OmegaConf.to_container(node)))


@pytest.mark.parametrize("file", CHOICES)
def test_every_choice_composes_and_builds(file, tmp_path):
    group, _, name = file.rpartition("/")
    overrides = [f"+{group}={name}"]
    if name in SAMPLES:
        key, text = SAMPLES[name]
        sample = tmp_path / "sample.csv"
        sample.write_text(text)
        overrides.append(f"{key}={sample}")
    node = OmegaConf.select(compose_alone(*overrides), group.replace("/", "."))
    if missing := missing_keys(node):  # something that only the user can give
        with pytest.raises(ConfigurationError, match="|".join(map(re.escape, missing))):
            catalog.build(group, node)
        return
    try:
        built = catalog.build(group, node)
    except WorkloadError as error:
        pytest.skip(str(error))
    assert isinstance(built, catalog.locate(OmegaConf.select(node, "_target_")))


@pytest.mark.parametrize("file", CHOICES)
def test_hydra_and_the_catalogue_read_every_file_alike(file):
    """The catalogue is a second composer; this keeps it equal to the first."""
    group, _, name = file.rpartition("/")
    by_hydra = OmegaConf.select(compose_alone(f"+{group}={name}"), group.replace("/", "."))
    loaded = catalog.load(group, name)
    assert OmegaConf.to_container(loaded) == OmegaConf.to_container(by_hydra)
    assert list(loaded) == list(by_hydra)
    assert missing_keys(loaded) == missing_keys(by_hydra)


@pytest.mark.parametrize("file", FILES)
def test_every_choice_is_described_and_has_a_schema(file):
    text = (catalog.CONF_DIR / f"{file}.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# "), "a file begins with what it is and how it is used"
    if file in CHOICES:
        entries = yaml.safe_load(text)["defaults"]
        here = Path(catalog.CONF_DIR / file).parent
        assert any(
            isinstance(entry, str)
            and (entry.startswith(catalog.SCHEMA_PREFIX) or (here / f"{entry}.yaml").is_file())
            for entry in entries
        ), "a file inherits the schema of its class, or another file of its group"


def compose_alone(*overrides: str) -> DictConfig:
    schemas.register()
    with hydra.initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
        return hydra.compose(None, list(overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ("workload.lode=1",), ("server.tensor_paralel=2",), ("seed=one",),
        ("objective.qos.window=3",), ("controller.kp=1",), ("gpu.power_cap_max_w=much",),
    ],
)  # fmt: skip
def test_misspelt_keys_and_wrong_types_fail_while_composing(overrides):
    key = overrides[0].partition("=")[0]
    with pytest.raises(Exception, match=key.rpartition(".")[2]) as caught:
        compose("run", *overrides)
    assert "hydra" in type(caught.value).__module__


def test_schemas_are_not_choices():
    from hydra.core.global_hydra import GlobalHydra

    schemas.register()
    with hydra.initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
        hydra.compose("run")
        loader = GlobalHydra.instance().config_loader()
        assert "schema" not in loader.list_groups("")
        assert loader.get_group_options("objective") == catalog.names("objective")


def test_an_unknown_class_is_named(tmp_path):
    folder = tmp_path / "controller"
    folder.mkdir()
    (folder / "mine.yaml").write_text("defaults:\n  - /schema/envs/nowhere/Nothing@_here_\n")
    with pytest.raises(ConfigurationError, match=r"envs\.nowhere\.Nothing"):
        compose("run", "controller=mine", f"hydra.searchpath=[file://{tmp_path}]")


def test_every_yaml_is_packaged():
    # Packages of data have no code; setuptools finds them as namespace packages.
    root = catalog.CONF_DIR.parent
    project = (root / "pyproject.toml").read_text()
    assert '"conf*"' in project
    assert '"*.yaml"' in project
    assert not list(catalog.CONF_DIR.rglob("*.yml"))
