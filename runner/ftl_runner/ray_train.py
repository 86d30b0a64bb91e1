"""Ray Train executor: a driver that starts a worker group and passes stop requests and events between them.

Events travel through a small actor of the driver rather than through worker logs: those may arrive late, out of
order or deduplicated.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftl_config.errors import FtlError
from ftl_config.protocol import Env, Event, EventType
from ftl_runner.context import Outcome, TrainJob
from ftl_runner.distributed.ranks import collective_backend, collective_timeout_s
from ftl_runner.failures import explain, first_line, is_lost_peer
from ftl_runner.preflight.node import is_wanted
from ftl_runner.preflight.ray_nodes import Workers, check_ray_nodes
from ftl_runner.redaction import redact_error, redact_output
from ftl_runner.stop import StopSignal

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.2
FAREWELL_S = 2.0
GROUP_START_TIMEOUT_S = 300
"""Ray Train's own 60 s are short for a busy machine, or a node that is still loading its libraries."""


class Coordinator:
    """Lives in an actor: events and the outcome flow from workers to the driver, the stop request back."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._stop = False
        self._outcome: Outcome | None = None
        self._error: FtlError | None = None

    def send(self, event: Event) -> None:
        self._events.append(event)

    def request_stop(self) -> None:
        self._stop = True

    def should_stop(self) -> bool:
        return self._stop

    def finish(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def fail(self, error: FtlError) -> None:
        """The first error wins: the others are ranks that lost their peer."""
        self._error = self._error or error

    def drain(self) -> tuple[list[Event], Outcome | None, FtlError | None]:
        events, self._events = self._events, []
        return events, self._outcome, self._error


def train_on_ray(job: TrainJob, send: Callable[[Event], None], stop: StopSignal) -> Outcome:
    """Run the job on Ray Train and wait for it, forwarding events as they come.

    A worker that dies (out-of-memory killer, lost node) has the group started again, from the newest committed
    checkpoint, up to ``FTL_MAX_FAILURES`` times; an error that a worker raises ends the run at once.

    Raises:
        FtlError: what a worker reported, or that the group could not be started or kept failing.
    """
    send(Event(EventType.PHASE, {"phase": "ray", "message": "joining Ray"}))
    _join_cluster()
    stop.listen()  # again: ray.init installed a SIGTERM handler that ends the driver at once
    coordinator = _start_coordinator()
    workers = _workers(job)
    if is_wanted(job):
        check_ray_nodes(job, workers, send)
    fit = _FitThread(job, workers, coordinator)
    fit.start()
    try:
        return _follow(fit, coordinator, send, stop)
    finally:
        fit.join(FAREWELL_S)


def end_driver(code: int) -> None:
    """End this process with ``code`` at once if Ray Train's thread is still busy; otherwise only return.

    Its farewell can take 12 s and says nothing more. A normal exit beside it would first disconnect Ray, and Ray ends a
    process whose thread goes on without a connection, with a code of its own. What Ray started here ends with this
    process (the kernel's parent-death signal), and a cluster sees the driver go.
    """
    if any(isinstance(thread, _FitThread) and thread.is_alive() for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _follow(fit: _FitThread, coordinator: Any, send: Callable[[Event], None], stop: StopSignal) -> Outcome:
    """Pass events on, and the stop request back, until there is an outcome."""
    import ray

    asked_to_stop = False
    while True:
        alive = fit.is_alive()
        if stop.requested and not asked_to_stop:
            asked_to_stop = True
            coordinator.request_stop.remote()
            send(Event(EventType.PHASE, {"phase": "save", "message": "stopping after this step, with a checkpoint"}))
        drained: tuple[list[Event], Outcome | None, FtlError | None] = ray.get(coordinator.drain.remote())
        events, outcome, error = drained
        for event in events:
            send(event)
        if error is not None:
            raise error
        if outcome is not None:
            return outcome
        if not alive:
            raise fit.failure()
        time.sleep(POLL_INTERVAL_S)


class _FitThread(threading.Thread):
    """Runs ``TorchTrainer.fit`` beside the main thread, which must stay free to handle signals."""

    def __init__(self, job: TrainJob, workers: Workers, coordinator: Any) -> None:
        super().__init__(name="ftl-ray-fit", daemon=True)
        self._job = job
        self._workers = workers
        self._coordinator = coordinator
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            _make_trainer(self._job, self._workers, self._coordinator).fit()
        except Exception as error:
            self._error = error

    def failure(self) -> FtlError:
        text = str(self._error).strip().splitlines()[-1] if self._error and str(self._error).strip() else "no outcome"
        return FtlError(
            f"the Ray Train worker group ended without a result: {text}",
            "see `ftl logs` for the workers' output; `ftl resume` goes on from the newest committed checkpoint",
        )


def _join_cluster() -> None:
    import ray

    # A job submitted to a cluster is told its address by Ray; without one this driver embeds a Ray of its own.
    # Never "auto", which picks up any Ray on the host (SkyPilot runs one).
    address = os.environ.get(Env.RAY_ADDRESS) or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"address": address, "log_to_driver": True, "logging_level": logging.WARNING}
    if address == "local":
        # The dashboard's state API is what Ray Train's cleaner asks whether its controller still lives.
        options |= {"include_dashboard": True, "dashboard_host": "127.0.0.1", "object_store_memory": 200 * 2**20}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise FtlError(
            f"cannot join the Ray cluster at {address}: {first_line(error)}", "check that Ray runs there"
        ) from error


def _start_coordinator() -> Any:
    """Beside the driver: any other node may be lost, and the run goes on without it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Coordinator).remote()


def _workers(job: TrainJob) -> Workers:
    """How many, and what each of them takes from the cluster."""
    import ray

    keys, cluster = job.loaded.config.distributed, ray.cluster_resources()
    num_workers = int(os.environ.get(Env.NUM_WORKERS) or keys.ray_num_workers or 1)
    resources = dict(keys.resources_per_worker or {})
    if cluster.get("GPU", 0) > 0:
        resources.setdefault("GPU", 1)
    else:
        resources.pop("GPU", None)
        resources.setdefault("CPU", max(1, int(cluster.get("CPU", num_workers) // num_workers)))
    return Workers(num_workers, resources)


def _make_trainer(job: TrainJob, workers: Workers, coordinator: Any) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(GROUP_START_TIMEOUT_S))
    use_gpu = "GPU" in workers.resources
    return TorchTrainer(
        _worker,
        train_loop_config={"job": job, "coordinator": coordinator},
        torch_config=TorchConfig(
            backend=collective_backend(job.loaded.config, use_gpu=use_gpu),
            timeout_s=collective_timeout_s(job.loaded.config),
        ),
        scaling_config=ScalingConfig(
            num_workers=workers.num_workers, use_gpu=use_gpu, resources_per_worker=dict(workers.resources)
        ),
        run_config=RunConfig(
            name=job.loaded.config.distributed.ray_run_name or job.run_id,
            storage_path=str(_ray_storage(job)),
            failure_config=FailureConfig(max_failures=int(os.environ.get(Env.MAX_FAILURES, "2"))),
        ),
    )


def _ray_storage(job: TrainJob) -> Path:
    """Ray's own bookkeeping; checkpoints are ours and go to the checkpoint store."""
    path = job.output_dir / ".ray"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _worker(config: dict[str, Any]) -> None:
    """The train loop of one worker."""
    from ftl_runner.train import train

    job: TrainJob = config["job"]
    coordinator: Any = config["coordinator"]
    redact_output()
    stop = StopSignal()
    stop.poll(lambda: _ask(coordinator))
    try:
        outcome = train(job, lambda event: coordinator.send.remote(event), stop)
    except Exception as error:
        import ray

        if is_lost_peer(error):
            raise  # another worker died: Ray starts the group again, and the run goes on from its last commit
        if not isinstance(error, FtlError):
            logger.exception("worker failed")
        known = redact_error(explain(error, job.output_dir, job))
        with contextlib.suppress(Exception):
            ray.get(coordinator.fail.remote(known))
        raise known from None  # Ray logs what is raised here, in processes that know no secrets
    _finish(coordinator, outcome)


def _ask(coordinator: Any) -> bool:
    import ray

    return bool(ray.get(coordinator.should_stop.remote()))


def _finish(coordinator: Any, outcome: Outcome) -> None:
    import ray
    import ray.train

    if ray.train.get_context().get_world_rank() == 0:
        ray.get(coordinator.finish.remote(outcome))
