"""Submits, waits, lists and works, from nothing but the .proto files. Usage: client.py HOST:PORT"""

import json
import sys
import threading
import time
import uuid

import grpc
from dtask.v1 import task_pb2 as t
from dtask.v1 import task_pb2_grpc
from dtask.v1 import types_pb2 as types
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from google.protobuf.descriptor_pool import DescriptorPool
from worker import Worker


def tasks(channel):
    stub = task_pb2_grpc.TaskServiceStub(channel)
    ids = [f"py-{uuid.uuid4()}" for _ in range(5)]
    for number, task_id in enumerate(ids):
        spec = types.TaskSpec(id=task_id, type="python-double", payload=json.dumps(number).encode())
        first = stub.SubmitTask(t.SubmitTaskRequest(task=spec))
        assert first.created and first.id == task_id, first
        again = stub.SubmitTask(t.SubmitTaskRequest(task=spec))
        assert not again.created, "the same id and spec is accepted once"
    for number, task_id in enumerate(ids):
        ended = stub.WaitTask(t.WaitTaskRequest(id=task_id, timeout=30_000), timeout=40)
        assert ended.done and ended.task.status == types.TASK_STATUS_SUCCEEDED, ended
        listed = stub.ListExecutions(t.ListExecutionsRequest(task_id=task_id)).executions
        assert len(listed) == 1, listed
        assert listed[0].worker_id == "python" and listed[0].attempt == 1, listed
        assert json.loads(listed[0].output) == 2 * number, listed
        assert stub.GetExecution(t.GetExecutionRequest(id=listed[0].id)).task_id == task_id

    failing = types.TaskSpec(
        id=f"py-{uuid.uuid4()}", type="python-fail", max_retries=1,
        backoff=types.BACKOFF_FIXED, backoff_base=50,
    )
    stub.SubmitTask(t.SubmitTaskRequest(task=failing))
    ended = stub.WaitTask(t.WaitTaskRequest(id=failing.id, timeout=30_000), timeout=40)
    assert ended.task.status == types.TASK_STATUS_FAILED, ended
    listed = stub.ListExecutions(t.ListExecutionsRequest(task_id=failing.id)).executions
    assert [it.status for it in listed] == [types.EXECUTION_STATUS_FAILED] * 2, listed
    assert all("on purpose" in it.error for it in listed), listed

    try:
        stub.GetTask(t.GetTaskRequest(id="nobody-submitted-this"))
        raise AssertionError("an unknown id is NOT_FOUND")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error


def health(channel):
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING, answer


def services_by_v1(channel):
    # The messages of v1 are those of v1alpha, byte for byte; grpcio ships the latter alone.
    ask = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    answer = next(ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")])))
    return {service.name for service in answer.list_services_response.service}


def reflection(channel):
    assert "dtask.v1.TaskService" in services_by_v1(channel)
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    for name in ("TaskService", "WorkerService", "ClusterService"):
        assert f"dtask.v1.{name}" in services, services
    pool = DescriptorPool(database)
    service = pool.FindServiceByName("dtask.v1.TaskService")
    method = service.FindMethodByName("SubmitTask")
    assert method.input_type.full_name == "dtask.v1.SubmitTaskRequest", method
    assert pool.FindMessageTypeByName("dtask.v1.TaskSpec").fields_by_name["cron_expr"].number == 10


def fail(_):
    raise ValueError("on purpose")


def main():
    address = sys.argv[1]
    handlers = {"python-double": lambda it: json.dumps(2 * json.loads(it.payload)).encode(),
                "python-fail": fail}
    worker = Worker(address, "python", handlers)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=20)
        health(channel)
        print("health: ok")
        reflection(channel)
        print("reflection: ok")
        tasks(channel)
        print("tasks and worker: ok")
        # Leases are renewed by our heartbeats, and every result is acknowledged.
        deadline = time.monotonic() + 20
        while (worker.renewals == 0 or worker.results) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert worker.renewals > 0 and not worker.results, (worker.renewals, worker.results)
        print("session: ok")
    worker.stopping.set()


main()
