"""Check results for machines: JUnit XML, and Markdown for a CI summary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from bench.checks.series import MEAN
from bench.checks.verdicts import Checked, Comparison

# what XML 1.0 cannot hold in any spelling
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(checked: Sequence[Checked]) -> bytes:
    """Return JUnit XML: a test suite a baseline, a test case a comparison; what fails the check is a failure."""
    root = ElementTree.Element("testsuites", name="bench check")
    for one in checked:
        failures = sum(finding.failed for finding in one.findings)
        suite = ElementTree.SubElement(
            root, "testsuite", name=_xml(one.title), tests=str(len(one.findings)), failures=str(failures), errors="0"
        )
        for finding in one.findings:
            name = " ".join(part for part in (finding.line, finding.metric) if part) or "whole"
            case = ElementTree.SubElement(suite, "testcase", classname=_xml(one.title), name=_xml(name))
            if finding.failed:
                failure = ElementTree.SubElement(case, "failure", type=finding.verdict, message=_xml(sentence(finding)))
                failure.text = _xml("\n".join((one.against, *one.notes)))
    for key in ("tests", "failures"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def markdown(checked: Sequence[Checked]) -> str:
    """Return a summary in Markdown: means, and whatever is not the same."""
    verdict = "failed" if any(one.failed for one in checked) else "passed"
    blocks = [f"## bench check {verdict}"]
    for one in checked:
        rows = [_row(finding) for finding in shown(one.findings)]
        blocks.append(f"### {_md(one.title)}: {one.summary}")
        if rows:
            head = ("line", "metric", "baseline", "now", "difference", "tolerance", "verdict")
            table = [head, ("---",) * len(head), *rows]
            blocks.append("\n".join(f"| {' | '.join(row)} |" for row in table))
        blocks.append("\n".join(_md(text) for text in (one.against, *one.notes)))
    return "\n\n".join(blocks) + "\n"


def facts(one: Checked) -> dict[str, Any]:
    """Return what was found of a baseline as JSON has it."""
    return {
        "title": one.title,
        "against": one.against,
        "failed": one.failed,
        "summary": one.summary,
        "notes": list(one.notes),
        "findings": [asdict(finding) for finding in one.findings],
    }


def shown(findings: Iterable[Comparison]) -> list[Comparison]:
    """Return what a reader needs: means, speeds, and everything that is not the same."""
    return [
        finding
        for finding in findings
        if finding.verdict != "same" or finding.line == MEAN or finding.metric in ("speed", "")
    ]


def sentence(finding: Comparison) -> str:
    """Return a finding in one line: `wood pixel/ap worse: 74.70 -> 72.10 (-2.60, tolerance 1.00)`."""
    what = " ".join(part for part in (finding.line, finding.metric, finding.verdict) if part)
    _, _, before, now, difference, tolerance, _ = cells(finding)
    numbers = f"{before} -> {now} ({difference}, tolerance {tolerance})" if finding.current is not None else ""
    return f"{what}: {', '.join(part for part in (numbers, finding.reason) if part)}"


def cells(finding: Comparison) -> tuple[str, ...]:
    """Return line, metric, baseline, now, difference, tolerance and verdict as text; shares in percent."""
    before, now, allowed = finding.baseline, finding.current, finding.tolerance
    if finding.metric == "speed":
        ratio = now / before - 1 if now is not None and before else None
        texts = (_text(before, 1), _text(now, 1), _text(ratio, 100, sign=True, unit=" %"))
        limit = _text(allowed, 100, unit=" %")
    else:
        difference = now - before if now is not None and before is not None else None
        scale = 1 if finding.unit else 100
        texts = (_text(before, scale), _text(now, scale), _text(difference, scale, sign=True))
        limit = _text(allowed, scale)
    return finding.line, finding.metric, *texts, limit, finding.verdict


def _text(value: float | None, scale: float, *, sign: bool = False, unit: str = "") -> str:
    if value is None:
        return "–"
    return f"{scale * value:{'+' if sign else ''}.2f}{unit}"


def _row(finding: Comparison) -> tuple[str, ...]:
    *rest, verdict = cells(finding)
    said = f"**{verdict}**" if finding.failed else verdict
    if finding.reason and finding.verdict in ("missing", "not comparable"):
        said += f": {finding.reason}"
    return tuple(_md(text) for text in (*rest, said))


def _md(text: str) -> str:
    """Escape what would break a table or be read as HTML."""
    flat = " ".join(text.split())
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "\\`")


def _xml(text: str) -> str:
    return _NOT_XML.sub("�", text)
