"""`python -m tests.mutants`: a table of the faults that tests noticed, by area.

Exit code 1 where an area is under 85 %, 2 where a list does not fit the sources or the tests fail
without a fault.
"""

import argparse
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from tests.mutants.lists import Area, ListError, read_areas
from tests.mutants.runner import Result, RunError, Runner

ROOT = Path(__file__).parents[2]
REQUIRED_SHARE = 0.85

Results = dict[str, list[Result]]


def main(arguments: list[str] | None = None, *, root: Path = ROOT) -> int:
    options = _parse(arguments)
    try:
        areas = read_areas(root, options.areas, only=options.only)
        results = _run(root, areas, jobs=options.jobs)
    except (ListError, RunError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if options.json:
        options.json.write_text(json.dumps(_as_data(results), indent=1) + "\n")
    return _print_shares(results)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("areas", nargs="*", metavar="AREA", help="tests/mutants/AREA.toml")
    parser.add_argument("--only", default="", metavar="TEXT", help="in the file, why or old")
    parser.add_argument("--jobs", type=_positive, default=1, help="faults tried side by side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _run(root: Path, areas: list[Area], *, jobs: int) -> Results:
    results: Results = {}
    with Runner(root, jobs=jobs) as runner:
        for area in areas:
            print(f"{area.name}: {len(area.mutants)} faults", flush=True)
            results[area.name] = []
            for result in runner.run(area):
                results[area.name].append(result)
                print(_line(result), flush=True)
    return results


def _line(result: Result) -> str:
    verdict = "noticed" if result.noticed else "UNNOTICED"
    what = f"{result.mutant.place}  {result.mutant.why}"
    by = f"  [{result.by}]" if result.by else ""
    return f"  {verdict:9} {result.seconds:6.1f} s  {what}{by}"


def _print_shares(results: Results) -> int:
    width = max(len(name) for name in results)
    print(f"\n{'area':{width}}  faults  noticed  share")
    low = False
    for name, tried in results.items():
        noticed = sum(result.noticed for result in tried)
        share = noticed / len(tried)
        low |= share < REQUIRED_SHARE
        print(f"{name:{width}}  {len(tried):6}  {noticed:7}  {share:5.0%}")
    if low:
        print(f"An area is under {REQUIRED_SHARE:.0%}: a test is missing for what went unnoticed.")
    return 1 if low else 0


def _as_data(results: Results) -> dict[str, list[dict[str, object]]]:
    return {name: [asdict(result) for result in tried] for name, tried in results.items()}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
