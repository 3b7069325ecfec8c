"""Ranks of MPI as processes: mpiexec, beside the interpreter or on the path, and the environment for it."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]
_LAUNCHERS = ("WORLD_SIZE", "OMPI_", "PMI_", "PMIX_", "SLURM_", "MPI_LOCAL")  # of a launcher that has started the tests


def find():
    """Return the path of mpiexec, and why it cannot be used ("" if it can)."""
    if importlib.util.find_spec("mpi4py") is None:
        return None, "mpi4py is not installed"
    program = shutil.which("mpiexec", path=Path(sys.executable).parent) or shutil.which("mpiexec")
    return program, "" if program else "there is no mpiexec"


def run(program, size, *words, **env):
    """Run `python *words` in `size` processes; return the CompletedProcess.  `env`: variables to add."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHERS)}
    paths = os.pathsep.join([str(_ROOT), str(_ROOT / "tests" / "support")])
    clean |= {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    # Open MPI refuses root, and more processes than cores
    clean |= {name: "1" for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")}
    clean |= {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
    command = [program, "-n", str(size), sys.executable, *words]
    return subprocess.run(command, env=clean | env, capture_output=True, text=True, timeout=120)
