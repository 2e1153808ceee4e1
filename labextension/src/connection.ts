/**
 * Which transport a view listens to: the kernel if it answers, else the store, else nobody.
 *
 * One loop asks, then sleeps until it is time to ask again or something changed:
 *
 * - The kernel's watch is renewed while the run is active, less often asked in full while the
 *   view cannot be seen (then the kernel pushes nothing). Pushes come in between.
 * - A kernel that is silent is tried again, after ever longer waits, and the store polled
 *   meanwhile. A kernel that does not know the run is not asked again until it is another one.
 * - Nothing is asked once the run has ended and its end is known.
 *
 * It keeps no run: what it hears it hands to `onShown`, what it is connected to to `onStatus`.
 */

import type { Shown } from "./protocol";
import { isTerminal } from "./states";
import { type Capability, type Failure, type Transport, TransportError } from "./transport";

export type Source = "connecting" | "kernel" | "store" | "saved";

export interface Status {
  source: Source;
  /** Why it is not the kernel. */
  why: Failure | null;
  capability: Capability;
  transport: Transport | null;
}

export interface Options {
  live: Transport | null;
  store: Transport | null;
  onShown: (shown: Shown, source: Source) => void;
  onStatus: (status: Status) => void;
}

const RENEW_SECONDS = 25;
const POLL_SECONDS = 1;
const RETRY_SECONDS = 3; // doubled each time
const LONGEST_RETRY_SECONDS = 60;

export class Connection {
  status: Status = { source: "connecting", why: null, capability: "read-only", transport: null };
  private live: Transport | null = null;
  private useless: Failure | null = null; // why the kernel is not worth asking again
  private ended = false;
  private visible = true;
  private closed = false;
  private failures = 0; // of the kernel, in a row
  private triedKernel = 0; // when it failed last
  private unlisten: () => void = () => {};
  private wake: () => void = () => {};

  constructor(private readonly options: Options) {
    this.use(options.live);
    queueMicrotask(() => void this.loop()); // whoever made it may still say which kernel
  }

  /** The kernel is another one, has restarted, or is gone. */
  setLive(live: Transport | null): void {
    this.use(live);
    this.ended = false;
    this.wake();
  }

  /** Whether the view can be seen. */
  setVisible(visible: boolean): void {
    if (visible === this.visible) return;
    this.visible = visible;
    if (visible && !this.ended) this.wake();
  }

  close(): void {
    this.closed = true;
    this.unlisten();
    this.wake();
  }

  private use(live: Transport | null): void {
    this.unlisten();
    this.live = live;
    this.useless = null;
    this.failures = 0;
    this.unlisten = live?.listen((change) => this.hear(live, change)) ?? (() => {});
    if (live?.capability === "queued") this.report("kernel", null, live);
  }

  private hear(live: Transport, change: Shown): void {
    if (this.closed || live !== this.live) return;
    this.report("kernel", null, live);
    this.take(change, "kernel");
  }

  private take(shown: Shown, source: Source): void {
    this.ended = isTerminal(shown.run.state_type);
    this.options.onShown(shown, source);
  }

  private report(source: Source, why: Status["why"], transport: Transport | null): void {
    const capability = transport?.capability ?? "read-only";
    const old = this.status;
    if (old.source === source && old.why === why && old.transport === transport) return;
    this.status = { source, why, capability, transport };
    this.options.onStatus(this.status);
  }

  private async loop(): Promise<void> {
    while (!this.closed) {
      const woken = new Promise<void>((resolve) => {
        this.wake = resolve;
      });
      await this.refresh();
      const seconds = this.closed ? 0 : this.rest();
      if (seconds === null) await woken;
      else await Promise.race([woken, sleep(seconds)]);
    }
  }

  private async refresh(): Promise<void> {
    const why = await this.askKernel();
    if (this.closed || why === null) return;
    const store = this.options.store;
    try {
      if (!store) throw new TransportError("unknown", "There is no store to ask.");
      const shown = await store.show();
      if (this.closed) return;
      this.report("store", why, store);
      this.take(shown, "store");
    } catch {
      if (!this.closed) this.report("saved", why, null);
    }
  }

  /** Ask the kernel; `null` if it answered, else why not. */
  private async askKernel(): Promise<Status["why"]> {
    const live = this.live;
    if (!live) return "absent";
    if (this.useless) return this.useless;
    const waited = performance.now() - this.triedKernel;
    if (this.failures && waited < this.retrySeconds() * 1000) return "silent";
    try {
      const shown = await (this.visible ? live.watch() : live.show());
      if (live === this.live && !this.closed) {
        this.failures = 0;
        this.report("kernel", null, live);
        this.take(shown, "kernel");
      }
      return null;
    } catch (error) {
      const kind = error instanceof TransportError ? error.kind : "silent";
      if (live !== this.live) return null; // the loop was woken and asks the new one
      if (kind === "unknown" || kind === "absent") this.useless = kind;
      this.failures++;
      this.triedKernel = performance.now();
      return kind;
    }
  }

  /** How long to sleep, or `null` for until something changes. */
  private rest(): number | null {
    const hopeful = this.live !== null && !this.useless;
    if (this.ended) return null;
    if (this.status.source === "kernel") return RENEW_SECONDS;
    if (this.status.source === "store") return POLL_SECONDS;
    return hopeful ? this.retrySeconds() : null;
  }

  private retrySeconds(): number {
    return Math.min(LONGEST_RETRY_SECONDS, RETRY_SECONDS * 2 ** Math.max(0, this.failures - 1));
  }
}

function sleep(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
