"""The bills of materials and the list of licences say what the images hold."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

import pytest
from locked_versions import DOCKER, VARIANTS, locked

WEAK_COPYLEFT = {"certifi", "orjson", "tqdm"}
STRONG_COPYLEFT = re.compile(r"\bA?GPL|(?<!Lesser )General Public", re.IGNORECASE)


def listed() -> list[tuple[str, str, str, str]]:
    """Package, version, licence, variants."""
    rows = (DOCKER / "THIRD_PARTY_LICENSES.md").read_text().split("| --- |\n")[-1].splitlines()
    return [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]  # type: ignore[misc]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_bill_of_materials_has_the_versions_that_the_image_installs(variant: str) -> None:
    bill: dict[str, Any] = json.loads((DOCKER / f"sbom-{variant}.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert {part["name"]: part["version"] for part in bill["components"]} == locked(variant)
    for part in bill["components"]:
        assert part["purl"] == f"pkg:pypi/{part['name']}@{part['version']}"


def test_every_package_is_listed_with_its_variants() -> None:
    expected = defaultdict(list)
    for variant in VARIANTS:
        for pinned in locked(variant).items():
            expected[pinned].append(variant)
    found = {(name, version): variants.split(", ") for name, version, _, variants in listed()}
    assert found == expected


def test_the_licence_that_packages_bring_no_copy_of_is_in_the_image() -> None:
    page = (DOCKER / "THIRD_PARTY_LICENSES.md").read_text()
    recipe = (DOCKER.parents[1] / "Dockerfile").read_text()
    image = recipe.rpartition("\nFROM ")[2]
    assert "`/opt/model_server/LICENSE`" in page
    assert "\nCOPY LICENSE /opt/model_server/LICENSE\n" in image


def test_no_package_is_under_a_strong_copyleft_and_the_weak_ones_are_named() -> None:
    licences = {name: licence for name, _, licence, _ in listed()}
    assert not {name: each for name, each in licences.items() if STRONG_COPYLEFT.search(each)}
    weak = {name for name, each in licences.items() if re.search("MPL|Mozilla|LGPL|EPL", each)}
    assert weak == WEAK_COPYLEFT
    page = (DOCKER / "README.md").read_text()
    assert all(name in page for name in weak)
