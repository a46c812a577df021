"""The tree speaks of the product alone, and has the files that the specification prints."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fabric.core.clock import SystemClock
from fabric.runtime.folder import DataFolder

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PATHS = (
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "Makefile",
    "pyproject.toml",
    "requirements.txt",
    "run_complete_system.py",
    "web_dashboard.py",
    *(f"demo_task{number}_complete.py" for number in range(1, 7)),
    "fabric/placement",  # component1_data_sorter.py
    "fabric/migration",  # component2_multicloud_migration.py
    "fabric/streaming",  # component3_streaming.py
    "fabric/prediction",  # component4_predictive_ml.py
    "fabric/consistency",  # component5_consistency.py
    "fabric/security",  # component6_security_alerts.py
    "fabric/dashboard",
    "web",
    "web/templates/dashboard_interactive.html",
    "tests",
)  # data/exports is made by the first start: see the test below
TEXT = frozenset(
    {".py", ".md", ".toml", ".txt", ".json", ".html", ".js", ".css", ".svg", ".cfg", ".ini", ".yml", ".yaml"}
)
NAMELESS = frozenset({"Makefile", "Dockerfile", "LICENSE", "run", ".gitignore", ".dockerignore"})
MACHINE = re.compile(r"(?<![\w.\-/])/(?:work|root|home|Users|mnt|private/var)/[\w.\-]+|[A-Z]:\\Users\\")
HOSTS = (
    *("py" + "pi.org", "pythonhosted" + ".org", "npm" + "js.org", "npm" + "js.com", "yarn" + "pkg.com"),
    *("proxy.go" + "lang.org", "crates" + ".io", "anaconda" + ".org", "npm" + "mirror.com"),
)


def tree() -> list[Path]:
    """Return the files that belong to the repository: tracked or about to be, never what is ignored."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout: which files belong to it is not known")
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def texts() -> list[tuple[str, str]]:
    chosen = [path for path in tree() if path.suffix in TEXT or path.name in NAMELESS]
    return [(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8", errors="replace")) for path in chosen]


def test_no_file_holds_an_absolute_path_of_one_machine() -> None:
    own = str(Path(__file__).resolve().relative_to(ROOT))
    found = [f"{name}: {hit}" for name, text in texts() if name != own for hit in MACHINE.findall(text)]

    assert not found, "\n".join(found)


def test_no_file_names_a_host_of_a_package_registry() -> None:
    found = [f"{name}: {host}" for name, text in texts() for host in HOSTS if host in text]

    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("see /work/main", True),
        ('"/home/ann/data"', True),
        ("root:/root/x", True),
        ("C:\\Users\\ann", True),
        ("/srv/data and /data and ./work/here", False),
        ("s3://bucket/home/x", False),
        ("https://example.org/work/x", False),
    ],
)
def test_a_path_of_one_machine_is_told_from_any_other(text: str, hit: bool) -> None:
    assert bool(MACHINE.search(text)) is hit


@pytest.mark.item(131)
def test_the_folder_of_reports_is_made_by_the_first_start(tmp_path: Path) -> None:
    assert DataFolder(tmp_path / "data", "sample", SystemClock()).exports == tmp_path / "data" / "exports"
    assert (tmp_path / "data" / "exports").is_dir()


@pytest.mark.item(131)
def test_the_files_that_the_specification_prints_exist() -> None:
    missing = [path for path in PATHS if not (ROOT / path).exists()]

    assert not missing
