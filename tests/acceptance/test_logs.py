"""What a worker writes to its log: JSON, one canonical line a batch, and no secret."""

import fcntl
import json
import os
import subprocess

from scripts.redis_server import temporary_redis
from tests.support import pictures
from tests.support.redis_urls import as_user
from tests.support.workplace import STARTS, Workplace

STAGES = {"wait_ms", "read_ms", "hash_ms", "probe_ms", "decode_ms", "resize_ms", "encode_ms"}
STAGES |= {"publish_ms", "commit_ms", "upload_ms", "left_over"}


def test_every_line_is_json_and_each_batch_is_one_line_with_the_time_of_each_stage(
    workplace: Workplace,
) -> None:
    worker = workplace.start("arq")
    good = [workplace.put(f"uploads/{n}.jpg", pictures.small(n)) for n in range(3)]
    bad = workplace.put("uploads/bad.jpg", b"hello")
    workplace.send_all({"source": source} for source in [*good, bad])
    workplace.await_end_of(*good, bad)
    worker.stop()

    lines = [json.loads(line) for line in worker.lines]

    batches = [line for line in lines if line["event"] == "batch"]
    assert sum(batch["uploads"] for batch in batches) == 4
    assert len({batch["job_id"] for batch in batches}) == len(batches)
    assert all(
        batch.keys() >= {*STAGES, "commit_ms", "upload_ms", "left_over"}
        for batch in batches
        if "ready" in batch
    )
    [refused] = [line for line in lines if line["event"] == "upload_not_ready"]
    assert (refused["code"], refused["will_retry"]) == ("unsupported_format", False)
    assert all({"level", "timestamp"} <= line.keys() for line in lines)


def test_the_password_of_redis_is_in_no_log(workplace: Workplace) -> None:
    with temporary_redis() as server:
        place = Workplace(workplace.home / "secret", server.url)
        place.redis.config_set("requirepass", "hunter2")
        place.redis_url = as_user(server.url, password="hunter2")
        worker = place.start("media")
        place.redis.config_set("requirepass", "other")
        place.redis.client_kill_filter(_type="normal", skipme=True)
        worker.await_log("redis_refuses")
        worker.stop()
        wrong = place.run("media", MEDIA_REDIS_URL="http://:hunter2@host")
        place.close()

    assert "hunter2" not in worker.text
    assert "hunter2" not in wrong.stderr


def test_a_worker_writes_nothing_to_its_standard_output(workplace: Workplace) -> None:
    ended = workplace.run("media", "--burst", MEDIA_LOG="console")

    assert ended.returncode == 0
    assert ended.stdout == ""


def test_a_worker_whose_log_is_not_read_continues_and_obeys_sigterm(workplace: Workplace) -> None:
    ours, theirs = os.pipe()
    room = fcntl.fcntl(theirs, fcntl.F_GETPIPE_SZ)
    with open(ours, "rb"), open(theirs, "wb", buffering=0) as stderr:
        stderr.write(bytes(room))  # no line fits in any more
        worker = subprocess.Popen(STARTS["media"], env=workplace.env(), cwd=workplace.home, stderr=stderr)
        try:
            source = workplace.put("uploads/good.jpg", pictures.small())
            workplace.send({"source": source})

            assert workplace.await_end_of(source, within=60)[source]["type"] == "upload.ready"
            worker.terminate()
            assert worker.wait(60) == 0
        finally:
            worker.kill()
            worker.wait()
