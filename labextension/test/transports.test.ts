import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { fakeRun } from "../demo/fake";
import { type CommModel, commTransport } from "../src/transports/comm";
import { type ControlKernel, controlTransport } from "../src/transports/control";
import { restTransport } from "../src/transports/rest";

const run = fakeRun({ id: "r1" });

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

class FakeSignal {
  slots = new Set<(sender: unknown, value: unknown) => void>();
  connect = (slot: (sender: unknown, value: unknown) => void) => Boolean(this.slots.add(slot));
  disconnect = (slot: (sender: unknown, value: unknown) => void) => this.slots.delete(slot);
  emit = (value: unknown) => {
    for (const slot of [...this.slots]) slot(null, value);
  };
}

function fakeKernel(answer: object | null, connectionStatus = "connected") {
  const sent: { header: { msg_type: string }; channel: string; content: object }[] = [];
  const kernel = {
    sent,
    clientId: "client",
    username: "",
    connectionStatus,
    connectionStatusChanged: new FakeSignal(),
    iopubMessage: new FakeSignal(),
    sendControlMessage(message: (typeof sent)[0]) {
      sent.push(message);
      const future = { onReply: (_: unknown) => {}, dispose() {} };
      if (answer) queueMicrotask(() => future.onReply({ content: answer }));
      return future;
    },
  };
  return kernel as typeof kernel & ControlKernel;
}

test("a request goes over the control channel, by the protocol", async () => {
  const kernel = fakeKernel({ status: "ok", run, now: 5, lines: [] });
  expect((await controlTransport(kernel, "r1").watch()).run.id).toBe("r1");
  expect(kernel.sent[0]).toMatchObject({
    channel: "control",
    header: { msg_type: "flows_request", session: "client" },
    content: { protocol: 1, action: "watch", run: "r1" },
  });
});

test("a kernel without the extension is silent, and one without the run says so", async () => {
  const asked = controlTransport(fakeKernel(null), "r1").show();
  asked.catch(() => {});
  await vi.advanceTimersByTimeAsync(2000);
  await expect(asked).rejects.toMatchObject({ kind: "silent" });
  const unknown = fakeKernel({ status: "error", ename: "UnknownRun", evalue: "No run r1." });
  await expect(controlTransport(unknown, "r1").show()).rejects.toMatchObject({ kind: "unknown" });
});

test("nothing is sent before the connection is open", async () => {
  const kernel = fakeKernel({ status: "ok", run }, "connecting");
  const asked = controlTransport(kernel, "r1").show();
  expect(kernel.sent).toHaveLength(0);
  kernel.connectionStatus = "connected";
  kernel.connectionStatusChanged.emit("connected");
  expect((await asked).run.id).toBe("r1");
  expect(kernel.connectionStatusChanged.slots.size).toBe(0);
});

test("only pushes of this run are heard, until nobody listens", () => {
  const kernel = fakeKernel(null);
  const heard: string[] = [];
  const stop = controlTransport(kernel, "r1").listen((change) => heard.push(change.run.id));
  const push = (id: string, type = "flows_changed") =>
    kernel.iopubMessage.emit({ header: { msg_type: type }, content: { run: { ...run, id } } });
  push("r2");
  push("r1", "stream");
  push("r1");
  stop();
  push("r1");
  expect(heard).toEqual(["r1"]);
});

test("over a comm an answer may take as long as the running cell does", async () => {
  const callbacks = new Set<(content: unknown) => void>();
  const sent: { token: string; content: object }[] = [];
  const model: CommModel = {
    get: () => null,
    send: (content) => sent.push(content as (typeof sent)[0]),
    on: (_, callback) => callbacks.add(callback),
    off: (_, callback) => callback && callbacks.delete(callback),
  };
  const teardown = new AbortController();
  const transport = commTransport(model, "r1", teardown.signal);
  expect(transport.capability).toBe("queued");
  const acted = transport.act("pause");
  await vi.advanceTimersByTimeAsync(3_600_000);
  const [request] = sent;
  expect(request).toMatchObject({ type: "request", content: { action: "pause", run: "r1" } });
  for (const callback of callbacks) {
    callback({ type: "reply", token: request?.token, content: { status: "ok", run } });
  }
  expect((await acted)?.id).toBe("r1");
  teardown.abort();
  expect(callbacks.size).toBe(0);
});

test("the store answers with the same objects, and acts on nothing", async () => {
  const paths: string[] = [];
  const transport = restTransport(async (path) => {
    paths.push(path);
    return new Response(JSON.stringify({ status: "ok", run, now: 7, kernel_alive: false }));
  }, "r/1");
  expect(await transport.show()).toMatchObject({ now: 7, kernelAlive: false });
  await transport.logs(0, 200);
  expect(paths).toEqual(["runs/r%2F1", "runs/r%2F1/logs?start=0&stop=200"]);
  await expect(transport.act("cancel")).rejects.toMatchObject({ kind: "refused" });
  const none = restTransport(async () => new Response("{}", { status: 404 }), "r1");
  await expect(none.show()).rejects.toMatchObject({ kind: "unknown" });
});

test("where a run is comes from its kernel, with how many stacks there are in all", async () => {
  const stack = { name: "train", kind: "thread", doing: "running", frames: [], hint: null };
  const kernel = fakeKernel({ status: "ok", run, stacks: [stack], count: 7 });
  expect(await controlTransport(kernel, "r1").where()).toEqual({ stacks: [stack], count: 7 });
  expect(kernel.sent[0]).toMatchObject({ content: { action: "where", run: "r1" } });
  const store = restTransport(() => Promise.reject(new Error()), "r1");
  await expect(store.where()).rejects.toMatchObject({ kind: "refused" });
});
