"""Run an S3-protocol server (moto) on loopback until standard input closes or SIGTERM. Prints its address.

Usage: python scripts/s3_server.py [--port PORT] BUCKET...
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("buckets", nargs="+")
    arguments = parser.parse_args()

    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=arguments.port, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    credentials = {"aws_access_key_id": "ftl", "aws_secret_access_key": "ftl", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=endpoint, **credentials)
    for bucket in arguments.buckets:
        client.create_bucket(Bucket=bucket)
    print(endpoint, flush=True)
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run; its last checkpoint still needs this server
    parent = os.getppid()
    while not done.wait(1.0):
        if os.getppid() != parent:  # whoever started us is gone
            break
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
