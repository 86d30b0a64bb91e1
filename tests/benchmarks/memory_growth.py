"""How much more memory 200,000 chats need than 20,000, `ftl preprocess` with all its processes."""

from __future__ import annotations

import shutil

from tests.benchmarks import rows
from tests.benchmarks.memory import peak_mib
from tests.benchmarks.preprocess import ours
from tests.benchmarks.settings import FOLDER


def main() -> None:
    print("peak memory of ftl preprocess, all processes")
    peaks = []
    for count in (20_000, 200_000):
        data = rows.write(FOLDER / f"chats-{count}.jsonl", rows.chats(count))
        command = ours(data, "chat_template")
        for folder in command.fresh:
            shutil.rmtree(folder, ignore_errors=True)
        peaks.append(peak_mib(command.argv))
        print(f"  {count:>7,} chats {peaks[-1]:8.0f} MiB", flush=True)
    print(f"  growth        {peaks[1] - peaks[0]:8.0f} MiB")


if __name__ == "__main__":
    main()
