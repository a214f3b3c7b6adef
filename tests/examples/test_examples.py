"""Programs and notebooks of ``examples`` run, and the one that learns does learn."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.fixture(scope="module")
def ppo() -> Any:
    spec = importlib.util.spec_from_file_location("example_ppo", EXAMPLES / "ppo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_single_file_ppo_runs_and_is_reproducible(ppo: Any, tmp_path: Path) -> None:
    line = ["--steps", "256", "--servers", "4", "--horizon", "16", "--seed", "3"]
    arguments = ppo.parsed([*line, "--save", str(tmp_path / "policy.pt")])
    history = ppo.train(arguments)
    assert len(history) == 4
    assert np.isfinite(history).all()
    assert ppo.train(ppo.parsed(line)) == history
    assert (tmp_path / "policy.pt").stat().st_size > 10_000


@pytest.mark.long
def test_the_single_file_ppo_learns(ppo: Any) -> None:
    history = ppo.train(ppo.parsed(["--steps", "40000"]))
    assert np.mean(history[-5:]) > np.mean(history[:5]) + 0.1


def test_there_are_three_notebooks_with_their_output() -> None:
    import json

    assert [path.stem for path in NOTEBOOKS] == [
        "first_steps",
        "own_controller",
        "train_and_compare",
    ]
    for path in NOTEBOOKS:
        text = path.read_text(encoding="utf-8")
        cells = json.loads(text)["cells"]
        assert any(cell.get("outputs") for cell in cells)
        assert not any(
            output.get("output_type") == "error"
            for cell in cells
            for output in cell.get("outputs", [])
        )
        assert "/root/" not in text


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="notebooks need pip install nbclient")
    nbclient = pytest.importorskip("nbclient", reason="notebooks need pip install nbclient")
    book = nbformat.read(path, 4)
    resources = {"metadata": {"path": str(EXAMPLES)}}
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3", resources=resources).execute()
    assert all(cell.get("execution_count") for cell in book.cells if cell.cell_type == "code")
    learned = {"train_and_compare": ("trained", "(", "running")}.get(path.stem, ())
    kept = nbformat.read(path, 4)
    for then, now in zip(kept.cells, book.cells, strict=True):
        assert numbers(now, learned) == pytest.approx(numbers(then, learned), rel=1e-3), then.source


def numbers(cell: Any, but: tuple[str, ...]) -> list[float]:
    """Returns the numbers that a cell prints or gives, without lines that begin with ``but``."""
    outputs = cell.get("outputs", [])
    texts = [out.get("text", "") for out in outputs if out.get("name") == "stdout"]
    texts += [out.get("data", {}).get("text/plain", "") for out in outputs]
    lines = [
        line for text in texts for line in text.splitlines() if not (but and line.startswith(but))
    ]
    return [float(word) for line in lines for word in re.findall(r"-?\d+(?:\.\d+)?", line)]


def test_the_hyperparameters_of_rl_zoo_make_an_agent() -> None:
    import gymnasium
    import yaml
    from stable_baselines3 import PPO

    settings = yaml.safe_load((EXAMPLES / "rl_zoo.yml").read_text(encoding="utf-8"))
    for name in settings:
        assert name in gymnasium.registry, name
    values = dict(settings["pals/Simulated-v0"])
    for key in ("n_envs", "n_timesteps", "learning_rate", "policy_kwargs"):
        values.pop(key)
    env = gymnasium.make("pals/Simulated-v0", model="gpt2", gpu="h100_sxm")
    agent = PPO(env=env, device="cpu", **{**values, "n_steps": 8, "batch_size": 8})
    agent.learn(8)


def test_the_sweep_composes() -> None:
    import hydra
    import yaml

    from envs import catalog
    from experiments.app import schemas

    sweep = yaml.safe_load((EXAMPLES / "wandb_sweep.yaml").read_text(encoding="utf-8"))
    fixed = [word for word in sweep["command"] if "=" in word]
    ranges = sweep["parameters"].items()
    for end in ("min", "max"):
        chosen = [f"{key}={span.get(end, span.get('values', [0])[0])}" for key, span in ranges]
        schemas.register()
        with hydra.initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
            assert hydra.compose(sweep["program"].rpartition(".")[2], [*fixed, *chosen])
