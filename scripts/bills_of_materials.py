"""Pip's reports of what it would install → bills of materials and the list of licences.

    bills_of_materials.py REPORTS DIRECTORY

REPORTS holds VARIANT.json of each variant; DIRECTORY gets sbom-VARIANT.cdx.json and
THIRD_PARTY_LICENSES.md. The same reports make the same files: no times, no serial numbers.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

NOT_STATED = "not stated"
HEAD = """# Licences of what the images hold

Written by `scripts/sbom`, from what the packages say of themselves. Their texts are in the images,
mostly below `/opt/model_server/lib/python3.11/site-packages/*.dist-info`. Of the variant `cpu`,
onnxruntime has its own in `onnxruntime/LICENSE` there; flatbuffers and tensorflow-serving-api bring
none, and theirs is that of the server, `/opt/model_server/LICENSE`, as it is for catboost and
xgboost-cpu in `tables`. Of the base image, Python's is `/usr/local/lib/python3.11/LICENSE.txt`, the
others are below `/usr/share/doc`.

| package | version | licence | variants |
| --- | --- | --- | --- |
"""


def licence_of(metadata: dict[str, Any]) -> str:
    """The expression, or else the classifiers, or else a licence field of one line."""
    if expression := metadata.get("license_expression"):
        return str(expression)
    classifiers = [each for each in metadata.get("classifier", []) if each.startswith("License")]
    names = [each.split(" :: ")[-1] for each in classifiers if each.count(" :: ") > 1]
    line: str = (metadata.get("license") or "").strip()
    if "\n" in line or not line:
        others = [each.split(" :: ")[-1] for each in classifiers]
        return ", ".join(names or others) or NOT_STATED
    return line


def components(report: Path) -> list[dict[str, Any]]:
    """In the order of their names, those of the report as CycloneDX describes them."""
    found = []
    for item in json.loads(report.read_text())["install"]:
        metadata = item["metadata"]
        name = re.sub(r"[-_.]+", "-", metadata["name"]).lower()
        purl = f"pkg:pypi/{name}@{metadata['version']}"
        licence = licence_of(metadata)
        found.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": metadata["version"],
                "licenses": [] if licence == NOT_STATED else [{"license": {"name": licence}}],
                "purl": purl,
            }
        )
    return sorted(found, key=lambda each: each["name"])


def bill(variant: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": f"model-server-{variant}"}},
        "components": parts,
    }


def main() -> None:
    reports, target = map(Path, sys.argv[1:])
    variants = defaultdict(list)
    licences = {}
    for report in sorted(reports.glob("*.json")):
        parts = components(report)
        text = json.dumps(bill(report.stem, parts), indent=1) + "\n"
        (target / f"sbom-{report.stem}.cdx.json").write_text(text)
        for part in parts:
            key = (part["name"], part["version"])
            variants[key].append(report.stem)
            stated = part["licenses"]
            licences[key] = stated[0]["license"]["name"] if stated else NOT_STATED
    rows = [
        f"| {name} | {version} | {licences[name, version]} | {', '.join(variants[name, version])} |"
        for name, version in sorted(variants)
    ]
    (target / "THIRD_PARTY_LICENSES.md").write_text(HEAD + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
