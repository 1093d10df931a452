"""packages.py: builds the packages for Debian and RPM, unpacks them, and builds and runs programs
against what they contain. A format whose tools are missing is left out."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from consumer import HERE, ROOT, run

SKIPPED = 77  # ctest's SKIP_RETURN_CODE


def build(work, *options):
    run("cmake", "-S", ROOT, "-B", work, "-DCMAKE_INSTALL_PREFIX=/usr", "-DVALLOC_BUILD_TESTS=OFF",
        *options)
    run("cmake", "--build", work, "--parallel", 2)


def unpack_deb(package, root):
    run("dpkg", "-x", package, root)


def unpack_rpm(package, root):
    subprocess.run(f"rpm2cpio '{package}' | cpio -idm --quiet", shell=True, check=True, cwd=root)


def unpack(packages, unpack_one, root):
    """All packages in one folder. No two of them may contain the same file."""
    origin = {}
    for number, package in enumerate(packages):
        alone = root.with_name(f"{root.name}-{number}")
        alone.mkdir()
        unpack_one(package, alone)
        files = [file.relative_to(alone) for file in alone.rglob("*") if not file.is_dir()]
        if not any(file.name == "copyright" for file in files):
            sys.exit(f"{package.name} has no licence")
        for file in files:
            if file in origin:
                sys.exit(f"{file} is in {origin[file]} and {package.name}")
            origin[file] = package.name
        shutil.copytree(alone, root, symlinks=True, dirs_exist_ok=True)
    return sorted(origin)


def use(root, work):
    """A program by pkg-config, programs by the CMake package, and the command."""
    config = next(root.glob("**/valloc.pc")).parent
    flags = run("pkg-config", "--cflags", "--libs", "valloc", PKG_CONFIG_PATH=config).split()
    run("cc", HERE / "consumer.c", *flags, "-o", work / "program")
    print("pkg-config:", run(work / "program", LD_LIBRARY_PATH=config.parent), end="")
    # By its path: CMake looks into lib64 only on systems that have it.
    package = next(root.glob("**/valloc-config.cmake")).parent
    run("cmake", "-S", HERE, "-B", work / "cmake", f"-Dvalloc_DIR={package}")
    run("cmake", "--build", work / "cmake")
    for program in "shared", "static", "override", "jemalloc", "cxx":
        print("CMake package:", run(work / "cmake" / program), end="")
    for option in [], ["--secure"]:
        maps = run(root / "usr" / "bin" / "valloc", "run", *option, "cat", "/proc/self/maps")
        if f"libvalloc-override{'-secure' if option else ''}.so" not in maps:
            sys.exit(f"valloc run {option} preloads nothing")


formats = {
    "DEB": (("dpkg", "dpkg-shlibdeps"), [], "*.deb", unpack_deb),
    "RPM": (("rpmbuild", "rpm2cpio", "cpio"), ["-DCMAKE_INSTALL_LIBDIR=lib64"], "*.rpm", unpack_rpm),
}
built = 0
with tempfile.TemporaryDirectory() as directory:
    work = Path(directory)
    for name, (tools, options, pattern, unpack_one) in formats.items():
        missing = [tool for tool in tools if not shutil.which(tool)]
        if missing:
            print(f"{name}: {' and '.join(missing)} not installed")
            continue
        build(work / "build", *options)
        run("cpack", "-G", name, "--config", work / "build" / "CPackConfig.cmake",
            "-B", work / name)
        packages = sorted((work / name).glob(pattern))
        files = unpack(packages, unpack_one, work / f"{name}-root")
        print(f"{len(files)} files in", *(package.name for package in packages))
        (work / f"{name}-use").mkdir()
        use(work / f"{name}-root", work / f"{name}-use")
        built += 1
sys.exit(0 if built else SKIPPED)
