"""Files and values that are meant to break a reader: one clear line, little memory, little time."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from rich.table import Table as RichTable

from schedrl import data, schedules
from schedrl.benchmark.benchmark_file import Benchmark, read_benchmark
from schedrl.benchmark.manifest import Several, family_of, read_manifest
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import read_results
from schedrl.cli.common import console, parse_settings, say, ticker
from schedrl.data import own
from schedrl.diffusion.engines.torch_engine import bytes_per_image
from schedrl.diffusion.network_on_table import load_network
from schedrl.diffusion.population import Population
from schedrl.diffusion.trained_models import FittedModel, ModelFile, find_model
from schedrl.diffusion.training_spec import TrainingSpec, named_network
from schedrl.diffusion.unet import UNet
from schedrl.environments.registration import register
from schedrl.environments.variants import parse_variant
from schedrl.errors import SchedrlError, parse, printable
from schedrl.export import ScheduleFile
from schedrl.files import parse_value, write_arrays, write_text
from schedrl.fit import fitting
from schedrl.fit.fit_spec import FitSpec
from schedrl.jobs.cost import network_cost
from schedrl.policies.agent_files import load_agent, read_description
from schedrl.policies.agents import find
from schedrl.policies.ppo import PPOSpec
from schedrl.policies.ppo_training import read_request, request_for, resume, train
from schedrl.provenance import require_memory
from schedrl.report.document import Paragraph, Table, as_html, as_markdown
from schedrl.report.figures import new_axes, png
from schedrl.report.pages import print_table
from schedrl.sources import Gaussian

DEEP = "[" * 100_000

READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "variant": ("a.toml", register),
    "agent": ("a.toml", lambda path: find(str(path), "schedrl/DigitsKnots-v0")),
    "agent file": ("agent.json", lambda path: read_description(path.parent)),
    "training request": ("training.json", lambda path: read_request(path.parent)),
    "benchmark": ("a.toml", read_benchmark),
    "manifest": ("benchmark.json", lambda path: read_manifest(path.parent, Several)),
    "results": ("results.jsonl", lambda path: read_results(path, TrainingResult)),
    "schedule file": ("a.json", ScheduleFile.read),
    "schedule": ("a.json", lambda path: schedules.from_json(path.read_text("utf-8", "surrogatepass"))),
    "model": ("model.json", lambda path: FittedModel.load(path.parent)),
    "fit log": ("log.jsonl", lambda path: fitting._log_until(path, 10)),
}


@pytest.mark.parametrize(
    "content", [f'{{"a": {DEEP}', f"a = {DEEP}", DEEP, "\ud800", '{"a": "\\ud800"}', "\0"]
)
@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_nonsense_in_one_line(name: str, content: str, tmp_path: Path) -> None:
    file, read = READERS[name]
    (tmp_path / file).write_bytes(content.encode("utf-8", "surrogatepass") + b"\n")
    with pytest.raises(SchedrlError) as caught:
        read(tmp_path / file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("depth", [65, 900, 100_000])
def test_nesting_has_a_limit_in_json_and_toml_and_options(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    for text, toml in ((nested, False), (f"a = {nested}", True)):
        with pytest.raises(SchedrlError, match="nested too deeply"):
            parse_value(text, "x", toml=toml)
    with pytest.raises(SchedrlError, match="--set"):
        parse_settings([f"a={nested}"], "--set")


def test_the_family_of_a_deeply_nested_manifest_is_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "benchmark.json").write_text(DEEP)
    assert family_of(tmp_path) == "training"


@pytest.mark.parametrize("family", [[], {}, 3, None, ["training"]])
def test_a_family_that_is_no_word(family: Any) -> None:
    with pytest.raises(SchedrlError, match="field 'family'"):
        parse_variant({"id": "me/Mine-v0", "family": family})


def test_a_file_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(SchedrlError, match="larger than 64 MiB"):
        read_benchmark(Path("/dev/zero"))


def test_parts_of_a_benchmark_stay_in_its_folder(tmp_path: Path) -> None:
    for part in ("../outside", "/outside", "..", ".", "a/b", ""):
        write_text(tmp_path / "benchmark.json", json.dumps({"family": "several", "parts": [part]}))
        with pytest.raises(SchedrlError, match="parts"):
            read_manifest(tmp_path, Several)
    assert Several(parts=("DigitsKnots-v0-2", "..a")).parts


HUGE: dict[str, Callable[[], Any]] = {
    "batch": lambda: parse(TrainingSpec, {"batch_size": 10**18}, "x"),
    "policy": lambda: parse(PPOSpec, {"net_arch": [10**9]}, "x"),
    "policy layers": lambda: parse(PPOSpec, {"net_arch": [64] * 10_000}, "x"),
    "epochs": lambda: parse(PPOSpec, {"n_epochs": 10**18}, "x"),
    "seeds": lambda: parse(Benchmark, {"environments": ["a"], "seeds": 10**9}, "x"),
    "images": lambda: named_network("unet-digits").changed({"image_shape": [1, 10**9, 10**9]}, "x"),
    "steps": lambda: named_network("unet-digits").changed({"num_train_timesteps": 10**9}, "x"),
    "fit": lambda: parse(FitSpec, {"data": {"name": "digits"}, "training": {}, "steps": 10**30}, "x"),
    "held out": lambda: parse(FitSpec, {"data": {"name": "digits", "test": 10**30}, "training": {}}, "x"),
    "model": lambda: parse(ModelFile, {**_MODEL, "num_train_timesteps": 10**9}, "x"),
}

_MODEL: dict[str, Any] = {
    "training": {},
    "image_shape": [1, 8, 8],
    "schedule": "cosine",
    "num_train_timesteps": None,
    "steps": 0,
    "seed": 0,
    "data": {"name": "digits"},
    "versions": {},
}


@pytest.mark.parametrize("name", HUGE)
def test_sizes_and_counts_are_capped(name: str) -> None:
    with pytest.raises(SchedrlError, match=r"less than or equal to|at most"):
        HUGE[name]()


def test_a_model_is_as_large_as_its_weights_not_as_it_says(tmp_path: Path) -> None:
    huge = {"network": {"channels": [4096] * 6, "embedding": 4096, "groups": 1}}
    write_text(tmp_path / "model.json", json.dumps({**_MODEL, "training": huge, "image_shape": [1, 32, 32]}))
    write_arrays(tmp_path / "model.safetensors", {"a": np.zeros(1, np.float32)})
    with pytest.raises(SchedrlError, match="damaged or another version"):
        FittedModel.load(tmp_path)


@pytest.mark.parametrize("kind", ["stated size", "stated shape"])
def test_an_npz_header_is_read_before_its_array(kind: str, tmp_path: Path) -> None:
    header = io.BytesIO()
    shape = (10**6, 1000, 1000)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue())
    if kind == "stated size":
        content = (tmp_path / "a.npz").read_bytes()
        size = struct.pack("<I", len(header.getvalue()))
        (tmp_path / "a.npz").write_bytes(content.replace(size, b"\xff\xff\xff\x7f"))
    with pytest.raises(SchedrlError, match=r"shape|cannot read"):
        data.load(data.Npz(path=str(tmp_path / "a.npz"), validation=1, test=1))


def test_an_archive_of_zeros_is_weighed_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((1000, 32, 32), np.uint8))
    monkeypatch.setattr(own, "require_memory", lambda needed, *words: require_memory(needed * 1e9, *words))
    with pytest.raises(SchedrlError, match="GiB are free; write fewer"):
        data.load(data.Npz(path=str(tmp_path / "a.npz"), validation=1, test=1))


def test_a_training_that_does_not_fit_is_not_begun() -> None:
    huge = parse(TrainingSpec, {"network": {"channels": [4096] * 6, "groups": 1}}, "x")
    with pytest.raises(SchedrlError, match=r"GiB are free; lower network\.channels"):
        Population(huge, np.zeros((2, 1, 32, 32), np.float32), 1000)


def test_the_cost_of_a_network_is_counted_without_its_memory() -> None:
    huge = named_network("unet-akod-cifar10").changed({"training.network.channels": [4096] * 6}, "x")
    cost = network_cost(huge.training, (3, 32, 32))
    assert cost.parameters > 2 * 10**9
    assert cost.feature_bytes > 10**8
    small = named_network("unet-akod-digits").training
    network = UNet(small.network, (1, 8, 8))
    assert network_cost(small, (1, 8, 8)).feature_bytes == bytes_per_image(network, (1, 8, 8))


@pytest.mark.parametrize("num_envs", [0, -1, 10**9])
def test_numbers_of_environments(num_envs: int) -> None:
    with pytest.raises(SchedrlError, match="num_envs"):
        gym.make_vec("schedrl/GaussianSampling-v0", num_envs=num_envs)


@pytest.mark.parametrize("seed", [2**63, 2**64, 10**40])
def test_any_seed_that_is_not_negative(seed: int) -> None:
    env = gym.make("schedrl/GaussianSampling-v0")
    first, second, other = env.reset(seed=seed)[0], env.reset(seed=seed)[0], env.reset(seed=seed + 1)[0]
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    vector = gym.make_vec("schedrl/GaussianSampling-v0", num_envs=2)
    vector.reset(seed=2**63 - 1)


def test_ppo_takes_any_seed_and_ends_cleanly_when_it_diverges(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"num_envs": 4, "total_timesteps": 4000, "n_epochs": 4, "minibatches": 4}
    env_id = "schedrl/GaussianSampling-v0"
    train(request_for(env_id, 2**32, **{**fields, "total_timesteps": 40}), tmp_path / "fine")
    with pytest.raises(SchedrlError, match=r"training diverged after \d+ environment steps"):
        train(request_for(env_id, 0, **fields, learning_rate=1e30), tmp_path / "wild")
    load_agent(tmp_path / "wild")
    with pytest.raises(SchedrlError, match="diverged"):
        resume(tmp_path / "wild")


def test_specs_raise_the_package_s_error_and_names_that_no_file_has_are_unknown() -> None:
    with pytest.raises(SchedrlError, match=r"Gaussian: field 'eigenvalues\.0'"):
        Gaussian([0.0])
    for name in ("\0", "a" * 5000, "a/\0", "a/" * 5000):
        for read in (find_model, load_network, lambda name: find(name, "schedrl/DigitsKnots-v0"), register):
            with pytest.raises(SchedrlError):
                read(name)
        with pytest.raises(SchedrlError):
            read_results(Path(name), TrainingResult)
        with pytest.raises(SchedrlError):
            data.load(data.Npz(path=name))


NASTY = [
    "cost_$5_or_$^",
    "[/red]",
    "[x]",
    "`<script>alert(1)</script>`",
    ":smile:",
    "\x1b[31mred",
    "$\\frac$",
]


@pytest.mark.parametrize("label", NASTY)
def test_labels_reach_figures_terminals_and_pages_as_text(
    label: str, capsys: pytest.CaptureFixture[str]
) -> None:
    figure, axes = new_axes(4.0, 3.0)
    axes.plot([1, 2], [1e-3, 1.0], label=label)
    axes.set(title=label, xlabel=label, yscale="log", xticks=[1, 2], xticklabels=[label, "b"])
    figure.legend()
    assert png(figure)
    table = RichTable(label)
    table.add_row(label)
    console().print(table)
    print_table(Table([label], [[label]], caption=label), console())
    say(label)
    with ticker(1, label, force_bar=True) as tick:
        tick(1, label)
    out, err = capsys.readouterr()
    assert out.count(printable(label)) == 6
    assert "\x1b[31m" not in out
    assert "\x1b[31mred" not in err
    page = as_html([Paragraph(label), Table([label], [[label]])], label)
    assert "<script>" not in page
    assert "](http" not in as_markdown([Paragraph(f"{label} [a](http://b)")])
