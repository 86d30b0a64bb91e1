"""What `ftl launch` adds to the same submission made with Ray's own tools, on a real Ray cluster on loopback.

Each is a whole process, from start to submitted. The job is the one that `ftl render` prints; its runner is the tests'
stand-in, for only the submission is timed. Its data is on a hub that is not reached: no rows are tokenized first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.paired import Command, compare
from tests.benchmarks.settings import BIN, num_runs
from tests.services.ray_cluster import TOKEN, running_cluster
from tests.services.test_ray_backend import CONFIG

DIRECT = """
import json, sys
from ray.job_submission import JobSubmissionClient
job = json.load(open(sys.argv[2]))
job.pop("submission_id")
print(JobSubmissionClient(sys.argv[1], headers={"Authorization": "Bearer " + sys.argv[3]}).submit_job(**job))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name, running_cluster() as address:
        folder = Path(name)
        (folder / "config.yml").write_text(CONFIG + f"checkpoint: {folder}/checkpoints\n")
        env = {
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_AUTH_MODE": "token",
            "FTL_HOME": str(folder / "home"),
            "HF_HUB_OFFLINE": "1",
        }
        flags = ["--ray-address", address, "--env", "STANDIN_STEPS=1"]
        launch = [str(BIN / "ftl"), "launch", "config.yml", *flags, "--detach"]
        rendered = subprocess.run(
            [str(BIN / "ftl"), "render", "config.yml", *flags, "--json"],
            cwd=folder,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=True,
        )
        job = folder / "job.json"
        job.write_text(json.dumps(json.loads(rendered.stdout)["request"]))
        ours = Command("ftl launch --detach", launch, cwd=folder, env=env)
        sdk = Command(
            "the SDK's submit_job", [sys.executable, "-c", DIRECT, address, str(job), TOKEN], cwd=folder, env=env
        )
        ray = [str(BIN / "ray"), "job", "submit", "--address", address, "--no-wait", "--", "true"]
        print("ftl launch against Ray's SDK")
        compare(ours, sdk, num_runs(5))
        print("ftl launch against ray job submit")
        compare(ours, Command("ray job submit --no-wait", ray, cwd=folder, env=env), num_runs(5))


if __name__ == "__main__":
    main()
