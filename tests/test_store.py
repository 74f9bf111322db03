"""A block is there whole or not at all, whatever happens to the process, the disk or the file."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from predicted import BLOCKS, PLAN, bits, predicted, predictions, same
from zarr.storage import LocalStore

from geoseg.errors import StoreError, StoreWriteError
from geoseg.instances import Instances
from geoseg.predictions import Predictions
from geoseg.store import Store, arrays
from geoseg.tiling import Tiling
from geoseg.vectorize import vectorize

HEADER = {"raster": {"name": "a.tif", "crs": "EPSG:32645"}, "tiling": [100, 20], "warnings": ["ö"], "none": None}
BLOCK = BLOCKS[1]
HERE = Path(__file__).resolve().parent


@pytest.fixture(params=["folder", "memory"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "kept ü/a.zarr") if request.param == "folder" else f"memory://{tmp_path.name}/a.zarr"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A local store with one block."""
    made = Store.create_or_open(tmp_path / "store", "k1", HEADER)
    made.write(BLOCK, predicted(BLOCK))
    return made


def files_of(store: Store, block: Any = BLOCK) -> list[Path]:
    return sorted(path for path in Path(store.path, f"{block.row}.{block.col}").rglob("*") if path.is_file())


# --- what goes in comes out --------------------------------------------------------------------------------


def test_what_goes_in_comes_out(anywhere: str) -> None:
    store = Store.create_or_open(anywhere, "k1", HEADER)
    for block in BLOCKS:
        assert store.get(block) is None
        store.write(block, predicted(block))
        assert store.get(block) is not None
    again = Store.open(anywhere)
    assert again.key == "k1" and again.header == HEADER
    for block in BLOCKS:
        assert same(again.read(block), predicted(block).quantised())


ROUND = Store.create_or_open("memory://round/trip", "k", {})


@settings(max_examples=40)
@given(st.data())
def test_any_predictions_come_back_to_the_bit(data: st.DataObject) -> None:
    block = data.draw(st.sampled_from(BLOCKS))
    given_ = data.draw(predictions(block))
    ROUND.write(block, given_)
    assert same(ROUND.read(block), given_.quantised())


def test_outlines_are_the_same_whether_kept_or_not(store: Store) -> None:
    one, other = predicted(BLOCK, most=40).quantised(), None
    store.write(BLOCK, predicted(BLOCK, most=40))
    other = store.read(BLOCK)
    drawn, redrawn = (vectorize(each.instances, each.tiles, tolerance=0.25) for each in (one, other))
    assert len(drawn) > 40
    assert [g.wkb for g in drawn.geometry] == [g.wkb for g in redrawn.geometry]
    assert drawn.scores.tobytes() == redrawn.scores.tobytes()


def test_a_block_of_nothing_is_one_object(store: Store) -> None:
    block = BLOCKS[2]
    nothing = Predictions(tiles=block.tiles, instances=(Instances(),) * len(block.tiles), planned=4, examined=4)
    store.write(block, nothing)
    assert same(store.read(block), nothing)
    assert [path.name for path in files_of(store, block)] == ["zarr.json"]


def test_any_zarr_library_can_read_it(store: Store) -> None:
    group = zarr.open_group(store.path, mode="r", zarr_format=3)
    block = group[f"{BLOCK.row}.{BLOCK.col}"]
    kept, said = predicted(BLOCK).quantised(), dict(block.attrs)
    table = block[f"instances-{said['token']}"][:]
    assert said["predictions"]["columns"][:5] == ["x1", "y1", "x2", "y2", "score"]
    assert np.array_equal(table[:, :4], np.concatenate([each.boxes for each in kept.instances]))
    soft = block[f"distances-{said['token']}"][:].astype(np.float32) + 0.5
    assert np.array_equal(soft, np.concatenate([m.ravel() for i in kept.instances for m in i.masks if m.dtype != bool]))


def test_an_array_of_several_chunks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_CHUNK_BYTES", 1000)
    store.write(BLOCK, predicted(BLOCK))
    assert len(files_of(store)) > 12
    assert same(store.read(BLOCK), predicted(BLOCK).quantised())
    files_of(store)[3].unlink()
    assert store.get(BLOCK) is None


def test_writing_again_replaces_and_leaves_nothing(store: Store) -> None:
    count = len(files_of(store))
    store.write(BLOCK, predicted(BLOCK, seed=1))
    assert same(store.read(BLOCK), predicted(BLOCK, seed=1).quantised())
    assert abs(len(files_of(store)) - count) <= 2


def test_an_object_that_cannot_be_kept_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tile = BLOCK.tiles[0]
    odd = Instances(boxes=[[0, 0, 1, 1]], scores=[1], labels=[2**40], masks=[np.ones((2, 3))])
    with pytest.raises(StoreError, match="label"):
        store.write(BLOCK, Predictions(tiles=(tile,), instances=(odd,)))
    monkeypatch.setattr(arrays, "MOST_BYTES", 100)
    with pytest.raises(StoreError, match="smaller blocks"):
        store.write(BLOCK, predicted(BLOCK))


# --- which store -------------------------------------------------------------------------------------------


def test_a_store_of_another_key_is_refused(store: Store) -> None:
    assert Store.create_or_open(store.path, "k1", {"other": 1}).header == HEADER
    with pytest.raises(StoreError, match=r"another raster.*k1, not k2.*Name another folder"):
        Store.create_or_open(store.path, "k2", HEADER)


def test_what_is_no_store_is_refused(tmp_path: Path, anywhere: str) -> None:
    with pytest.raises(StoreError, match="no store of predictions"):
        Store.open(anywhere)
    assert not (tmp_path / "kept ü").exists()
    (tmp_path / "photo.jpg").write_bytes(b"1")
    for attempt in (lambda: Store.create_or_open(tmp_path, "k", {}), lambda: Store.open(tmp_path)):
        with pytest.raises(StoreError, match=r"photo\.jpg") as refused:
            attempt()
    assert "empty" not in str(refused.value) and "remove" not in str(refused.value)  # to be read: whose folder is it?
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="not of a store"):
        Store.create_or_open(tmp_path / "other.zarr", "k", {})
    with pytest.raises(StoreError):
        Store.create_or_open(tmp_path / "photo.jpg", "k", {})
    assert (tmp_path / "photo.jpg").read_bytes() == b"1"


def test_a_damaged_root_is_refused(store: Store) -> None:
    root = Path(store.path, "zarr.json")
    whole = root.read_bytes()
    for changed in (b"", b"[]", whole[:-9], whole.replace(b"32645", b"32646"), b'{"attributes": {"geoseg_store": 1}}'):
        root.write_bytes(changed)
        with pytest.raises(StoreError, match=r"damaged|not of a store"):
            Store.open(store.path)
    attributes = json.loads(whole)["attributes"] | {"geoseg_store": 99}
    root.write_text(json.dumps({"attributes": attributes}))
    with pytest.raises(StoreError, match="version 99"):
        Store.open(store.path)


def test_a_url_without_its_driver_is_told() -> None:
    with pytest.raises(StoreError, match=r"nosuch.*fsspec"):
        Store.create_or_open("nosuch://bucket/key", "k", {})


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    assert Store.create_or_open((tmp_path / "a b").as_uri(), "k", {}).path == str(tmp_path / "a b")


def test_it_travels_as_its_path(store: Store, tmp_path: Path) -> None:
    text = pickle.dumps(store)
    assert len(text) < 300
    assert same(pickle.loads(text).read(BLOCK), store.read(BLOCK))
    shutil.move(store.path, tmp_path / "elsewhere")
    for use in (lambda s: s.read(BLOCK), lambda s: s.get(BLOCK), lambda s: s.write(BLOCK, predicted(BLOCK))):
        with pytest.raises(StoreError, match="all of them see"):
            use(pickle.loads(text))
    assert not Path(store.path).exists()


def test_blocks_of_another_size_are_not_taken_for_these(store: Store) -> None:
    other = next(b for b in Tiling(core=100, halo=20, block=1).plan(PLAN.area).blocks() if (b.row, b.col) == (0, 1))
    assert (other.row, other.col) == (BLOCK.row, BLOCK.col) and other.tiles != BLOCK.tiles
    assert store.get(other) is None


def test_a_block_of_another_store_is_not_taken(store: Store, tmp_path: Path) -> None:
    other = Store.create_or_open(tmp_path / "other", "k2", HEADER)
    shutil.copytree(Path(store.path, "0.1"), Path(other.path, "0.1"))
    assert other.get(BLOCK) is None


# --- damage ------------------------------------------------------------------------------------------------


def damages(path: Path) -> Iterator[None]:
    """A file deleted, emptied, zeroed, cut, prolonged, and changed in many places, one after the other."""
    whole = path.read_bytes()
    rng = random.Random(path.name)
    path.unlink()
    yield
    for changed in (b"", bytes(len(whole)), whole[:-1], whole[: len(whole) // 2], whole + b"\0"):
        path.write_bytes(changed)
        yield
    for _ in range(12):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        yield
    path.write_bytes(whole)


def test_every_damage_is_found_out_and_mended(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    whole = store.read(BLOCK)
    assert len(files_of(store)) == 9
    found_out = 0
    for path in files_of(store):
        for _ in damages(path):
            caplog.clear()
            got = store.get(BLOCK)
            if got is None:
                found_out += 1
                assert not path.exists() or "(0, 1)" in caplog.text
                with pytest.raises(StoreError):
                    store.read(BLOCK)
            else:
                assert same(got, whole)  # a blank that is another blank, in JSON
    assert found_out > 9 * 17
    for path in files_of(store):
        path.write_bytes(bytes(path.stat().st_size))
    store.write(BLOCK, predicted(BLOCK))
    assert same(store.read(BLOCK), whole)


def test_a_chunk_of_zeros_that_is_missing_is_missed(store: Store) -> None:
    """Zarr leaves such a chunk out, and reads it as zeros: then nobody could tell."""
    none = Instances(boxes=[[0, 0, 9, 9]], scores=[0.5], labels=[0], masks=[np.zeros((40, 50), bool)])
    store.write(BLOCK, Predictions(tiles=BLOCK.tiles[:1], instances=(none,)))
    assert bits(store.read(BLOCK).instances[0]) == bits(none)
    (chunk,) = Path(store.path).glob("0.1/cells-*/0")
    chunk.unlink()
    assert store.get(BLOCK) is None
    with pytest.raises(StoreError, match="missing"):
        store.read(BLOCK)


def forged(store: Store, **changes: Any) -> None:
    """A marker that somebody else wrote, with a checksum that fits."""
    from geoseg.store import kept

    path = Path(store.path, "0.1/zarr.json")
    group = json.loads(path.read_text())
    marker = group["attributes"] | changes
    marker.pop("sha256")
    group["attributes"] = {**marker, "sha256": kept._digest(marker, {})}
    path.write_text(json.dumps(group))


def test_huge_shapes_are_refused_before_memory_is_taken(store: Store) -> None:
    said = json.loads(Path(store.path, "0.1/zarr.json").read_text())["attributes"]["arrays"]
    for shape in ([2**38], [2**62], [-5], [1.5], ["9"], [2**20, 2**20], [], [0], [True]):
        forged(store, arrays=said | {"distances": {"shape": shape, "sizes": [500, 500]}})
        assert store.get(BLOCK) is None
        with pytest.raises(StoreError):
            store.read(BLOCK)


def test_names_cannot_lead_elsewhere(store: Store) -> None:
    for token in ("../../secret", "a" * 15, "/etc", 7, None):
        forged(store, token=token)
        assert store.get(BLOCK) is None
    forged(store, arrays={"../x": {"shape": [1], "sizes": [1, 1]}})
    assert store.get(BLOCK) is None


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["GEOSEG_BOMB"],)


def test_nothing_of_a_store_is_run(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSEG_BOMB", str(tmp_path / "exploded"))
    bomb = pickle.dumps(Bomb())
    (folder,) = Path(store.path).glob("0.1/cells-*")
    said = json.loads((folder / "zarr.json").read_text())
    codecs = [{"name": "numcodecs.pickle", "configuration": {}}, {"name": "vlen-bytes"}]
    for kind in ("variable_length_bytes", "object", "uint8"):
        changed = json.dumps(said | {"data_type": kind, "codecs": codecs}).ljust((folder / "zarr.json").stat().st_size)
        (folder / "zarr.json").write_text(changed)
        (folder / "0").write_bytes(bomb)
        assert store.get(BLOCK) is None
    v2 = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "filters": [{"id": "pickle"}], "order": "C"}
    (folder / ".zarray").write_text(json.dumps(v2 | {"fill_value": None, "compressor": None}))
    (folder / "zarr.json").unlink()
    assert store.get(BLOCK) is None
    assert not (tmp_path / "exploded").exists()


# --- killed, full, or several at once ----------------------------------------------------------------------


class Recorder:
    """A copy of the folder after every step that writing takes."""

    def __init__(self, store: Store, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.to, self.states = store, to, 0
        for name in ("set", "delete_dir"):
            self._watch(name, getattr(LocalStore, name), monkeypatch)

    def _watch(self, name: str, before: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        lock = threading.Lock()

        async def step(place: LocalStore, *given: Any) -> None:
            await before(place, *given)
            with lock:
                shutil.copytree(self.store.path, self.to / str(self.states), ignore=shutil.ignore_patterns("*.partial"))
                self.states += 1

        monkeypatch.setattr(LocalStore, name, step)


def test_a_block_is_whole_or_absent_at_every_step(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = store.read(BLOCK), predicted(BLOCK, seed=1).quantised()
    with monkeypatch.context() as patch:
        recorder = Recorder(store, tmp_path / "states", patch)
        store.write(BLOCK, new)
        store.write(BLOCKS[0], new)
    assert recorder.states > 15
    seen = []
    for state in range(recorder.states):
        copy = Store.open(tmp_path / "states" / str(state))
        got = copy.read(BLOCK)
        seen.append((same(got, new), copy.get(BLOCKS[0]) is not None))
        assert same(got, new) or same(got, old)
        assert copy.get(BLOCKS[0]) is None or same(copy.read(BLOCKS[0]), new)
    assert seen == sorted(seen) and seen[0] == (False, False) and seen[-1] == (True, True)


WRITER = """
import sys
sys.path.insert(0, {here!r})
from predicted import BLOCKS, predicted
from geoseg.store import Store
store, seed = Store.open({path!r}), int(sys.argv[1])
print("ready", flush=True)
while True:
    for block in BLOCKS:
        store.write(block, predicted(block, seed))
        print(".", end="", flush=True)
"""


def test_writers_that_are_killed_leave_every_block_whole(store: Store) -> None:
    wanted = {block: [predicted(block, seed).quantised() for seed in (1, 2)] for block in BLOCKS}
    wanted[BLOCK].append(predicted(BLOCK).quantised())
    command = [sys.executable, "-c", WRITER.format(here=str(HERE), path=store.path)]
    writers = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, cwd=HERE.parent) for seed in (1, 2, 1, 2)
    ]
    rng = random.Random(5)
    for each in writers:
        assert each.stdout is not None and each.stdout.readline() == b"ready\n"
        assert each.stdout.read(1) == b"."  # it has written something, however busy the machine is
        until = time.monotonic() + rng.uniform(0.1, 0.6)
        while time.monotonic() < until:  # a reader at the same time never gets a mixture
            block = rng.choice(BLOCKS)
            got = store.get(block)
            assert got is None or any(same(got, one) for one in wanted[block])
        os.kill(each.pid, signal.SIGKILL)
        each.communicate()
        # The rest write on: what is there at any moment is whole.
    for block in BLOCKS:
        assert any(same(store.read(block), one) for one in wanted[block])


FULL = """
import resource, sys
sys.path.insert(0, {here!r})
from predicted import BLOCKS, predicted
from geoseg.errors import StoreWriteError
from geoseg.store import Store
store = Store.open({path!r})
for limit in (0, 100, 445, 600, 3000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for block in BLOCKS[:2]:
        try:
            store.write(block, predicted(block, 3, 40))
        except StoreWriteError as error:
            print(error.exit_code, error)
"""


def test_a_full_disk_is_told_and_leaves_the_old_blocks(store: Store) -> None:
    before = [(path, path.read_bytes()) for path in files_of(store)]
    code = FULL.format(here=str(HERE), path=store.path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE.parent, check=True)
    told = done.stdout.splitlines()
    assert len(told) == 10
    assert all(line.startswith("4 ") and "could not be written" in line and "intact" in line for line in told)
    assert [(path, path.read_bytes()) for path in files_of(store)] == before
    assert store.get(BLOCKS[0]) is None and same(store.read(BLOCK), predicted(BLOCK).quantised())


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises((StoreWriteError, StoreError), match="file"):
        Store.create_or_open(tmp_path / "file" / "store", "k", {})


def test_many_threads_at_once(store: Store) -> None:
    def work(seed: int) -> None:
        for block in BLOCKS:
            store.write(block, predicted(block, seed))
            assert store.get(block) is not None

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for block in BLOCKS:
        assert any(same(store.read(block), predicted(block, seed).quantised()) for seed in (1, 2, 3))
