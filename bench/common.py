"""What the measurements share: the models, how they are trained, the machine, and where tables stand."""

import datetime
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
LOCKSTEP = BUILD / "bin" / "lockstep"
TORCH_TRAIN = ROOT / "bench" / "torch_train.py"

# name: (what it is, run file, the data that bench_make_data writes, samples of an epoch, epochs)
MODELS = {
    "mlp": ("MLP 784-1024-1024-10, batch 256, AdamW", "bench/mlp.yaml", ["10240", "784"], 5),
    "cnn": ("CNN 3x32x32, batch norm, batch 64, SGD with momentum", "bench/cnn.yaml", ["1280", "3", "32", "32"], 4),
    "digits": ("digits CNN, batch 64", "examples/digits/digits.yaml", None, 6),
}


def build():
    """What is measured, in build/bench."""
    print("bench: building (build/bench)", file=sys.stderr, flush=True)
    subprocess.run([ROOT / "launch" / "setup"], check=True)
    subprocess.run([ROOT / "launch" / "build", "bench"], check=True)


def text_of(command, **options):
    """What a command prints, or "" where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def mpirun(ranks):
    command = ["mpirun", "-np", str(ranks)]
    if os.getuid() == 0:
        command.append("--allow-run-as-root")
    if (os.cpu_count() or 1) < ranks:
        command.append("--oversubscribe")
    if not shutil.which("ssh"):
        command += ["--mca", "plm_rsh_agent", "/bin/false"]
    return command


def run_checked(command, **options):
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def lockstep_command(model, ranks, output, *settings):
    _, run_file, _, epochs = MODELS[model]
    launcher = mpirun(ranks) if ranks > 1 else []
    return launcher + [str(LOCKSTEP), "train", run_file, "--set", f"output={output}", "--set", f"epochs={epochs}",
                       "--set", "checkpoint.every.epochs=0", "--set", f"threads={max(1, 2 // ranks)}",
                       *(word for setting in settings for word in ("--set", setting))]


def rate_in(output):
    """Samples per second that stand in a run directory: the median of the epochs but the first."""
    lines = (Path(output) / "metrics.jsonl").read_text().splitlines()
    epochs = [entry for entry in map(json.loads, lines) if entry["kind"] == "epoch"]
    return statistics.median(entry["samples_per_second"] for entry in epochs[1:])


def lockstep_rate(model, ranks, *settings):
    """Settings, as "threads=1", override the run file's."""
    with tempfile.TemporaryDirectory() as output:
        run_checked(lockstep_command(model, ranks, output, *settings))
        return rate_in(output)


def torch_outputs(python, model, ranks, threads, *more, on=None, address="127.0.0.1", **environment):
    """Starts PyTorch's side, one process for each rank, and gives what rank 0 printed. on: the words in front of each rank's command;
    environment: variables beside those of this process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [python, str(TORCH_TRAIN), model, "--ranks", str(ranks), "--threads", str(threads), *more]
    processes = []
    for rank in range(ranks):
        variables = dict(os.environ, RANK=str(rank), MASTER_ADDR=address, MASTER_PORT=str(port), OMP_NUM_THREADS=str(threads),
                         **environment)
        processes.append(subprocess.Popen((on[rank] if on else []) + command, cwd=ROOT, env=variables, stdout=subprocess.PIPE,
                                          text=True))
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"{' '.join(command)} failed")
    return json.loads(outputs[0].splitlines()[-1])


def find_torch(wanted):
    """The Python that has PyTorch, or None, with a line that says what is left out."""
    for python in [wanted] if wanted else ["python3", sys.executable]:
        if text_of([python, "-c", "import torch; print(torch.__version__)"]):
            return python
    print(f"bench: {wanted or 'python3'} has no PyTorch: Lockstep alone is measured, nothing is compared", file=sys.stderr)
    return None


def machine(python):
    lines = text_of(["lscpu"]).splitlines()
    fields = dict(re.split(r":\s+", line, maxsplit=1) for line in lines if ": " in line)
    kind = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    vectors = "AVX-512" if "avx512f" in fields.get("Flags", "") else "AVX2" if "avx2" in fields.get("Flags", "") else "no AVX2"
    system = re.search(r'PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text())
    compiler = text_of(["cc", "--version"]).splitlines()
    rows = [
        ("date", datetime.date.today().isoformat()),
        ("machine", f"{kind}, {os.cpu_count()} cores, {vectors}, {memory:.0f} GiB of memory"),
        ("system", f"{system.group(1) if system else platform.system()}, Linux {platform.release()}, "
                   f"{compiler[0] if compiler else 'no cc'}"),
        ("Lockstep", f"{text_of([str(LOCKSTEP), '--version']).splitlines()[0]}; {text_of(['mpirun', '--version']).splitlines()[0]}"),
    ]
    if python:
        rows.append(("PyTorch", text_of([python, "-c", "import torch, re; c = torch.__config__.show();"
                                         "print(torch.__version__, 'with', re.search(r'oneAPI DNN[^\\n]*|MKL-DNN v[^ ]*', c).group(0)"
                                         " if re.search(r'oneAPI DNN|MKL-DNN v', c) else 'its own libraries')"])
                     or text_of([python, "-c", "import torch; print(torch.__version__)"])))
    return rows


def write_into_readme(table, section):
    path = ROOT / "bench" / "README.md"
    begin, end = f"<!-- {section} begin -->", f"<!-- {section} end -->"
    head, rest = path.read_text().split(begin)
    tail = rest.split(end)[1]
    path.write_text(f"{head}{begin}\n{table}\n{end}{tail}")
