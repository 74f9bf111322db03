from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from painted import write_raster

import geoseg

PUBLIC = [
    *("extract", "load_model", "write", "evaluate", "Tiling", "Instances", "Chip", "ModelCard", "Detector"),
    *("Window", "Grid", "Tile", "errors", "run", "read_settings", "Settings", "__version__"),
    *("preview", "train", "read_train_config", "TrainConfig", "bundled_models"),
]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_there(name: str) -> None:
    assert name in geoseg.__all__ and name in dir(geoseg)
    assert getattr(geoseg, name) is not None


def test_every_listed_name_resolves() -> None:
    for name in geoseg.__all__:
        getattr(geoseg, name)


def test_what_the_documents_name_is_there_after_import_geoseg() -> None:
    """In a new interpreter, where nothing else has imported the modules."""
    root = Path(__file__).parent.parent
    texts = [path.read_text(encoding="utf-8") for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]]
    named = sorted({name for text in texts for name in re.findall(r"(?<![\w/.-])geoseg\.[a-z]\w*\.\w+", text)})
    assert {"geoseg.config.json_schema", "geoseg.signals.stoppable"} <= set(named)
    assert _fresh(f"import geoseg\nfor name in {named}: eval(name)\nprint('all')") == "all"


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="extrakt"):
        _ = geoseg.extrakt  # type: ignore[attr-defined]


def test_the_function_stays_a_function_whatever_is_imported() -> None:
    import geoseg.extraction

    assert callable(geoseg.extract) and geoseg.extract is geoseg.extraction.extract
    import geoseg.overlay

    assert callable(geoseg.preview) and geoseg.preview is geoseg.overlay.preview


def _fresh(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'rasterio', 'geopandas', 'distributed', 'pandas'}"
    assert _fresh(f"import sys, geoseg; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_a_custom_detector_runs_without_torch(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.ones((40, 70), np.uint8))
    code = f"""
import sys, geoseg
class Nothing:
    card = geoseg.ModelCard(classes=("building",), gsd_m=None, bands=None)
    def predict(self, chips):
        return [geoseg.Instances() for _ in chips]
table = geoseg.extract({str(path)!r}, Nothing(), tiling=geoseg.Tiling(core=32, halo=8))
geoseg.write(table, {str(tmp_path / "a.gpkg")!r})
print(len(table), sorted({{"torch", "torchvision"}} & set(sys.modules)))
"""
    assert _fresh(code) == "0 []"
    assert len(gpd.read_file(tmp_path / "a.gpkg", layer="footprints")) == 0


class Square:
    """A detector as an outsider writes one: one box of probabilities in the tile that owns pixel (30, 50)."""

    card = geoseg.ModelCard(classes=("building",), gsd_m=None, bands=None)

    def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
        return [self.one(chip) for chip in chips]

    def one(self, chip: geoseg.Chip) -> geoseg.Instances:
        core, window = chip.tile.core, chip.tile.window
        if not (core.row_off <= 30 < core.row_end and core.col_off <= 50 < core.col_end):
            return geoseg.Instances()
        ticks = (np.arange(28) + 0.5) / 14 - 1
        disc = np.clip(1.3 - np.hypot(*np.meshgrid(ticks, ticks)), 0, 1)
        x, y = 50 - window.col_off, 30 - window.row_off
        return geoseg.Instances(boxes=[[x - 10, y - 8, x + 10, y + 8]], scores=[0.9], labels=[0], masks=[disc])


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".geojson"])
def test_from_raster_to_file_and_back(tmp_path: Path, suffix: str) -> None:
    path = write_raster(tmp_path / "ortho.tif", np.full((3, 90, 140), 120, np.uint8), photometric="rgb")
    footprints = geoseg.extract(path, Square(), tiling=geoseg.Tiling(core=64, halo=16))
    (found,) = footprints.itertuples()
    assert found.label == "building" and found.score == pytest.approx(0.9)
    # The disc's 0.5 line lies at 0.8 of the half box, between cell centres.
    assert found.area_m2 == pytest.approx(np.pi * 8 * 6.4 * 0.25, rel=0.04)
    target = geoseg.write(footprints, tmp_path / f"buildings{suffix}")
    back = gpd.read_parquet(target) if suffix == ".parquet" else gpd.read_file(target)
    assert len(back) == 1 and back["id"].tolist() == [found.id]


@pytest.mark.parametrize("output", ["missing/out.gpkg", "missing/dataset", "out.shp"])
def test_an_output_that_cannot_be_is_refused_and_nothing_made(tmp_path: Path, output: str) -> None:
    """The lock would make a folder that is not there, such as that of a disk that is not mounted."""
    path = write_raster(tmp_path / "ortho.tif", np.full((3, 90, 140), 120, np.uint8), photometric="rgb")
    with pytest.raises(geoseg.errors.ConfigError, match=r"whose folder does not exist|\.gpkg"):
        geoseg.extract_to(path, Square(), tmp_path / output)
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_inside_of_predict_is_refused_and_does_not_wait_for_ever(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "ortho.tif", np.full((3, 90, 140), 120, np.uint8), photometric="rgb")

    class Nested(Square):
        def predict(self, chips: list[geoseg.Chip]) -> list[geoseg.Instances]:
            geoseg.extract(path, Square())
            return super().predict(chips)

    with pytest.raises(geoseg.errors.ConfigError, match="begun by a detector"):
        geoseg.extract(path, Nested(), tiling=geoseg.Tiling(core=64, halo=16))
    assert len(geoseg.extract(path, Square())) == 1
