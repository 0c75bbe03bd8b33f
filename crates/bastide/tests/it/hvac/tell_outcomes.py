"""Writes what became of each test, a line each, to the file that OUTCOMES names."""

import os

outcomes = {}


def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        outcomes[report.nodeid] = report.outcome


def pytest_sessionfinish(session):
    # Workers tell the first process, which writes.
    if hasattr(session.config, "workerinput"):
        return
    with open(os.environ["OUTCOMES"], "w") as out:
        for test, outcome in sorted(outcomes.items()):
            out.write(f"{outcome}\t{test}\n")
