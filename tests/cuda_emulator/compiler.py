#!/usr/bin/env python3
"""A replacement for nvcc: ``compiler.py --cubin [options] -o OUT SOURCE.cu`` writes a library for the emulated driver.

It uses --version, -D, -I, -o and the source; options for GPUs only (-arch, -O3, ...) are ignored. The libraries contain
x86-64 code, compiled by g++ from emulated_cuda.h followed by the kernels' source.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(")
DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s+)?[\w:]+\s+(\w+)\s*\[")
SHARED_BYTES = 227 << 10
FLAGS = (
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-shared",
    "-w",
    "-fvisibility=hidden",
    "-fno-gnu-unique",
    "-ffp-contract=off",
    "-fsanitize=bounds-strict,alignment",
)
LIBRARIES = (
    "-nodefaultlibs",
    "-lstdc++",
    "-lm",
    "-lc",
    "-lgcc",
)  # not those of the sanitizers, whose functions are in the headers
RACE_FLAGS = ("-DEMU_RACE", "-fsanitize=thread", "--param", "tsan-distinguish-volatile=1")


def races() -> bool:
    """Whether kernels are compiled to detect races: EMU_RACE=1."""
    return os.environ.get("EMU_RACE", "0") != "0"


def translate(text: str, source: str) -> "tuple[str, list[str]]":
    """Return the C++ source for a CUDA text, and the names of its dynamic shared arrays (defined in a separate unit,
    so that their element type need not match). `source` describes it in reports."""
    names = KERNEL.findall(text)
    body = re.sub(r'extern\s+"C"\s+(?=__global__)', "", text)
    dynamic = sorted(set(DYNAMIC.findall(body)))
    body = re.sub(r"extern\s+__shared__", 'extern __attribute__((visibility("hidden")))', body)
    launchers = "\n".join(f"EMU_KERNEL({name})" for name in names)
    launchers += f'\nEMU_VISIBLE const char emu_source[] = "{source}";'
    return f'#include "emulated_cuda.h"\n#line 1 "{source.split()[0]}"\n{body}\n{launchers}\n', dynamic


def compile_file(source: Path, out: Path, options: "list[str]") -> int:
    """Compile one CUDA file; return g++'s exit status."""
    code, dynamic = translate(source.read_text(), " ".join([source.name, *(o for o in options if o.startswith("-D"))]))
    units = [code]
    if dynamic:
        units.append(
            "".join(
                f'alignas(1024) __attribute__((visibility("hidden"))) unsigned char {name}[{SHARED_BYTES}];\n'
                for name in dynamic
            )
        )
    files = []
    for i, unit in enumerate(units):
        files.append(out.with_name(f"{out.name}.{i}.cpp"))
        files[-1].write_text(unit)
    flags = [*FLAGS, *(RACE_FLAGS if races() else ())]
    command = ["g++", *flags, "-I", str(HERE), *options, *map(str, files), "-o", str(out), *LIBRARIES]
    try:
        return subprocess.run(command).returncode
    finally:
        for file in files:
            file.unlink()


def version() -> str:
    """Return a string that changes with this file, the headers and the host compiler; it is part of the cache's key."""
    digest = hashlib.sha256()
    for path in sorted([HERE / "compiler.py", *HERE.glob("*.h")]):
        digest.update(path.read_bytes())
    host = subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
    return f"emulated CUDA compiler {digest.hexdigest()[:16]}, g++ {host}{', races' if races() else ''}"


def main(arguments: "list[str]") -> int:
    if "--version" in arguments:
        print(version())
        return 0
    source = Path(arguments[-1])
    out = Path(arguments[arguments.index("-o") + 1]) if "-o" in arguments else source.with_suffix(".cubin")
    return compile_file(source, out, [a for a in arguments if a.startswith(("-I", "-D"))])


if __name__ == "__main__":
    os.environ.setdefault("LC_ALL", "C")
    sys.exit(main(sys.argv[1:]))
