"""The examples of scheduling, as far as they go without the schedulers."""

from __future__ import annotations

import ast
import configparser
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

FOLDER = ROOT / "examples" / "scheduling"
sys.path.insert(0, str(FOLDER))

import digest as digest_example  # noqa: E402
import flow as flow_example  # noqa: E402

SUMMARY = {
    "exit_code": 0,
    "counts": {"done": 2, "refused": 1},
    "unchanged": 1,
    "footprints": 7,
    "seconds": 3.2,
    "scenes": [
        {"name": "a.tif", "state": "done"},
        {"name": "b.tif", "state": "refused", "error": "an HTML page | no raster"},
    ],
}


def pipeline(folder: Path, code: int, *, summary: bool = True) -> Path:
    """A command that ends as it is told and leaves a summary (of ``folder``), as the pipelines do; one of another
    day is there already."""
    path, text = folder / "pipeline.py", json.dumps(SUMMARY | {"exit_code": code})
    (folder / "summary.json").write_text(text)
    leave = f"a = {str(folder)!r} + '/summary.json'; open(a + '~', 'w').write({text!r}); os.replace(a + '~', a)"
    path.write_text(
        f"import os, sys\nprint('the last line of', *sys.argv[1:])\n{leave if summary else ''}\nsys.exit({code})\n"
    )
    return path


@pytest.mark.parametrize("code", [0, 1])
def test_a_flow_gives_its_summary(code: int, tmp_path: Path) -> None:
    done = flow_example.run([sys.executable, str(pipeline(tmp_path, code))], tmp_path)
    assert done.code == code
    assert done.summary["exit_code"] == code
    assert "scenes" not in done.summary  # what a scheduler keeps of each run stays small
    assert done.said == "2 done, 1 refused; 1 unchanged; 7 footprints"


def test_another_run_is_no_failure(tmp_path: Path) -> None:
    done = flow_example.run([sys.executable, str(pipeline(tmp_path, 3, summary=False))], tmp_path)
    assert (done.code, done.summary, done.said) == (3, {}, "another run is at work")


@pytest.mark.parametrize("old", [True, False])
def test_the_summary_of_another_day_is_not_taken_for_this_ones(old: bool, tmp_path: Path) -> None:
    script = pipeline(tmp_path, 1, summary=False)
    if not old:
        (tmp_path / "summary.json").unlink()
    with pytest.raises(flow_example.Lasting, match="left no summary: the last line"):
        flow_example.run([sys.executable, str(script)], tmp_path)


@pytest.mark.parametrize(("code", "kind"), [(4, "Passing"), (130, "Passing"), (2, "Lasting"), (70, "Lasting")])
def test_what_is_tried_again_and_what_is_not(code: int, kind: str, tmp_path: Path) -> None:
    with pytest.raises(getattr(flow_example, kind), match=f"exit code {code}: the last line of x"):
        flow_example.run([sys.executable, str(pipeline(tmp_path, code)), "x"], tmp_path)


def test_a_killed_flow_may_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(flow_example.Passing):
        flow_example.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], tmp_path)


def test_a_digest_names_what_went_wrong(tmp_path: Path) -> None:
    pipeline(tmp_path, 1)
    text = digest_example.digest(tmp_path)
    assert "| rasters | 2 done, 1 refused (1 unchanged) |" in text
    assert "| b.tif: refused | an HTML page \\| no raster |" in text
    assert "a.tif" not in text
    assert digest_example._cell("<b>`x`|y\nz") == "&lt;b&gt;\\`x\\`\\|y z"


@pytest.mark.parametrize(("code", "mailed"), [(0, False), (1, True), (2, True), (3, False), (4, True)])
def test_cron_mails_only_what_somebody_should_know(code: int, mailed: bool, tmp_path: Path) -> None:
    outputs = tmp_path / "with space"
    command = [str(FOLDER / "nightly.sh"), str(pipeline(tmp_path, code)), "rasters", str(outputs)]
    environment = {"PATH": "/usr/bin:/bin", "GEOSEG_PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert bool(done.stdout) == mailed
    assert ("the last line of rasters" in done.stdout) == mailed
    assert "the last line of rasters" in (outputs / "last.log").read_text()


def test_a_second_flow_leaves_no_hole_in_the_log_of_the_first(tmp_path: Path) -> None:
    """The first starts the second in its middle, as a timer may."""
    command = [str(FOLDER / "nightly.sh"), str(tmp_path / "flow.py"), "rasters", str(tmp_path)]
    (tmp_path / "flow.py").write_text(
        f"import subprocess, sys\nprint('began ' * 99, flush=True)\nif len(sys.argv) == 3:\n"
        f"    subprocess.run({[*command, 'second']})\n    print('the end')\n    sys.exit(1)\n"
        "print('held')\nsys.exit(3)\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "GEOSEG_PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "\0" not in done.stdout and done.stdout.endswith("held\nthe end\n")


def test_the_crontab_calls_what_is_there() -> None:
    lines = [line for line in (FOLDER / "crontab").read_text().splitlines() if line and not line.startswith("#")]
    *variables, job = lines
    named = dict(line.split("=", 1) for line in variables)
    assert job.split()[:5] == ["15", "2", "*", "*", "*"]
    called = [part.strip('"').replace("$GEOSEG", str(ROOT)) for part in job.split()[5:]]
    assert os.access(called[0], os.X_OK)
    assert Path(called[1]).is_file()
    assert "GEOSEG" in named


def units() -> dict[str, configparser.ConfigParser]:
    found = {}
    for path in FOLDER.glob("geoseg-buildings.*"):
        parser = configparser.ConfigParser(strict=True, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(path)
        found[path.suffix] = parser
    return found


def test_the_units_treat_exit_codes_as_they_are_meant() -> None:
    service = units()[".service"]["Service"]
    assert service["SuccessExitStatus"].split() == ["1", "3"]
    assert set(service["RestartPreventExitStatus"].split()) == {"2", "70"}
    assert service["Restart"] == "on-failure"
    assert service["OOMPolicy"] == "continue"  # the raster's process is the run's to replace, not the unit's end
    assert "pipelines/buildings.py" in service["ExecStart"]
    assert units()[".timer"]["Timer"]["Persistent"] == "true"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for path in FOLDER.glob("geoseg-buildings.*"):
        text = path.read_text().replace("/opt/geoseg/.venv/bin/python", sys.executable)
        (tmp_path / path.name).write_text(text)
    paths = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if "geoseg-buildings" in line]
    assert not told, told


@pytest.mark.parametrize("name", ["prefect_flow.py", "airflow_dag.py"])
def test_flows_compile_and_call_what_is_there(name: str) -> None:
    tree = ast.parse((FOLDER / name).read_text(), name)
    compile(tree, name, "exec")
    taken = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if node.module == "flow"
    }
    assert taken
    assert taken <= set(vars(flow_example))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "geoseg" not in imported  # they live in an environment of their own
    assert (ROOT / "pipelines" / "buildings.py").is_file()


def test_the_workflow_is_sound() -> None:
    workflow = yaml.safe_load((FOLDER / "github-actions.yml").read_text())
    assert workflow[True]["schedule"] == [{"cron": "15 2 * * *"}]  # YAML 1.1 takes the key "on" for true
    steps = workflow["jobs"]["buildings"]["steps"]
    script = next(step["run"] for step in steps if step.get("id") == "extract")
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (1, 0), (3, 0), (2, 2), (4, 4)])
def test_the_workflows_step_ends_as_its_flow_does(code: int, ends: int, tmp_path: Path) -> None:
    home, outputs = tmp_path / "geoseg", tmp_path / "out"
    (home / "pipelines").mkdir(parents=True)
    outputs.mkdir()
    shutil.copytree(FOLDER, home / "examples" / "scheduling")
    shutil.move(pipeline(tmp_path, code), home / "pipelines" / "buildings.py")
    shutil.move(tmp_path / "summary.json", outputs / "summary.json")
    (home / ".venv" / "bin").mkdir(parents=True)
    (home / ".venv" / "bin" / "python").symlink_to(sys.executable)
    workflow = yaml.safe_load((FOLDER / "github-actions.yml").read_text())
    script = next(step["run"] for step in workflow["jobs"]["buildings"]["steps"] if step.get("id") == "extract")
    files = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    environment = {"PATH": "/usr/bin:/bin", "GEOSEG": str(home), "RASTERS": "r", "OUTPUTS": str(outputs), **files}
    done = subprocess.run(["bash", "-eo", "pipefail", "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == ends, done.stderr
    assert Path(files["GITHUB_OUTPUT"]).read_text() == f"code={code}\n"
    written = Path(files["GITHUB_STEP_SUMMARY"])
    assert (written.exists() and "7 |" in written.read_text()) == (code in (0, 1))
