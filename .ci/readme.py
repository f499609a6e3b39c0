"""Run every code block of a Markdown file: ``console`` blocks line by line, ``python`` and ``yaml`` blocks too.

A ``yaml`` block is written to ``experiment.yaml`` in the folder where the blocks run, or to the name in its first
line. ``make`` lines run in the checkout, where ``make test`` has just run and is not run again.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"


def main(path: str) -> int:
    blocks = BLOCK.findall(Path(path).read_text())
    with tempfile.TemporaryDirectory() as folder:
        for language, text in blocks:
            if language == "yaml":
                named = re.match(r"# (\w+\.yaml)$", text.partition("\n")[0])
                (Path(folder) / (named[1] if named else "experiment.yaml")).write_text(text)
            elif language == "python":
                run([str(BIN / "python"), "-c", text], folder)
            elif language == "console":
                for line in text.splitlines():
                    command = line.removeprefix("$ ")
                    if line.startswith("$ ") and not command.startswith(("git clone", "cd ", "make test")):
                        where = str(ROOT) if command.startswith("make") else folder
                        run(["bash", "-c", f'export PATH="{BIN}:$PATH"; {command}'], where)
            elif language != "text":
                print(f"unknown kind of block: {language}")
                return 1
    print(f"{len(blocks)} blocks of {path} ran")
    return 0 if blocks else 1


def run(command: list[str], folder: str) -> None:
    print("+", command[-1].split("; ", 1)[-1].strip().splitlines()[0], flush=True)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr}\nfailed with {done.returncode}: {command[-1]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
