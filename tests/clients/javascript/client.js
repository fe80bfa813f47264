// Submits and waits, from nothing but the .proto files. Usage: client.js PROTO_FOLDER HOST:PORT
const assert = require("node:assert");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [folder, address] = process.argv.slice(2);
const definition = loader.loadSync("dtask/v1/task.proto", {
  includeDirs: [folder],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
});
const { dtask } = grpc.loadPackageDefinition(definition);
const client = new dtask.v1.TaskService(address, grpc.credentials.createInsecure());

function call(method, request) {
  return new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + 40_000);
    client[method](request, { deadline }, (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
}

async function main() {
  const id = `js-${Date.now()}-${process.pid}`;
  const payload = Buffer.from(JSON.stringify({ argv: ["echo", "from javascript"] }));
  const accepted = await call("SubmitTask", { task: { id, type: "exec", payload } });
  assert.strictEqual(accepted.id, id);
  assert.strictEqual(accepted.created, true);
  const ended = await call("WaitTask", { id, timeout: 30_000 });
  assert.strictEqual(ended.done, true);
  assert.strictEqual(ended.task.status, "TASK_STATUS_SUCCEEDED");
  const listed = await call("ListExecutions", { task_id: id });
  assert.strictEqual(listed.executions.length, 1);
  assert.match(listed.executions[0].output.toString(), /from javascript/);
  await assert.rejects(call("GetTask", { id: "nobody-submitted-this" }), (error) => {
    assert.strictEqual(error.code, grpc.status.NOT_FOUND);
    return true;
  });
  console.log("javascript: ok");
  client.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
