from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from painted import Painted
from pydantic import BaseModel, ValidationError

import geoseg
from geoseg.archive import read_run_config
from geoseg.config import EngineSettings, Settings, json_schema, read_settings
from geoseg.errors import ConfigError

RUNS = Path(__file__).resolve().parent.parent / "configs" / "runs"
Writer = Callable[[str], Path]


@pytest.fixture
def toml(tmp_path: Path) -> Writer:
    def write(text: str) -> Path:
        path = tmp_path / "run.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_values_are_read(toml: Writer) -> None:
    settings = read_settings(
        toml(
            "[tiling]\ncore = 256\nhalo = [32, 64]\n[detect]\nscore_threshold = 1\n"
            "[raster]\nbands = { red = 3, green = 2 }\nroots = ['a', 'b']\n"
            "scaling = { low = 0, high = 3000 }\n"
        )
    )
    assert settings.tiling.core == 256 and settings.tiling.halo == (32, 64)
    assert settings.detect.score_threshold == 1.0
    assert settings.raster.bands == {"red": 3, "green": 2}
    assert settings.raster.roots == ("a", "b")
    assert settings.raster.scaling is not None and settings.raster.scaling.high == (3000.0,)


@pytest.mark.parametrize(
    ("text", "line", "key", "near"),
    [
        ("[detect]\nscore_treshold = 0.5\n", 2, "detect.score_treshold", "score_threshold"),
        ("# a comment\n\n[detekt]\nbatch = 2\n", 3, "detekt", "detect"),
        ("[tiling]\nblock = 2\nbatch = 4\n", 3, "tiling.batch", "batch in [detect]"),
        ("tiling.hallo = 4\n", 1, "tiling.hallo", "halo"),
        ("[raster]\n\nscaling = { low = 1, hihg = 2 }\n", 3, "raster.scaling.hihg", "high"),
        ("core = 512\n", 1, "core", "core in [tiling]"),
    ],
)
def test_an_unknown_key_is_refused_with_line_and_nearest_name(
    toml: Writer, text: str, line: int, key: str, near: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(toml(text))
    problem = str(caught.value)
    assert f"line {line}:" in problem and key in problem
    assert near in problem


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('[tiling]\ncore = "512"\n', 2, "valid integer"),
        (
            "[raster]\nscaling = { low = 0, high = 9, percentiles = [2, 98] }\n",
            2,
            "either low and high, or percentiles",
        ),
        ("[raster]\nscaling = {}\n", 2, "either low and high, or percentiles"),
        ("[raster]\n\nscaling = { low = 7 }\n", 3, "as many of low as of high"),
        ("[raster]\n\nscaling = { low = [0, 5], high = [9, 5] }\n", 3, "low < high"),
        ("[raster]\nscaling = { percentiles = [98, 2] }\n", 2, "low < high <= 100"),
        ("[tiling]\ncore = 512.5\n", 2, "valid integer"),
        ("[tiling]\ncore = [384, 0]\n", 2, "greater than or equal to 1"),
        ("[tiling]\nhalo = [8, 8, 8]\n", 2, "rows, then columns"),
        ("[tiling]\nblock = 1\n\ncore = 0\n", 4, "greater than or equal to 1"),
        ("[detect]\nscore_threshold = 1.5\n", 2, "less than or equal to 1"),
        ("[detect]\nscore_threshold = nan\n", 2, "finite"),
        ("[raster]\nallow_remote = 1\n", 2, "valid boolean"),
        ('[detect]\n\ndevice = "gpu"\n', 3, "Allowed: auto, cpu, cuda,"),
        ("[raster]\nbands = { red = 0 }\n", 2, "greater than or equal to 1"),
        ("[raster]\nroots = [\n  'a',\n  3,\n]\n", 2, "valid string"),
        ("tiling = 5\n", 1, "table of keys"),
        ('[store]\nfolder = ""\n', 2, "at least 1 character"),  # stores were made in /
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_line(toml: Writer, text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError, match=f"line {line}:.*{said}"):
        read_settings(toml(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tiling]\ncore = 1\ncore = 2\n", "line 3"),
        ("[tiling]\ncore = 1\n[tiling]\nhalo = 2\n", "line 3"),
        ("[tiling\n", "line 1"),
        ("", "no settings"),
        ("# only a comment\n", "no settings"),
    ],
)
def test_text_that_is_no_settings_is_refused(toml: Writer, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_settings(toml(text))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"[detect]\n# \xff\nbatch = 2\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_settings(tmp_path / "latin.toml")
    (tmp_path / "deep.toml").write_text("x = " + "[" * 50_000 + "]" * 50_000)
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_settings(tmp_path / "deep.toml")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "bom.toml"
    path.write_bytes(b"\xef\xbb\xbf[detect]\r\nbatch = 2\r\n")
    assert read_settings(path).detect.batch == 2


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().detect.batch = 3


def _names(model: type[BaseModel]) -> dict[str, list[str]]:
    return {
        section: list(field.annotation.model_fields)
        for section, field in model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def test_the_default_file_names_every_setting_with_its_default() -> None:
    path = RUNS / "default.toml"
    assert read_settings(path) == Settings()
    section = ""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if header := re.match(r"\[(\w+)\]", line):
            section = header[1]
            found[section] = []
        elif key := re.match(r"(?:# )?(\w+) = [^#]+#? ?(.*)", line):
            found[section].append(key[1])
    assert found == _names(Settings)


@pytest.mark.parametrize("path", sorted(RUNS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_files_are_valid_and_every_key_is_commented(path: Path) -> None:
    if "[archive]" in path.read_text():
        read_run_config(path)
    else:
        read_settings(path)
    for line in path.read_text().splitlines():
        if re.match(r"\w+ = ", line):
            assert "# " in line, f"{path.name}: {line}"


def test_every_setting_is_described_in_the_schema() -> None:
    schema = json.loads(json_schema())
    for section in schema["$defs"].values():
        assert section["additionalProperties"] is False
        for name, entry in section["properties"].items():
            assert len(entry.get("description", "")) > 10, name


@given(
    name=st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12),
    section=st.sampled_from(sorted(_names(Settings))),
)
def test_only_known_names_are_taken(tmp_path_factory: pytest.TempPathFactory, name: str, section: str) -> None:
    path = tmp_path_factory.mktemp("any") / "run.toml"
    path.write_text(f"[{section}]\n{name} = 1\n")
    if name not in _names(Settings)[section]:
        with pytest.raises(ConfigError, match=r"line 2: .* is no setting"):
            read_settings(path)


@pytest.mark.parametrize(
    ("address", "good"),
    [("tcp://node7.example.org:8786", True), ("10.0.0.7:8786", True), ("tls://[fe80::1%eth0]:8786", True)]
    + [(text, False) for text in ("node7", "tcp://node7", "tcp//node7:8786", "http://node7:8786", "tcp://:8786", "")],
)
def test_an_address_that_is_none_is_refused_before_any_work(address: str, good: bool) -> None:
    if good:
        assert EngineSettings().at(address).scheduler == address
        return
    with pytest.raises(ConfigError, match="the address of a dask scheduler"):
        Settings.model_validate({"engine": {"scheduler": address}})
    with pytest.raises(ConfigError, match="tcp://host:8786"):
        geoseg.extract("no.tif", Painted(), scheduler=address)


def test_a_range_is_short_for_low_and_high() -> None:
    short, long = (Settings.model_validate({"raster": {"scaling": s}}) for s in ([90, 1590], {"low": 90, "high": 1590}))
    assert short == long
    with pytest.raises(ConfigError, match="a table of keys and values"):
        Settings.model_validate({"raster": {"scaling": [1, 2, 3]}})


RUN: dict[str, Any] = {"archive": {"model": "buildings", "folder": "out"}, "input": {"globs": ["*.tif"]}}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Settings(vectorise={}), "vectorise is no setting. .* Did you mean vectorize?"),  # type: ignore[call-arg]
        (lambda: Settings.model_validate(RUN), "archive is no setting.*Take the line out"),  # batch is not meant
        (lambda: Settings.model_validate([1]), "a table of keys and values"),
        (lambda: Settings.model_validate({"detekt": {}}, context={"own": 1}), "detekt is no setting"),
        (lambda: geoseg.RunConfig.model_validate(RUN | {"input": {}}), r"^\[input\] names no raster"),
        (lambda: geoseg.RunConfig.model_validate(RUN | {"detect": {"batch": "x"}}), "^detect.batch = 'x'. Allowed"),
        (lambda: geoseg.TrainConfig.model_validate({"model": {}}), "model.name is missing .and 3 more"),
    ],
)
def test_settings_made_in_python_are_refused_in_the_same_words(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        make()
    assert "Value error" not in str(refused.value)


def test_a_rule_over_the_whole_file_is_told_without_the_file(toml: Writer) -> None:
    path = toml('[archive]\nmodel = "buildings"\nfolder = "out"\n[input]\n')
    with pytest.raises(ConfigError) as refused:
        read_run_config(path)
    assert str(refused.value) == f"{path}: [input] names no raster: it needs globs, paths, list, index or stac."


def test_work_is_done_in_one_place() -> None:
    both = {"engine": {"scheduler": "tcp://a:1", "processes": 2}}
    with pytest.raises(ConfigError, match="scheduler or processes, not both"):
        Settings.model_validate(both)
    here = EngineSettings(processes=2)
    assert here.at("tcp://a:1") == EngineSettings(scheduler="tcp://a:1") and here.at(None) == here


def test_two_sides_of_a_tile_are_told_without_a_warning() -> None:
    settings = Settings.model_validate({"tiling": {"core": [384, 640], "halo": (48, 64)}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = settings.model_dump(mode="json")["tiling"]
        assert Settings.model_validate(settings.model_dump()) == settings
    assert (told["core"], told["halo"]) == ([384, 640], [48, 64])
