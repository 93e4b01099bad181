"""Records stay valid: what they are filed under is what today's code would file them under."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import schedrl
from schedrl.environments.registration import variant_of
from schedrl.environments.training.variant import TrainingVariant
from schedrl.policies.agents import catalogue

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PINNED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("recorded_hashes.json").read_text())
"""Hashes of the catalogue's environments and agents as of version 0.1. Released ids never change their meaning."""


@pytest.mark.parametrize("env_id", sorted(PINNED["environments"]))
def test_an_environment_keeps_its_hashes(env_id: str) -> None:
    assert schedrl.__version__
    assert env_id in gymnasium.registry
    variant = variant_of(env_id)
    now = {"fingerprint": variant.fingerprint()}
    if isinstance(variant, TrainingVariant):
        now["protocol"] = variant.protocol_fingerprint()
    assert now == PINNED["environments"][env_id]


@pytest.mark.parametrize("name", sorted(PINNED["agents"]))
def test_an_agent_keeps_its_hash(name: str) -> None:
    assert catalogue()[name].definition_hash() == PINNED["agents"][name]


def test_lines_are_filed_under_hashes_of_today() -> None:
    shipped = {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in (ROOT / "agents" / "trained", ROOT / "benchmarks" / "agents")
        for path in folder.glob("*/policy.safetensors")
    }
    for path in sorted(RESULTS.rglob("*.jsonl")):
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if "agent_hash" not in line or (line["agent"] not in PINNED["agents"] and line["agent"] != "ppo"):
                continue
            digest = line["agent_hash"]
            if line["kind"] == "trained":
                assert any(known.startswith(digest) for known in shipped), (path.name, line["agent"])
            elif line["kind"] != "sequence":  # what a search found has a hash of its own
                assert PINNED["agents"][line["agent"]].startswith(digest), (path.name, line["agent"])
