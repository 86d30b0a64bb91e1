"""``python -m ftl_runner train CONFIG``, with PYTHONPATH pointing here: prints events, counts steps, obeys signals.

STANDIN_STEPS: how many steps (default 5). STANDIN_STEP_S: seconds a step (0.05). STANDIN_FAIL_AT: step at which it
fails with STANDIN_EXIT_CODE (1). STANDIN_PRINT_ENV: name of a variable to print, as a careless script would.
STANDIN_LIST_FILES: print what is in the current folder.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from ftl_config.protocol import Env, Event, EventType, ExitCode

STOP: list[int] = []


def main() -> int:
    verb, config = sys.argv[1], Path(sys.argv[2])
    assert verb == "train", sys.argv
    assert config.exists(), sys.argv
    folder = Path(os.environ[Env.CHECKPOINT_URI])
    folder.mkdir(parents=True, exist_ok=True)
    saved = folder / "step"
    step = int(saved.read_text()) if saved.exists() else 0
    total = int(os.environ.get("STANDIN_STEPS", "5"))
    fail_at = int(os.environ.get("STANDIN_FAIL_AT", "-1"))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _frame: STOP.append(signum))
    print("a line of free text from the runner", flush=True)
    for name in filter(None, os.environ.get("STANDIN_PRINT_ENV", "").split(",")):
        print(f"{name}={os.environ.get(name)}", flush=True)
    if os.environ.get("STANDIN_LIST_FILES"):
        print("files:", *sorted(str(path) for path in Path().rglob("*") if path.is_file()), flush=True)
    if step:
        emit(EventType.RESUMED, step=step, uri=str(saved), attempt=2)
    emit(EventType.TRAIN_START, total_steps=total, start_step=step, world_size=int(os.environ.get(Env.NUM_WORKERS, 1)))
    while step < total:
        time.sleep(float(os.environ.get("STANDIN_STEP_S", "0.05")))
        if STOP:
            return stop(saved, step)
        if step == fail_at:
            code = int(os.environ.get("STANDIN_EXIT_CODE", "1"))
            emit(EventType.ERROR, message="the loss became NaN", hint="lower the learning rate", exit_code=code)
            emit(EventType.END, status="failed", exit_code=code)
            return code
        step += 1
        emit(
            EventType.STEP,
            step=step,
            total_steps=total,
            loss=4.0 / step,
            learning_rate=1e-4,
            tokens_per_s=1234.5,
            eta_s=(total - step) * 0.05,
        )
    save(saved, step)
    emit(EventType.SUMMARY, metrics={"train_loss": 4.0 / total, "runtime_s": 1.5}, files={"loss_curve": "loss.png"})
    emit(EventType.SAMPLE, prompt="Why?", base="no idea", tuned="because")
    emit(EventType.END, status="succeeded", exit_code=0)
    return ExitCode.OK


def stop(saved: Path, step: int) -> int:
    time.sleep(0.3)
    save(saved, step)
    code = ExitCode.INTERRUPTED if STOP[0] == signal.SIGINT else ExitCode.PREEMPTED
    emit(EventType.END, status="cancelled" if STOP[0] == signal.SIGINT else "preempted", exit_code=int(code))
    return code


def save(saved: Path, step: int) -> None:
    saved.write_text(str(step))
    emit(EventType.CHECKPOINT, step=step, uri=str(saved), size_bytes=1, duration_s=0.1)


def emit(kind: EventType, **fields: object) -> None:
    print(f"::ftl:: {Event(kind, fields).to_json()}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
