// @vitest-environment happy-dom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Fake, FakeTransport, fakeRun } from "../demo/fake";
import { RunModel } from "../src/model";
import { notice } from "../src/notice";
import { type Transport, TransportError } from "../src/transport";

const EMPTY = { run: null, lines: [], kernel: null };
let models: RunModel[] = [];

beforeEach(() => vi.useFakeTimers());
afterEach(() => {
  for (const model of models) model.close();
  models = [];
  vi.useRealTimers();
});

function open(live: Transport | null, store: Transport | null = null, trusted = true) {
  const saved = trusted ? EMPTY : { run: fakeRun({ log_count: 9 }), lines: [], kernel: null };
  const model = new RunModel({ name: "train", saved, live, store, trusted });
  models.push(model);
  return model;
}

function failing(kind: "silent" | "unknown", fake: Fake = { run: fakeRun() }): FakeTransport {
  const transport = new FakeTransport(fake);
  transport.show = () => {
    transport.asked.push("show");
    return Promise.reject(new TransportError(kind, "no"));
  };
  return transport;
}

const settle = () => vi.advanceTimersByTimeAsync(20);

test("a view that may ask nothing asks nothing", async () => {
  const live = new FakeTransport({ run: fakeRun() });
  const watch = vi.spyOn(live, "watch");
  const model = open(live, live, false);
  await vi.advanceTimersByTimeAsync(60_000);
  model.needLines(0, 9);
  model.needTasks(0, 9);
  await model.act("cancel");
  expect(watch).not.toHaveBeenCalled();
  expect(live.asked).toEqual([]);
  expect(notice(model.run, model.status, false, null)?.tag).toBe("saved");
});

test("pushes bring the run and its newest lines, and older pushes change nothing", async () => {
  const live = new FakeTransport({ run: fakeRun({ log_count: 10 }) });
  const model = open(live);
  await settle();
  const line = { number: 10, time: 0, level: 20, source: "stdout", message: "new" };
  live.push({ log_count: 11, state_type: "PAUSED" }, [line]);
  expect(model.run?.state_type).toBe("PAUSED");
  expect(model.lines.get(10)?.message).toBe("new");
  vi.setSystemTime(Date.now() - 5000); // the sender's clock, earlier
  live.push({ state_type: "RUNNING" });
  expect(model.run?.state_type).toBe("PAUSED");
});

test("a run that has ended never comes back to life, and is asked no more", async () => {
  const live = new FakeTransport({ run: fakeRun({ state_type: "CANCELLED", ended: 1 }) });
  const watch = vi.spyOn(live, "watch");
  const model = open(live);
  await settle();
  live.push({ state_type: "RUNNING" });
  expect(model.run?.state_type).toBe("CANCELLED");
  await vi.advanceTimersByTimeAsync(120_000);
  expect(watch.mock.calls.length).toBeLessThanOrEqual(2);
});

test("the watch is renewed while the run is active", async () => {
  const live = new FakeTransport({ run: fakeRun() });
  const watch = vi.spyOn(live, "watch");
  open(live);
  await vi.advanceTimersByTimeAsync(55_000);
  expect(watch).toHaveBeenCalledTimes(3);
});

test("a silent kernel's run is shown from the store, and the kernel tried again", async () => {
  const live = failing("silent");
  const model = open(live, new FakeTransport({ run: fakeRun(), capability: "read-only" }));
  await settle();
  expect(model.status.source).toBe("store");
  expect(notice(model.run, model.status, true, null)?.text).toContain("does not answer");
  await vi.advanceTimersByTimeAsync(10_000);
  expect(live.asked.length).toBeGreaterThan(2);
});

test("a kernel that does not know the run is not asked again until it is another one", async () => {
  const live = failing("unknown");
  const model = open(live, new FakeTransport({ run: fakeRun(), capability: "read-only" }));
  await vi.advanceTimersByTimeAsync(30_000);
  expect(live.asked).toHaveLength(1);
  model.setLive(new FakeTransport({ run: fakeRun() }));
  await settle();
  expect(model.status.source).toBe("kernel");
});

test("what nobody knows any more is shown as it was saved", async () => {
  const model = open(failing("unknown"), failing("unknown"));
  await settle();
  expect(model.status).toMatchObject({ source: "saved", capability: "read-only" });
});

test("an action is pending until the kernel answers, and its refusal is said in one line", async () => {
  const live = new FakeTransport({ run: fakeRun() });
  const model = open(live);
  await settle();
  const acted = model.act("pause");
  expect(model.pending).toBe("pause");
  expect(model.run?.state_type).toBe("RUNNING");
  await vi.advanceTimersByTimeAsync(400);
  await acted;
  expect(model.pending).toBeNull();
  expect(model.run?.state_type).toBe("PAUSED");
  live.act = () => Promise.reject(new TransportError("refused", "The run is not paused."));
  await model.act("resume");
  expect(model.problem).toBe("The run is not paused.");
});

test("a reply that a push has overtaken changes nothing", async () => {
  const running = fakeRun({ state_time: 100 });
  const live = new FakeTransport({ run: running });
  const model = open(live);
  await settle();
  live.act = () => {
    live.push({ state_type: "PAUSED", state_time: 101 });
    return Promise.resolve({ ...running, asked: "pause" });
  };
  await model.act("pause");
  expect(model.run?.state_type).toBe("PAUSED");
});

test("only the lines that show are fetched, and the newest wish wins", async () => {
  const live = new FakeTransport({ run: fakeRun({ log_count: 100_000 }) });
  const model = open(live);
  await settle();
  model.needLines(50_000, 50_020);
  model.needLines(70_000, 70_020);
  model.needLines(90_000, 90_020);
  await settle();
  expect(live.asked).toEqual(["logs 50000 50200", "logs 90000 90200"]);
  expect(model.lines.get(90_010)?.message).toBe("line 90010");
});

test("a whole log is read page by page", async () => {
  const live = new FakeTransport({ run: fakeRun({ log_count: 5_000 }) });
  const model = open(live);
  await settle();
  expect(await model.read(0, 5_000)).toHaveLength(5_000);
  expect(live.asked).toEqual(["logs 0 5000", "logs 2000 5000", "logs 4000 5000"]);
});

test("a look says where the run is, or why nobody can tell", async () => {
  const stacks = [{ name: "train", kind: "thread", doing: "running", frames: [], hint: null }];
  const live = new FakeTransport({ run: fakeRun(), stacks });
  const model = open(live);
  await settle();
  expect(model.locatable).toBe(true);
  const looked = model.look();
  expect(model.where.looking).toBe(true);
  await model.look(); // a second click asks nothing more
  await looked;
  expect(live.asked.filter((action) => action === "where")).toHaveLength(1);
  expect(model.where).toMatchObject({ stacks, more: 0, looking: false, problem: null });
  live.where = () => Promise.reject(new TransportError("silent", "The kernel does not answer."));
  await model.look();
  expect(model.where).toMatchObject({
    stacks,
    looking: false,
    problem: expect.stringContaining("not answer"),
  });
});

test("where a run is is not asked of the store, nor of a run that was saved", async () => {
  const store = new FakeTransport({ run: fakeRun(), capability: "read-only" });
  const model = open(failing("unknown"), store);
  await settle();
  expect(model.locatable).toBe(false);
  await model.look();
  const saved = open(new FakeTransport({ run: fakeRun() }), null, false);
  await saved.look();
  expect(store.asked).toEqual([]);
});
