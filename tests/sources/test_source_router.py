"""Each servable's stream goes to the port that its route names."""

import pytest

from serving.sources.source_router import DynamicSourceRouter, StaticSourceRouter


def router(seen: list[tuple[str, str]]) -> DynamicSourceRouter[str]:
    return DynamicSourceRouter(
        {
            "a": lambda name, versions: seen.append(("a", name)),
            "b": lambda name, versions: seen.append(("b", name)),
        },
        default=lambda name, versions: seen.append(("default", name)),
    )


def test_streams_follow_their_routes_and_the_rest_goes_to_the_default() -> None:
    seen: list[tuple[str, str]] = []
    routed = router(seen)
    routed.update_routes({"m": "a", "n": "b"})
    for name in ("m", "n", "unknown"):
        routed.aspired_versions(name, [])
    assert seen == [("a", "m"), ("b", "n"), ("default", "unknown")]


def test_routes_can_be_replaced() -> None:
    seen: list[tuple[str, str]] = []
    routed = router(seen)
    routed.update_routes({"m": "a"})
    routed.update_routes({"m": "b"})
    routed.aspired_versions("m", [])
    assert seen == [("b", "m")]


def test_a_route_to_no_port_is_refused_and_changes_nothing() -> None:
    seen: list[tuple[str, str]] = []
    routed = router(seen)
    routed.update_routes({"m": "a"})
    with pytest.raises(ValueError, match="no port is called zzz"):
        routed.update_routes({"m": "zzz"})
    routed.aspired_versions("m", [])
    assert seen == [("a", "m")]


def test_a_static_router_goes_by_the_first_substring_that_matches() -> None:
    seen: list[tuple[str, str]] = []
    routed: StaticSourceRouter[str] = StaticSourceRouter(
        [
            ("image", lambda name, versions: seen.append(("a", name))),
            ("im", lambda name, versions: seen.append(("b", name))),
        ],
        default=lambda name, versions: seen.append(("default", name)),
    )
    for name in ("my_image_model", "swim", "text"):
        routed.aspired_versions(name, [])
    assert seen == [("a", "my_image_model"), ("b", "swim"), ("default", "text")]


def test_before_there_are_routes_everything_goes_to_the_default() -> None:
    seen: list[tuple[str, str]] = []
    router(seen).aspired_versions("m", [])
    assert seen == [("default", "m")]
