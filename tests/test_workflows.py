"""The workflows and the Makefile: read as GitHub reads them, and their scripts run against a fake
GPU, a fake GitHub and planted files.
"""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_house import ROOT

FOLDER = ROOT / ".github" / "workflows"
GPU = yaml.safe_load((FOLDER / "gpu.yml").read_text("utf-8"))
PUBLISH = yaml.safe_load((FOLDER / "publish.yml").read_text("utf-8"))
DAY_MIN = 24 * 60


def scripts(job: dict) -> list[str]:
    return [step.get("run", "") for step in job["steps"]]


def first(job: dict, *words: str) -> int:
    """Return the place of the first step with all words; behind the last where none has them."""
    hits = [i for i, text in enumerate(scripts(job)) if all(word in text for word in words)]
    return min(hits, default=len(job["steps"]))


def problems(gpu: dict, publish: dict) -> list[str]:
    """Return what is wrong with the pair of workflows."""
    found = []
    for name, job in gpu["jobs"].items():
        uses = {step.get("uses", "").partition("@")[0]: step for step in job["steps"]}
        cuda = first(job, "assert torch.cuda.is_available()")
        if first(job, "nvidia-smi") != 0:
            found.append(f"{name}: does not ask for a GPU before anything else")
        if not cuda < first(job, "instab_utils"):
            found.append(f"{name}: computes before CUDA is asserted")
        if uses["actions/checkout"].get("with", {}).get("clean") is not False:
            found.append(f"{name}: the checkout deletes what was built")
        if not job.get("timeout-minutes", DAY_MIN) < DAY_MIN:
            found.append(f"{name}: no limit below 24 h")
        if name != "check" and "check" not in job["needs"]:
            found.append(f"{name}: starts without the check")
        for text in scripts(job):
            plan = "instab_utils.papers run" in text
            if plan and not {"--profile", "--hours"} <= set(text.split()):
                found.append(f"{name}: a part of the plan without profile or limit")
        upload = uses.get("actions/upload-artifact")
        if upload:
            pack = job["steps"][first(job, "200000000")] if "200000000" in str(job) else {}
            folder = upload["with"]["path"]
            if f'kept="$PWD/{folder}"' not in pack.get("run", "") or "\n" in folder.strip():
                found.append(f"{name}: the artefact is not what was measured")
            if "env.PROFILE" not in upload["with"]["name"]:
                found.append(f"{name}: the artefact does not name its profile")
    results = gpu["env"].get("INSTAB_RESULTS", "")
    if "vars.INSTAB_RESULTS" not in results or "{0}/../" not in results:
        found.append("results lie inside the checkout")
    if "inputs.profile" not in gpu["run-name"]:
        found.append("a run does not name its profile")
    steps = publish["jobs"]["pages"]["steps"]
    asked = steps[first(publish["jobs"]["pages"], "gh run list")]["run"]
    if not ("--commit" in asked and "success" in asked and 'displayTitle == "gpu paper"' in asked):
        found.append("publish: takes a run of another commit or profile")
    downloads = [step["with"] for step in steps if "download-artifact" in step.get("uses", "")]
    if [d["name"] for d in downloads] != ["executed-paper"]:
        found.append("publish: takes an artefact of another profile")
    return found


def test_the_workflows_are_sound():
    assert problems(GPU, PUBLISH) == []


def without(text: str, new: str = "true"):
    """Return a change that replaces a text in every script of a job."""

    def change(gpu, publish):
        for workflow in (gpu, publish):
            for job in workflow["jobs"].values():
                for step in job["steps"]:
                    if "run" in step:
                        step["run"] = step["run"].replace(text, new)

    return change


def cleaned(gpu, publish):
    gpu["jobs"]["fields"]["steps"][1] = {"uses": "actions/checkout@v4"}


def inside(gpu, publish):
    gpu["env"]["INSTAB_RESULTS"] = "${{ github.workspace }}/results"


def endless(gpu, publish):
    del gpu["jobs"]["fields"]["timeout-minutes"]


def everything(gpu, publish):
    gpu["jobs"]["book"]["steps"][-1]["with"]["path"] = "build/executed\nresults"


def late(gpu, publish):
    steps = gpu["jobs"]["stability"]["steps"]
    steps.insert(1, steps.pop())


def any_profile(gpu, publish):
    download = next(s for s in publish["jobs"]["pages"]["steps"] if "download" in str(s))
    download["with"]["name"] = "executed"


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (without("nvidia-smi"), "check: does not ask for a GPU before anything else"),
        (without("assert torch.cuda"), "fields: computes before CUDA is asserted"),
        (late, "stability: computes before CUDA is asserted"),
        (cleaned, "fields: the checkout deletes what was built"),
        (endless, "fields: no limit below 24 h"),
        (without("--hours"), "alarms: a part of the plan without profile or limit"),
        (inside, "results lie inside the checkout"),
        (without("200000000"), "book: the artefact is not what was measured"),
        (everything, "book: the artefact is not what was measured"),
        (without(".displayTitle"), "publish: takes a run of another commit or profile"),
        (any_profile, "publish: takes an artefact of another profile"),
    ],
)
def test_a_planted_fault_is_found(plant, message):
    changed = copy.deepcopy(GPU), copy.deepcopy(PUBLISH)
    plant(*changed)
    assert message in problems(*changed)


# --- their scripts, run


def execute(script: str, folder: Path, programs: dict[str, str], **environment):
    """Run a step's script as GitHub does, with these programs before all others."""
    for name, text in programs.items():
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n", "utf-8")
        path.chmod(0o755)
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def step(job: dict, *words: str) -> str:
    return scripts(job)[first(job, *words)]


def test_a_runner_without_a_gpu_is_told_so(tmp_path):
    script = step(GPU["jobs"]["check"], "nvidia-smi")
    none = execute(script, tmp_path, {"nvidia-smi": "exit 9"})
    assert none.returncode == 1 and "no working GPU" in none.stdout
    one = execute(script, tmp_path, {"nvidia-smi": 'echo "$@"'})
    assert one.returncode == 0 and "name,driver_version,memory.total" in one.stdout


def test_a_pytorch_without_cuda_is_told_so(tmp_path):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "torch.py").write_text(  # a PyTorch of nothing but its answer
        "__version__ = '0'\nclass cuda:\n    is_available = staticmethod(lambda: False)\n"
    )
    done = execute(step(GPU["jobs"]["check"], "torch.cuda"), tmp_path, {}, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and "finds no CUDA" in done.stderr


def planted(path: Path, n_bytes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, n_bytes)


def test_the_artefact_has_no_arrays_and_is_small(tmp_path):
    script, results = step(GPU["jobs"]["book"], "kept="), tmp_path / "beside" / "results"
    planted(tmp_path / "build/executed/notebooks/01.ipynb", 10)
    kept = {"records/a.jsonl", "weights/a.safetensors", "exhibits/a.npz", "cards/a.json"}
    for name in kept:
        planted(results / name, 1000)
    for name in ("arrays/r.npz", "checkpoints/a.pt", "weights/automap.safetensors"):
        planted(results / name, 10**9)
    done = execute(script, tmp_path, {}, INSTAB_RESULTS=str(results))
    assert done.returncode == 0, done.stdout + done.stderr
    artefact = tmp_path / "build" / "artefact"
    names = {str(p.relative_to(artefact)) for p in artefact.rglob("*") if p.is_file()}
    assert names == {"executed/notebooks/01.ipynb", *(f"results/{name}" for name in kept)}

    for i in range(6):  # each is small enough, all of them are not
        planted(results / "exhibits" / f"{i}.npz", 38_000_000)
    done = execute(script, tmp_path, {}, INSTAB_RESULTS=str(results))
    assert done.returncode == 1 and "more than 200 MB" in done.stdout


@pytest.mark.skipif(not shutil.which("jq"), reason="jq, which stands for gh's own, is missing")
@pytest.mark.parametrize(
    ("runs", "taken"),
    [
        ([], ""),
        ([{"databaseId": 3, "displayTitle": "gpu smoke"}], ""),
        (
            [
                {"databaseId": 3, "displayTitle": "gpu standard"},
                {"databaseId": 2, "displayTitle": "gpu paper"},
                {"databaseId": 1, "displayTitle": "gpu paper"},
            ],
            "2",
        ),
    ],
)
def test_only_a_run_at_the_papers_scale_is_published(tmp_path, runs, taken):
    (tmp_path / "runs.json").write_text(json.dumps(runs))
    gh = 'while [ "$1" != --jq ]; do shift; done; jq -r "$2" runs.json'
    out = {"GITHUB_OUTPUT": str(tmp_path / "out"), "GITHUB_SHA": "0"}
    done = execute(step(PUBLISH["jobs"]["pages"], "gh run list"), tmp_path, {"gh": gh}, **out)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text() == f"run={taken}\n"


# --- Makefile, interpreters


@pytest.mark.skipif(not shutil.which("make"), reason="make is missing")
def test_results_go_where_they_are_sent_at_one_profile():
    make = [
        "make",
        "--no-print-directory",
        "-o",
        ".venv/ready",
        "results",
        "PROFILE=smoke",
        'RUN=echo "$$INSTAB_RESULTS"',
    ]
    for given, folder in ((None, "results"), ("/elsewhere", "/elsewhere")):
        environment = {k: v for k, v in os.environ.items() if k != "INSTAB_RESULTS"}
        environment |= {"INSTAB_RESULTS": given} if given else {}
        run = dict(cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        lines = [
            line for line in subprocess.run(make, **run).stdout.splitlines() if '"$' not in line
        ]
        assert len(lines) == 5 and all(line.startswith(f"{folder} ") for line in lines)
        stages = [line for line in lines if "-m instab_utils" in line]
        assert stages and all("--profile smoke" in line for line in stages)


def test_results_sent_elsewhere_leave_the_picture_of_the_readme(tmp_path):
    pytest.importorskip("PIL")
    picture = ROOT / "book" / "_static" / "result.png"
    before = picture.stat().st_mtime_ns
    environment = {**os.environ, "INSTAB_RESULTS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    script = [sys.executable, str(ROOT / "book" / "result_picture.py")]
    subprocess.run(script, env=environment, capture_output=True, check=True)
    assert (tmp_path / "result.png").stat().st_size > 10_000
    assert picture.stat().st_mtime_ns == before


def test_every_python_that_is_claimed_is_tested():
    matrix = yaml.safe_load((FOLDER / "tests.yml").read_text("utf-8"))["jobs"]["test"]["strategy"]
    claimed = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text("utf-8"))
    assert matrix["matrix"]["python"] == claimed and "3.13" in claimed
