"""Searches in STAC: against a real API, a web server and files, and against ones that mean harm."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stac_servers import GEOTIFF, Answer, Server, item, item_collection, real_api, told_server, web_server

from geoseg.errors import ConfigError, GeosegError, RasterError, ResourceError
from geoseg.raster import Access
from geoseg.stac import StacSettings, search
from geoseg.stac.filters import Wanted, _interval
from geoseg.stac.reach import Reach, shown

REMOTE = Access(allow_remote=True)
COUNT = 17


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_api([item(number) for number in range(COUNT)], tmp_path_factory.mktemp("api")) as url:
        yield url


def names(found: Any) -> list[str]:
    return [scene.name for scene in found]


def scene_names(numbers: Any) -> list[str]:
    return [f"scene-{number:02d}" for number in numbers]


# --- a real STAC API


@pytest.mark.parametrize("page", [1, 4, 5, COUNT, 100])
def test_every_item_of_an_api_comes_once_whatever_the_page(api: str, page: int) -> None:
    found = list(search(StacSettings(url=api, page_size=page), REMOTE))
    assert sorted(names(found)) == scene_names(range(COUNT))
    first = min(found, key=lambda scene: scene.name)
    assert first.acquired == datetime(2024, 1, 1, 10, 30, tzinfo=UTC)
    assert first.href.startswith(api)
    assert first.href.endswith("/scene-00.tif")
    assert first.extra["stac_collection"] == "satellite"
    assert first.extra["stac_asset"] == "image"
    assert first.extra["extent"] == [0, 1, 1, 3]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"aoi": "2.5,0,5.5,2"}, range(2, 6)),
        ({"aoi": "POLYGON ((2.2 1.2, 4.2 3.9, 2.2 3.9, 2.2 1.2))"}, range(2, 4)),  # its box meets scene-04 too
        ({"datetime": "2024-01-03/2024-01-05"}, range(2, 5)),
        ({"datetime": "../2024-01-02T10:30:00Z"}, range(2)),
        ({"collections": ("aerial",)}, range(1, COUNT, 2)),
        ({"ids": ("scene-03", "scene-04", "scene-99")}, range(3, 5)),
        ({"query": {"eo:cloud_cover": {"gte": 14}}}, range(14, COUNT)),
        ({"query": {"eo:cloud_cover": 3}}, [3]),
        ({"aoi": "2.5,0,9.5,2", "datetime": "2024-01-05/..", "collections": ("aerial",)}, [5, 7, 9]),
        ({"aoi": "50,50,51,51"}, []),
    ],
)
def test_filters_of_an_api(api: str, filters: dict[str, Any], expected: Any) -> None:
    assert sorted(names(search(StacSettings(url=api, page_size=3, **filters), REMOTE))) == scene_names(expected)


def test_an_item_collection_answers_every_filter_as_the_api_does(api: str, tmp_path: Path) -> None:
    path = item_collection([item(number) for number in range(COUNT)], tmp_path / "items.json")
    for filters in ({"aoi": "2.5,0,5.5,2", "datetime": "2024-01"}, {"collections": ("aerial",)}, {"datetime": "2023"}):
        there = names(search(StacSettings(url=api, **filters), REMOTE))
        assert sorted(there) == names(search(StacSettings(url=str(path), **filters)))


def test_an_api_is_not_spoken_to_without_leave() -> None:
    with told_server(lambda path, body: (200, {}, {})) as server:
        with pytest.raises(ConfigError, match="allow_remote"):
            search(StacSettings(url=server.url))
        assert server.requests == []


def test_an_api_that_is_not_there(tmp_path: Path) -> None:
    with told_server(lambda path, body: (200, {}, {})) as server:
        url = server.url
    with pytest.raises(ResourceError, match="cannot be reached"):
        list(search(StacSettings(url=url, retries=0), REMOTE))


# --- an API that is told what to say


def told_api(
    pages: list[list[dict[str, Any]]], *, conforms: tuple[str, ...] = (), after: str = "", moved: int = 0
) -> Server:
    """Pages in order; ``after`` is where the next link points instead of this server, ``moved`` the status by which a
    search is sent to where a slash ends its path."""
    server: Server

    def answer(path: str, body: Any) -> Answer:
        if path == "/":
            links = [
                {"rel": "search", "href": f"{server.url}/search", "type": "application/geo+json", "method": "POST"}
            ]
            core = [f"https://api.stacspec.org/v1.0.0/{name}" for name in ("core", "item-search", *conforms)]
            landing = {"type": "Catalog", "id": "told", "stac_version": "1.0.0", "description": "-", "links": links}
            return 200, {}, landing | {"conformsTo": core}
        if moved and path == "/search":
            return moved, {"Location": "/search/"}, {}
        number = int((body or {}).get("token", 0))
        page = pages[min(number, len(pages) - 1)]
        more = {"rel": "next", "method": "POST", "href": after or f"{server.url}/search", "body": {"token": number + 1}}
        return 200, {}, {"type": "FeatureCollection", "features": page, "links": [more]}

    server = told_server(answer)
    return server


def test_pages_are_asked_for_as_they_are_needed() -> None:
    with told_api([[item(2 * number), item(2 * number + 1)] for number in range(10)]) as server:
        assert names(islice(search(StacSettings(url=server.url), REMOTE), 3)) == scene_names(range(3))
        assert server.paths == ["/", "/", "/search", "/search"]


def test_the_query_is_sent_where_the_api_knows_it_and_checked_in_any_case() -> None:
    query = {"eo:cloud_cover": {"lt": 3}}
    for conforms in ((), ("item-search#query",)):
        with told_api([[item(n) for n in range(6)], []], conforms=conforms) as server:
            found = search(StacSettings(url=server.url, query=query), REMOTE)
            assert names(found) == scene_names(range(3))
            asked = json.loads(server.requests[2][2])
            assert asked.get("query") == (query if conforms else None)


@pytest.mark.parametrize("count", [1, 2])
def test_an_api_that_repeats_its_pages_is_an_error(count: int) -> None:
    with (
        told_api([[item(number) for number in range(count)]]) as server,
        pytest.raises(ResourceError, match="repeats its pages"),
    ):
        list(search(StacSettings(url=server.url), REMOTE))


def test_an_item_on_two_pages_comes_once() -> None:
    with told_api([[item(0), item(1)], [item(1), item(2)], []]) as server:
        assert names(search(StacSettings(url=server.url), REMOTE)) == scene_names(range(3))


def test_passing_trouble_is_tried_again_and_lasting_trouble_told() -> None:
    calls = []

    def answer(path: str, body: Any) -> Answer:
        calls.append(path)
        return (503, {"Retry-After": "86400"}, {}) if len(calls) < 2 else (404, {}, {"description": "no such place"})

    with told_server(answer) as server, pytest.raises(ConfigError, match=r"status 404 \(no such place\)"):
        list(search(StacSettings(url=server.url), REMOTE))
    assert len(calls) == 2


# --- harm


def test_a_next_link_to_another_host_is_not_followed() -> None:
    with told_server(lambda path, body: (200, {}, {})) as other:
        with (
            told_api([[item(0), item(1)]], after=f"{other.url}/search") as server,
            pytest.raises(ConfigError, match="another host"),
        ):
            list(search(StacSettings(url=server.url), REMOTE))
        assert other.requests == []


def test_a_redirect_to_another_host_is_not_followed_but_one_on_the_same_is() -> None:
    with told_server(lambda path, body: (200, {}, {})) as other:
        target = {"where": f"{other.url}/stolen"}

        def answer(path: str, body: Any) -> Answer:
            if path == "/start":
                return 302, {"Location": target["where"]}, {}
            return 200, {}, {"type": "FeatureCollection", "features": [item(4)]}

        with told_server(answer) as server:
            with pytest.raises(ConfigError, match="another host"):
                list(search(StacSettings(url=f"{server.url}/start"), REMOTE))
            target["where"] = "/items.json"
            assert names(search(StacSettings(url=f"{server.url}/start"), REMOTE)) == ["scene-04"]
        assert other.requests == []


@pytest.mark.parametrize("moved", [301, 302, 307, 308])
def test_a_search_that_is_redirected_still_asks_for_the_same(moved: int) -> None:
    with told_api([[item(0)], [item(1)], []], moved=moved) as server:
        assert names(search(StacSettings(url=server.url, ids=["scene-00", "scene-01"]), REMOTE)) == scene_names(
            range(2)
        )
        asked = [json.loads(body) for path, _, body in server.requests if path == "/search/"]
    assert asked[0]["ids"] == ["scene-00", "scene-01"] and [each.get("token") for each in asked] == [None, 1, 2]


def test_a_token_goes_to_the_catalogues_host_alone_and_into_no_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("A_TOKEN", "s3cr3t-token")
    caplog.set_level(logging.DEBUG)
    other_items = {"type": "FeatureCollection", "features": [item(9)]}
    with told_server(lambda path, body: (200, {}, other_items)) as other:

        def answer(path: str, body: Any) -> Answer:
            links = [{"rel": "item", "href": f"{other.url}/x.json"}, {"rel": "item", "href": "/bad.json"}]
            catalog = {"type": "Catalog", "id": "c", "links": links}
            return (200, {}, catalog) if path == "/" else (403, {}, {"detail": "s3cr3t-token is not enough"})

        with told_server(answer) as server:
            host = other.url.removeprefix("http://")
            settings = StacSettings(url=f"{server.url}/", hosts=(host,), token_env="A_TOKEN")
            found = search(settings, REMOTE)
            assert next(found).name == "scene-09"
            with pytest.raises(ConfigError, match=r"\*\*\* is not enough") as told:
                next(found)
        assert all(headers["authorization"] == "Bearer s3cr3t-token" for _, headers, _ in server.requests)
        assert all("authorization" not in headers for _, headers, _ in other.requests)
        assert other.requests
    assert "s3cr3t" not in caplog.text
    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize("variable", [None, "two\nlines"])
def test_a_token_that_is_none_or_would_go_in_the_clear(variable: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if variable:
        monkeypatch.setenv("A_TOKEN", variable)
    with pytest.raises(ConfigError, match="A_TOKEN"):
        search(StacSettings(url="https://example.com/stac", token_env="A_TOKEN"), REMOTE)
    monkeypatch.setenv("A_TOKEN", "fine")
    with pytest.raises(ConfigError, match="https"):
        search(StacSettings(url="http://example.com/stac", token_env="A_TOKEN"), REMOTE)


def test_secrets_in_urls_are_refused_or_not_shown() -> None:
    with pytest.raises(ConfigError, match="user or password") as told:
        search(StacSettings(url="https://me:hunter2@example.com/stac?key=abc"), REMOTE)
    assert "hunter2" not in str(told.value)
    assert "abc" not in str(told.value)
    assert shown("https://me:pw@host:8/a%20b.tif?sig=1#x") == "https://host:8/a%20b.tif"
    assert shown("https://me:pw@[host/b.tif?sig=1") == "https://[host/b.tif"  # no URL, and no end of a run


@pytest.mark.parametrize(
    "href",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:1/x.tif",
        "http://localhost/x.tif",
        "http://2130706433/x.tif",
        "http://127.1/x.tif",
        "http://[::1]/x.tif",
        "http://intranet/x.tif",
        "file:///etc/passwd",
        "/vsicurl/http://example.com/x.tif",
        "/vsizip/x.zip",
        "ftp://example.com/x.tif",
        "javascript:alert(1)",
        "https://me:pw@example.com/x.tif",
    ],
)
def test_assets_that_a_remote_catalogue_may_not_name(href: str) -> None:
    reach = Reach(home="https://example.com/stac", access=REMOTE)
    with pytest.raises(ConfigError):
        reach.asset(href, "https://example.com/stac")


@pytest.mark.parametrize(
    ("href", "whole"),
    [
        ("https://bucket.s3.amazonaws.com/x.tif?sig=1", "https://bucket.s3.amazonaws.com/x.tif?sig=1"),
        ("s3://bucket/x.tif", "s3://bucket/x.tif"),
        ("../x.tif", "https://example.com/x.tif"),
        ("http://10.0.0.7:9000/x.tif", "http://10.0.0.7:9000/x.tif"),
    ],
)
def test_assets_that_it_may_name(href: str, whole: str) -> None:
    reach = Reach(home="https://example.com/stac/", access=REMOTE, hosts=("10.0.0.7:9000",))
    assert reach.asset(href, "https://example.com/stac/") == whole


def test_one_item_that_says_nonsense_is_passed_by_and_its_box_left_out(tmp_path: Path) -> None:
    metres = item(0, bbox=[500000.0, 3000000.0, 500100.0, 3000100.0])
    endless = item(1, bbox=[float("-inf"), 0, 1, 1])
    early = item(2)
    early["properties"]["datetime"] = "0001-01-01T00:00:00+10:00"
    named = item(3, assets={"image": {"href": "a\0.tif", "type": GEOTIFF}})
    sound = item(4, bbox=[179.5, 1, -179.5, 3])
    path = item_collection([metres, endless, early, named, sound], tmp_path / "items.json")
    passed: list[str] = []
    found = list(search(StacSettings(url=str(path)), passed_by=lambda name, _: passed.append(name)))
    assert passed == ["scene-02", "scene-03"]
    assert [scene.extra.get("extent") for scene in found] == [None, None, [179.5, 1, -179.5, 3]]


@pytest.mark.parametrize("href", ["../secret.tif", "/etc/passwd", "file:///etc/passwd", "link.tif", "..%2Fsecret.tif"])
def test_a_local_catalogue_reaches_no_file_outside_its_folder(
    href: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "catalogue"
    inside.mkdir()
    (tmp_path / "secret.tif").write_text("-")
    (inside / "link.tif").symlink_to(tmp_path / "secret.tif")
    assets = {"image": {"href": href, "type": GEOTIFF}}
    path = item_collection([item(0, assets=assets)], inside / "items.json")
    with pytest.raises(ConfigError, match="outside its folder"):
        list(search(StacSettings(url=str(path))))
    if "etc" not in href:
        monkeypatch.setenv("HOME", str(tmp_path))
        for root in (str(tmp_path), "~"):
            (scene,) = search(StacSettings(url=str(path)), Access(roots=(root,)))
            assert scene.href == str(tmp_path / "secret.tif")


def test_a_local_catalogue_reaches_no_host_without_leave(tmp_path: Path) -> None:
    assets = {"image": {"href": "https://example.com/x.tif", "type": GEOTIFF}}
    path = item_collection([item(0, assets=assets), item(1)], tmp_path / "items.json")
    told: list[tuple[str, GeosegError]] = []
    found = search(StacSettings(url=str(path)), passed_by=lambda name, error: told.append((name, error)))
    assert names(found) == ["scene-01"]
    assert told[0][0] == "scene-00"
    assert "allow_remote" in str(told[0][1])


@pytest.mark.parametrize(
    "broken",
    [
        {"geometry": {"type": "Polygon", "coordinates": 7}},
        {"geometry": {"type": "Nonsense"}},
        {"properties": None},
        {"properties": {"datetime": "yesterday"}},
        {"properties": {"datetime": 5}},
        {"assets": []},
        {"assets": {"image": {"type": GEOTIFF}}},
        {"assets": {"image": {"href": None}}},
        {"id": 7},
        {"id": ""},
    ],
)
def test_an_unsound_item_is_passed_by(broken: dict[str, Any], tmp_path: Path) -> None:
    path = item_collection([item(0, **broken), item(1), "no item"], tmp_path / "items.json")  # type: ignore[list-item]
    told: list[str] = []
    settings = StacSettings(url=str(path), aoi="0,0,9,9", datetime="2024")
    assert names(search(settings, passed_by=lambda name, error: told.append(str(error)))) == ["scene-01"]
    assert len(told) == 2
    with pytest.raises(GeosegError):
        list(search(settings))


# --- static catalogues


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A self-contained catalogue as pystac writes it: two collections of three items, linked by relative hrefs."""
    root = pystac.Catalog("root", "-")
    for name, first in (("a", 0), ("b", 3)):
        extent = pystac.Extent(pystac.SpatialExtent([[0, 1, 9, 3]]), pystac.TemporalExtent([[None, None]]))
        child = pystac.Collection(name, "-", extent)
        root.add_child(child)
        for number in range(first, first + 3):
            child.add_item(pystac.Item.from_dict(item(number, collection=name)))
    folder = tmp_path / "a catalogue"
    root.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"


def test_a_catalogue_on_disk(catalogue: Path) -> None:
    for url in (str(catalogue), catalogue.as_uri()):
        found = list(search(StacSettings(url=url)))
        assert names(found) == scene_names(range(6))
        assert found[4].href == str(catalogue.parent / "b" / "scene-04" / "scene-04.tif")
        assert found[4].extra["stac_item"] == str(catalogue.parent / "b" / "scene-04" / "scene-04.json")
    below = StacSettings(url=str(catalogue.parent / "b" / "collection.json"), aoi="0,0,4.5,9")
    assert names(search(below)) == scene_names([3, 4])
    one = StacSettings(url=str(catalogue.parent / "b" / "scene-03" / "scene-03.json"))
    assert names(search(one)) == ["scene-03"]


def test_a_catalogue_on_a_web_server_is_read_document_by_document(catalogue: Path) -> None:
    with web_server(catalogue.parent) as server:
        settings = StacSettings(url=f"{server.url}/catalog.json", collections=("b",))
        found = list(search(settings, REMOTE))
        assert names(found) == scene_names(range(3, 6))
        assert found[0].href == f"{server.url}/b/scene-03/scene-03.tif"


def test_links_in_a_circle_are_walked_once(tmp_path: Path) -> None:
    links = [
        {"rel": "child", "href": "./a.json"},
        {"rel": "item", "href": "i.json"},
        {"rel": "item", "href": "./i.json"},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"type": "Catalog", "id": "a", "links": links}))
    (tmp_path / "i.json").write_text(json.dumps(item(1)))
    assert names(search(StacSettings(url=str(tmp_path / "a.json")))) == ["scene-01"]


def test_an_item_that_is_linked_and_not_there_or_is_none_is_passed_by(catalogue: Path) -> None:
    (catalogue.parent / "a" / "scene-01" / "scene-01.json").unlink()
    for number, text in enumerate(("", "[]", "{}"), start=3):
        (catalogue.parent / "b" / f"scene-0{number}" / f"scene-0{number}.json").write_text(text)
    with web_server(catalogue.parent) as server:
        for url, access in ((str(catalogue), Access()), (f"{server.url}/catalog.json", REMOTE)):
            told: list[str] = []
            found = search(StacSettings(url=url), access, passed_by=lambda name, _: told.append(name[-13:]))  # noqa: B023
            assert names(found) == ["scene-00", "scene-02"]
            assert sorted(told) == ["scene-01.json", "scene-03.json", "scene-04.json", "scene-05.json"]
            with pytest.raises(ConfigError, match="scene-01"):
                list(search(StacSettings(url=url), access))
    (catalogue.parent / "b" / "collection.json").unlink()  # of which nobody knows what it held
    with pytest.raises(ConfigError, match=r"collection\.json"):
        list(search(StacSettings(url=str(catalogue)), passed_by=lambda *_: None))


@pytest.mark.parametrize("text", ["", "<html>", "[]", "{}", '{"type": "FeatureCollection"}', "[" * 100_000])
def test_what_is_no_catalogue(text: str, tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"it\.json"):
        list(search(StacSettings(url=str(path))))
    with pytest.raises(ConfigError, match="does not exist"):
        list(search(StacSettings(url=str(tmp_path / "absent.json"))))


# --- which asset, which time, where


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({}, None),
        ({"asset": "visual"}, "visual"),
        ({"asset": "absent"}, None),
        ({"roles": ("visual",)}, "visual"),
        ({"media_types": ("image/jp2",)}, "jp2"),
        ({"media_types": ("image/tiff",), "roles": ("data",)}, "B04"),
    ],
)
def test_which_asset_is_a_rule_and_no_guess(settings: dict[str, Any], key: str | None, tmp_path: Path) -> None:
    assets = {
        "B04": {"href": "B04", "type": GEOTIFF, "roles": ["data"]},
        "visual": {"href": "visual", "type": GEOTIFF.upper(), "roles": ["visual"]},
        "jp2": {"href": "jp2", "type": "image/jp2"},
        "thumbnail": {"href": "thumbnail", "type": GEOTIFF, "roles": ["thumbnail"]},
        "bare": {"href": "bare.json"},
    }
    path = item_collection([item(0, assets=assets)], tmp_path / "items.json")
    found = search(StacSettings(url=str(path), **settings))
    if key is None:
        with pytest.raises(RasterError, match="asset under"):
            next(found)
    else:
        assert next(found).href == str(tmp_path / key)


def test_an_asset_without_a_type_is_known_by_its_suffix(tmp_path: Path) -> None:
    assets = {"x": {"href": "x.TIF"}, "y": {"href": "y.xml"}}
    path = item_collection([item(0, assets=assets)], tmp_path / "items.json")
    assert next(search(StacSettings(url=str(path)))).extra["stac_asset"] == "x"


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2024", "2024-01-01T00:00:00+00:00", "2024-12-31T23:59:59.999999+00:00"),
        ("2024-02", "2024-02-01T00:00:00+00:00", "2024-02-29T23:59:59.999999+00:00"),
        ("2024-02-03/..", "2024-02-03T00:00:00+00:00", None),
        ("/2024-02-03T01:00:00+02:00", None, "2024-02-02T23:00:00+00:00"),
    ],
)
def test_what_a_datetime_spans(text: str, first: str | None, last: str | None) -> None:
    start, end = _interval(text)
    assert (start and start.isoformat()) == first
    assert (end and end.isoformat()) == last


@pytest.mark.parametrize("text", ["soon", "2024-13", "2024-02-30", "2025/2024", "2024/2025/2026"])
def test_a_datetime_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="datetime"):
        search(StacSettings(url="x.json", datetime=text))


def test_an_aoi_across_the_antimeridian(tmp_path: Path) -> None:
    boxes = [(178, 179), (-179.5, -179), (0, 1)]
    items = [
        item(n, geometry=None, bbox=[west, 0, east, 2], properties={"datetime": None})
        for n, (west, east) in enumerate(boxes)
    ]
    path = item_collection(items, tmp_path / "items.json")
    settings = StacSettings(url=str(path), aoi="177,-1,182,1")
    assert names(search(settings)) == scene_names([0, 1])
    assert Wanted.of(settings).bbox == (177, -1, -178, 1)


@given(
    st.lists(st.integers(0, 30), max_size=8),
    st.integers(0, 30),
    st.sampled_from(["lt", "lte", "gt", "gte", "eq", "neq"]),
)
def test_comparisons_are_those_of_numbers(values: list[int], limit: int, operator: str) -> None:
    wanted = Wanted.of(StacSettings(url="x", query={"n": {operator: limit}}))
    oracle = {
        "lt": int.__lt__,
        "lte": int.__le__,
        "gt": int.__gt__,
        "gte": int.__ge__,
        "eq": int.__eq__,
        "neq": int.__ne__,
    }
    kept = [value for value in values if wanted.matches({"id": "x", "properties": {"n": value}})]
    assert kept == [value for value in values if oracle[operator](value, limit)]
    assert not wanted.matches({"id": "x", "properties": {}})
    assert not wanted.matches({"id": "x", "properties": {"n": None}})


# --- as a run over an archive asks


def test_files_need_no_client_and_the_web_says_what_is_missing(tmp_path: Path) -> None:
    path = item_collection([item(1)], tmp_path / "items.json")
    program = f"""
import sys
sys.modules["pystac_client"] = sys.modules["requests"] = None
from geoseg.errors import ResourceError
from geoseg.raster import Access
from geoseg.stac import StacSettings, search
assert len(list(search(StacSettings(url={str(path)!r})))) == 1
try:
    search(StacSettings(url="https://example.com/stac"), Access(allow_remote=True))
except ResourceError as error:
    assert "pip install 'geoseg[stac]'" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", program], check=True)
