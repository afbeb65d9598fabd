"""Stand-ins for the programs of clouds and clusters, first on PATH: they note how they are called."""

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The programs themselves, one for all: it goes by the name that it is called by.
NAMES = ("gcloud", "kubectl", "docker", "sbatch", "srun", "scontrol", "git", "pip", "python", "python3", "sleep")
PROGRAM = """#!{python}
import json, os, shutil, signal, subprocess, sys, tarfile
from pathlib import Path

here = Path({folder!r})
name, words = Path(sys.argv[0]).name, sys.argv[1:]
with open(here / "calls", "a") as file:
    file.write(json.dumps([name, *words]) + "\\n")


def next_outcome():
    path = here / "outcomes"
    first, *rest = path.read_text().split() if path.exists() else ["0"]
    path.write_text("\\n".join(rest or ["0"]))
    return first


def train():
    outcome = next_outcome()
    if outcome == "preempted":
        (here / "state").write_text("PREEMPTED")
        sys.exit(255)
    sys.exit(int(outcome))


def slurm(count):
    signal.signal(signal.SIGTERM, lambda *_: None)
    processes = []
    for i in range(count):
        about = dict(SLURM_PROCID=str(i), SLURM_LOCALID=str(i), SLURM_NTASKS=str(count))
        about["SLURM_STEP_NODELIST"] = "localhost"
        command = words[[word.startswith("-") for word in words].index(False) :]
        processes.append(subprocess.Popen(command, env=os.environ | about))
    sys.exit(max(process.wait() for process in processes))


def tpu_vm():
    verb, state = words[3], here / "state"
    if (here / f"fail_{{verb}}").exists():
        sys.exit(1)
    if verb == "describe":
        print(state.read_text()) if state.exists() else sys.exit(1)
    elif verb == "create":
        refusals = here / "refusals"
        left = int(refusals.read_text()) if refusals.exists() else 0
        refusals.write_text(str(left - 1))
        sys.exit(1) if left > 0 else state.write_text("READY")
    elif verb == "delete":
        state.unlink()
    elif verb == "scp":
        (here / "host").mkdir(exist_ok=True)
        shutil.copy(words[4], here / "host" / words[5].partition(":")[2])
    elif verb == "ssh":
        (command,) = (word.partition("=")[2] for word in words if word.startswith("--command="))
        sys.exit(subprocess.run(["bash", "-c", command], cwd=here / "host").returncode)


if name == "gcloud" and words[:3] == ["compute", "tpus", "tpu-vm"]:
    tpu_vm()
elif name == "kubectl" and words[-1] == "-":
    import yaml
    text = sys.stdin.read()
    sys.exit(yaml.safe_load(text)["kind"] != "JobSet" or "BUCKET" in text or "IMAGE" in text)
elif name == "git" and words[0] == "archive":
    (out,) = (word.partition("=")[2] for word in words if word.startswith("--output="))
    with tarfile.open(out, "w:gz") as archive:
        archive.add(Path({root!r}, "launch"), "launch")
elif "venv" in words and name in ("python", "python3"):
    Path(words[-1], "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(here / "bin" / "python", Path(words[-1], "bin", "python"))
elif name == "srun" and (here / "processes").exists():
    slurm(int((here / "processes").read_text()))
elif name == "srun" or (name == "python" and "train.py" in words):
    train()
"""


class StandIns:
    """The stand-ins, and what they are to do."""

    def __init__(self, folder, monkeypatch):
        self._folder = folder / "stand_ins"
        (self._folder / "bin").mkdir(parents=True)
        text = PROGRAM.format(python=sys.executable, folder=str(self._folder), root=str(ROOT))
        for name in NAMES:
            (self._folder / "bin" / name).write_text(text)
            (self._folder / "bin" / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def calls(self):
        """Every call so far: the program's name, and its arguments."""
        path = self._folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [call for call in map(json.loads, lines) if call[0] != "sleep"]

    def verbs(self):
        """What `gcloud compute tpus tpu-vm` was asked to do so far, but for telling the state."""
        return [call[4] for call in self.calls() if call[0] == "gcloud" and call[4] != "describe"]

    def outcomes(self, *outcomes):
        """Exit statuses of the trainings to come; `preempted` takes the slice away."""
        (self._folder / "outcomes").write_text("\n".join(outcomes))

    def refuse_slices(self, times):
        """There is no slice to be had so many times."""
        (self._folder / "refusals").write_text(str(times))

    def fail(self, verb):
        """This verb of `gcloud compute tpus tpu-vm` fails."""
        (self._folder / f"fail_{verb}").touch()

    def start_processes(self, count):
        """From now on, srun starts so many processes."""
        (self._folder / "processes").write_text(str(count))
