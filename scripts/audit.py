"""Are vulnerabilities known of what is pinned? Exit code 1 where there are; 0 where nobody can be asked.

    python scripts/audit.py [constraints.txt]

Asks the advisories of the package index through pip-audit. Without a network, or behind an index that has no
advisories, it says so and lets the build go on.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 180
PLACE = Path(__file__).resolve().parents[1] / "build" / "audit"


def main() -> int:
    """Print what was found."""
    pins = sys.argv[1] if len(sys.argv) > 1 else "constraints.txt"
    try:
        command = [program(), "-r", pins, "--no-deps", "--disable-pip"]
        done = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        found = json.loads(done.stdout)["dependencies"]
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        print("audit: no advisories could be read; nothing was checked")
        return 0
    return report(found)


def program() -> str:
    """pip-audit, in an environment of its own: what it needs is none of ours."""
    found = PLACE / "bin" / "pip-audit"
    if not found.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PLACE)], check=True, timeout=TIMEOUT_SECONDS)
        install = [str(PLACE / "bin" / "pip"), "install", "-q", "pip-audit>=2.7,<3"]
        subprocess.run(install, check=True, timeout=TIMEOUT_SECONDS, capture_output=True)
    return str(found)


def report(found: list[dict[str, Any]]) -> int:
    """One line for each vulnerability, and the exit code."""
    audited = [each for each in found if "vulns" in each]
    lines = [
        f"{each['name']} {each['version']}: {known['id']}, fixed in {', '.join(known['fix_versions']) or '-'}"
        for each in audited
        for known in each["vulns"]
    ]
    print("\n".join([*lines, f"audit: {len(audited)} of {len(found)} pins were checked, {len(lines)} known"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
