"""The made-up results that tests of benchmarks use, too."""

from tests.benchmark.conftest import make_result, variant

__all__ = ["make_result", "variant"]
