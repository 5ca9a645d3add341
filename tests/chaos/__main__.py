"""``python -m tests.chaos``: many seeds, one line each, and the table of figures."""

import argparse
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.chaos.run import Report, run_seed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Break everything, check the laws.")
    parser.add_argument("--seed", type=int, help="run this seed only")
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds, from 1")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "podrelay-chaos")
    arguments = parser.parse_args()
    seeds = [arguments.seed] if arguments.seed is not None else list(range(1, arguments.seeds + 1))
    reports = []
    for seed in seeds:
        report = run_seed(seed, arguments.jobs, keep_output=arguments.keep)
        reports.append(report)
        _say(str(report), *(f"  {violation}" for violation in report.violations))
    _say(_summary(reports))
    failed = [report.seed for report in reports if report.violations]
    if failed:
        _say(f"failing seeds: {failed}; once more: make chaos SEED={failed[0]}; output is in {arguments.keep}")
    return 1 if failed else 0


def _say(*lines: str) -> None:
    for line in lines:
        print(line, flush=True)  # noqa: T201  # the command speaks


def _summary(reports: list[Report]) -> str:
    faults: Counter[str] = sum((report.faults for report in reports), Counter())
    takeovers = [s for report in reports for s in report.takeovers_s] or [0.0]
    return (
        f"{len(reports)} seeds, {sum(r.jobs for r in reports)} jobs, {sum(r.log_bytes for r in reports) / 1e6:.0f} MB, "
        f"{sum(faults.values())} faults, {sum(len(r.violations) for r in reports)} violations, takeovers after kills: "
        f"{len(takeovers)}, median {statistics.median(takeovers):.1f} s, worst {max(takeovers):.1f} s\n"
        + "\n".join(f"  {kind}: {count}" for kind, count in sorted(faults.items()))
    )


if __name__ == "__main__":
    sys.exit(main())
