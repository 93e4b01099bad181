"""Reports on training environments: every figure is there and embedded, and the findings are in words."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schedrl import schedules
from schedrl.benchmark.manifest import (
    MANIFEST,
    ManifestRow,
    TrainingManifest,
    load_training,
    read_manifest,
)
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import RESULTS, ResultStore
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.files import dump_json
from schedrl.policies.agents import TrainedAgent
from schedrl.policies.progress import PROGRESS
from schedrl.report.document import (
    Block,
    Bullets,
    Code,
    Heading,
    Image,
    Paragraph,
    Table,
    as_html,
    as_markdown,
)
from schedrl.report.figures import ScheduleCurve, noise_figure, png
from schedrl.report.pages import write_report

MakeResult = Callable[..., TrainingResult]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def comparison(variant: TrainingVariant, make_result: MakeResult, trained: Path, tmp_path: Path) -> Path:
    """A folder with a learned agent, six laws, AVA, and a run that is not part of it."""
    folder = tmp_path / "comparison"
    folder.mkdir()
    shutil.copytree(trained, folder / "agent")
    rng = np.random.default_rng(0)
    results = []
    learned = {"name": "piecewise", "u": [0.0, 0.3, 1.0], "logsnr": [8.0, 2.0, -6.0]}
    for seed in range(3):
        luck = rng.normal(0.0, 0.01)
        results.append(
            make_result("ppo", seed, 2.9 + luck, kind="trained", search_steps=12, schedule=[learned])
        )
        for place, name in enumerate(("cosine", "linear", "edm", "vp", "ve", "printed-linear")):
            results.append(make_result(name, seed, 3.0 + 0.1 * place + luck, schedule=[{"name": name}]))
        moving = [{"name": "ava", "K": 20.0}, {"name": "ava", "K": 30.0}]
        results.append(make_result("ava-prose", seed, 3.3 + luck, kind="ava", schedule=moving))
    results.append(make_result("stranger", 0, 1.0))
    ResultStore(folder / RESULTS, TrainingResult).append(results)
    keys = dict.fromkeys((r.agent, r.form, r.agent_hash) for r in results if r.agent != "stranger")
    rows = tuple(
        ManifestRow(
            label=agent,
            form=form,
            agent_hash=digest,
            agent=TrainedAgent(name="ppo", path="agent") if agent == "ppo" else None,
        )
        for agent, form, digest in keys
    )
    manifest = TrainingManifest(
        variant=variant, seeds=(0, 1, 2), rows=rows, reference="ppo", notes=("a note",)
    )
    (folder / MANIFEST).write_text(dump_json(manifest.model_dump(mode="json")))
    return folder


def test_a_report_is_whole(comparison: Path) -> None:
    said: list[str] = []
    path = write_report(comparison, said.append)
    assert path == comparison / "report.html"
    assert said
    names = ["bounds", "schedules", "noise-levels", "densities", "learning-ppo", "samples"]
    markdown = (comparison / "report.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((figures/[^)]+)\)", markdown) == [f"figures/{name}.png" for name in names]
    page = path.read_text(encoding="utf-8")
    embedded = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    files = [(comparison / "figures" / f"{name}.png").read_bytes() for name in names]
    assert all(content.startswith(PNG) for content in files)
    assert embedded == files
    # One file that needs nothing beside it: no link leads out of it.
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "url(" not in page
    assert "<script" not in page
    for text in (markdown, page):
        assert "ppo has a better test bound than every row that is not learned" in text
        assert "a note" in text
        assert "stranger" not in text
        for agent in ("cosine", "linear", "edm", "vp", "ve", "printed-linear", "ava-prose"):
            assert agent in text


def test_a_report_begins_with_the_answers(comparison: Path) -> None:
    path = write_report(comparison)
    lines = [line for line in (comparison / "report.md").read_text(encoding="utf-8").split("\n") if line]
    assert lines[0].startswith("# ")
    assert lines[1].startswith("- **ppo is better than the best hand-made schedule, cosine**")
    assert "over 3 paired seeds" in lines[1]
    assert "is not answered**: no search is in this benchmark" in lines[2]
    page = path.read_text(encoding="utf-8")
    assert page.index("ppo is better than the best") < page.index("<h2>")
    assert path.stat().st_size < 5e6


def test_figures_and_headings_can_be_read_without_eyes(comparison: Path) -> None:
    page = write_report(comparison).read_text(encoding="utf-8")
    alts = re.findall(r'<img alt="([^"]*)"', page)
    captions = re.findall(r"<figcaption>([^<]*)", page)
    assert len(alts) == len(captions) == page.count("<img")
    assert all(len(alt) > 40 for alt in alts)
    assert not set(alts) & set(captions)
    levels = [int(level) for level in re.findall(r"<h(\d)>", page)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


def test_cells_of_the_bound_have_a_figure(comparison: Path) -> None:
    path = comparison / RESULTS
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["test_bins"] = [line["test_bound"] / 7.0] * 7
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    write_report(comparison)
    text = (comparison / "report.md").read_text()
    assert "## Where the bounds differ" in text
    assert "cosine differs most at λ" in text
    assert (comparison / "figures" / "bins.png").is_file()


def test_environments_are_answered_together_and_one_by_one(comparison: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    for part in ("one", "two"):
        shutil.copytree(comparison, whole / part)
    (whole / MANIFEST).write_text(dump_json({"format": 1, "family": "several", "parts": ["one", "two"]}))
    path = write_report(whole)
    text = (whole / "report.md").read_text(encoding="utf-8")
    lines = [line for line in text.split("\n") if line]
    assert lines[0] == "# whole: 2 environments"
    assert lines[1].startswith(
        "- Over 2 environments: **ppo is better than the best hand-made schedule, cosine**"
    )
    assert "`schedrl/DigitsKnots-v0`: **ppo is better than" in lines[3]
    assert "| **ppo** |" in text
    assert "are the same runs there" in text
    for name in (
        "figures/ranking.png",
        "figures/profiles.png",
        "one/figures/bounds.png",
        "two/figures/bounds.png",
    ):
        assert f"]({name})" in text
        assert (whole / name).is_file()
    levels = [int(level) for level in re.findall(r"<h(\d)>", path.read_text(encoding="utf-8"))]
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


def test_the_command_does_the_same_again(comparison: Path) -> None:
    write_report(comparison)
    text = (comparison / "report.md").read_text()
    assert "# ppo: schedrl train --env schedrl/DigitsKnots-v0 --algo ppo -n 6 --seed 0" in text
    agents = "ppo=agent,cosine,linear,edm,vp,ve,printed-linear,ava-prose"
    assert f"--seeds 3 --first-seed 0 --agents {agents} --form exact --reference ppo -f FOLDER" in text


def test_a_report_can_be_written_again(comparison: Path) -> None:
    write_report(comparison)
    first = (comparison / "report.md").read_text()
    write_report(comparison)
    assert (comparison / "report.md").read_text() == first


def test_without_the_training_there_is_no_curve(comparison: Path) -> None:
    (comparison / "agent" / PROGRESS).unlink()
    write_report(comparison)
    text = (comparison / "report.md").read_text()
    assert "There is no learning curve" in text
    assert not (comparison / "figures" / "learning-ppo.png").exists()


def test_without_the_data_there_are_no_samples(
    comparison: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = comparison / MANIFEST
    content = json.loads(path.read_text())
    variant = content["variant"]
    content["variant"]["data"] = {"name": "npz", "path": str(tmp_path / "gone.npz")}
    changed = TrainingVariant.model_validate(variant).fingerprint()
    path.write_text(json.dumps(content))
    results = comparison / RESULTS
    old = json.loads(results.read_text().splitlines()[0])["fingerprint"]
    results.write_text(results.read_text().replace(old, changed))
    write_report(comparison)
    assert "No samples: " in (comparison / "report.md").read_text()


def test_a_manifest_comes_back(comparison: Path) -> None:
    manifest, results = load_training(comparison)
    assert read_manifest(comparison, TrainingManifest) == manifest
    assert len(results) == 24


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (MANIFEST, None, "no benchmark to report"),
        (MANIFEST, "{", "is not JSON"),
        (MANIFEST, '{"format": 3}', "field 'format'"),
        (RESULTS, None, "is not there"),
        (RESULTS, "", "holds no run of the benchmark"),
        (RESULTS, "{}\n", "line 1 is not a result"),
    ],
)
def test_damage_is_named(comparison: Path, name: str, content: str | None, message: str) -> None:
    path = comparison / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(SchedrlError, match=message) as caught:
        write_report(comparison)
    assert "\n" not in str(caught.value)


def test_a_document_says_the_same_in_both_forms() -> None:
    blocks: list[Block] = [
        Heading("A < B", 1),
        Paragraph("**bold** and `code`"),
        Bullets(("one",)),
        Code("a | b"),
        Table(["agent", "form", "x|y"], [["a", "exact", "1"]], caption="Numbers."),
        Image("figures/a.png", PNG, "a picture", "What it shows."),
    ]
    markdown, page = as_markdown(blocks), as_html(blocks, "A < B")
    assert "| agent | form | x\\|y |\n| --- | --- | ---: |\n| a | exact | 1 |" in markdown
    assert "![a picture](figures/a.png)\n\nWhat it shows." in markdown
    assert "<title>A &lt; B</title>" in page
    assert "<strong>bold</strong> and <code>code</code>" in page
    assert '<th scope="col" class="number">x|y</th>' in page
    assert '<th scope="row" class="short">a</th>' in page
    assert "<caption>Numbers.</caption>" in page
    assert "Numbers.\n\n| agent" in markdown
    assert base64.b64encode(PNG).decode() in page


def test_noise_densities_are_probabilities() -> None:
    names = ("cosine", "tangent", "laplace")
    figure = noise_figure([ScheduleCurve(name, schedules.get(name)) for name in names], (8.0, -6.0))
    left, right = figure.axes
    for line, name in zip(left.get_lines(), names, strict=True):
        levels, density = (np.asarray(values, dtype=np.float64) for values in line.get_data())
        width = abs(levels[1] - levels[0])
        drawn = schedules.get(name).logsnr((np.arange(100_000) + 0.5) / 100_000)
        inside = np.mean((drawn < levels[0] + width / 2) & (drawn > levels[-1] - width / 2))
        assert density.sum() * width == pytest.approx(inside, abs=1e-3)
    for line in right.get_lines():
        assert (np.diff(np.asarray(line.get_ydata(), dtype=np.float64)) >= 0.0).all()
    assert png(figure).startswith(PNG)
