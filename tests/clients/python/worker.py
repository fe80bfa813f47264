"""A worker over WorkerService.Session, written from worker.proto alone."""

import queue
import random
import threading
import time

import grpc
from dtask.v1 import worker_pb2 as w
from dtask.v1 import worker_pb2_grpc


def now_us():
    return time.time_ns() // 1000


class Worker:
    """Runs tasks of the given kinds in this process; handlers are short, so no lease ends."""

    def __init__(self, address, name, handlers, slots=2):
        self.address, self.name, self.handlers, self.slots = address, name, handlers, slots
        self.instance = random.getrandbits(63) | 1
        self.seen = set()
        self.results = {}
        self.running = set()
        self.lock = threading.Lock()
        self.out = None
        self.session = 0
        self.seq = 0
        self.stopping = threading.Event()
        self.problem = None
        self.renewals = 0

    def held(self):
        return sorted(self.running | set(self.results))

    def send(self, **frame):
        self.out.put(w.WorkerToLeader(session=self.session, **frame))

    def run(self):
        while not self.stopping.is_set():
            try:
                self.one_session()
            except grpc.RpcError as error:
                if self.stopping.is_set():
                    return
                self.problem = error
                time.sleep(0.2)

    def one_session(self):
        self.out, self.session = queue.Queue(), 0
        with grpc.insecure_channel(self.address) as channel:
            with self.lock:
                hello = w.WorkerHello(
                    name=self.name, instance=self.instance, slots=self.slots,
                    kinds=sorted(self.handlers), tokens=self.held(),
                )
                self.send(hello=hello)
            frames = iter(self.out.get, None)
            answers = worker_pb2_grpc.WorkerServiceStub(channel).Session(frames)
            ended = threading.Event()
            try:
                for answer in answers:
                    self.hear(answer, ended)
                    if self.stopping.is_set():
                        break
            finally:
                ended.set()
                self.out.put(None)
                answers.cancel()

    def hear(self, answer, ended):
        kind = answer.WhichOneof("frame")
        if kind == "welcome":
            with self.lock:
                self.session = answer.welcome.session
                self.keep(self.held(), answer.welcome.extends)
                again = list(self.results.values())
                if again:
                    self.send(reports=w.WorkerReports(reports=again))
            interval = answer.welcome.heartbeat_ms / 1000
            threading.Thread(target=self.beat, args=(interval, ended), daemon=True).start()
        elif kind == "not_leader":
            if answer.not_leader.leader:
                self.address = answer.not_leader.leader
            else:
                time.sleep(0.2)
        elif kind == "refused":
            self.problem = RuntimeError(answer.refused.reason)
            self.stopping.set()
        elif kind == "open":
            for assignment in answer.open.assignments:
                self.open(assignment)
        elif kind == "renewed":
            # Handlers here are far shorter than a lease; a missing token's result is forgotten.
            self.renewals += 1
        elif kind == "acknowledged":
            with self.lock:
                for span in answer.acknowledged.ranges:
                    for token in [t for t in self.results if span.first <= t <= span.last]:
                        del self.results[token]
        elif kind in ("stop", "follow", "unfollow"):
            pass
        else:
            raise RuntimeError(f"a frame that this worker does not know: {kind}")

    def keep(self, named, extends):
        lost = set(named) - set(extends)
        for token in lost:
            self.results.pop(token, None)
            self.running.discard(token)

    def beat(self, interval, ended):
        while not ended.wait(interval):
            with self.lock:
                self.seq += 1
                self.send(heartbeat=w.WorkerHeartbeat(seq=self.seq, tokens=self.held()))

    def open(self, assignment):
        with self.lock:
            if assignment.token in self.seen:
                return
            self.seen.add(assignment.token)
            self.running.add(assignment.token)
            started = now_us()
            attempt = w.StartedAttempt(token=assignment.token, started_at_us=started)
            self.send(started=w.WorkerStarted(attempts=[attempt]))
        threading.Thread(target=self.handle, args=(assignment, started), daemon=True).start()

    def handle(self, assignment, started):
        report = w.AttemptReport(token=assignment.token, started_at_us=started)
        try:
            report.output = self.handlers[assignment.kind](assignment)
            report.outcome = w.ATTEMPT_OUTCOME_SUCCEEDED
        except Exception as error:  # a handler's failure is an outcome
            report.outcome = w.ATTEMPT_OUTCOME_FAILED
            report.error = str(error)
        report.finished_at_us = now_us()
        with self.lock:
            self.running.discard(assignment.token)
            self.results[assignment.token] = report
            self.send(reports=w.WorkerReports(reports=[report]))
