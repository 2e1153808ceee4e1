/**
 * Requests over the widget's own comm, for front ends that show no kernel to their widgets
 * (VS Code, Colab). The kernel reads a comm between cells only, so an answer may take as long as
 * the running cell does: no request times out, and actions are `queued`. Pushes arrive at once.
 */

import type { Content } from "./kernel";
import { KernelTransport, newToken } from "./kernel";

/** What is used of an anywidget model. */
export interface CommModel {
  get(name: string): unknown;
  send(content: unknown): void;
  on(event: string, callback: (content: unknown) => void): void;
  off(event: string, callback?: ((content: unknown) => void) | null): void;
}

interface FromKernel {
  type?: unknown;
  token?: unknown;
  content?: unknown;
}

export function commTransport(model: CommModel, run: string, signal: AbortSignal): KernelTransport {
  const waiting = new Map<string, (content: Content) => void>();
  const onMessage = (content: unknown) => {
    const { type, token, content: reply } = (content ?? {}) as FromKernel;
    if (type !== "reply" || typeof token !== "string") return;
    waiting.get(token)?.((reply ?? {}) as Content);
    waiting.delete(token);
  };
  model.on("msg:custom", onMessage);
  signal.addEventListener("abort", () => model.off("msg:custom", onMessage));

  return new KernelTransport(
    "queued",
    run,
    (content) =>
      new Promise((resolve) => {
        const token = newToken();
        waiting.set(token, resolve);
        model.send({ type: "request", token, content });
      }),
    (listener) => listenOnComm(model, listener),
  );
}

/** Pushes that the kernel sends to the widget itself. */
export function listenOnComm(model: CommModel, listener: (content: unknown) => void): () => void {
  const onMessage = (content: unknown) => {
    const message = (content ?? {}) as FromKernel;
    if (message.type === "changed") listener(message.content);
  };
  model.on("msg:custom", onMessage);
  return () => model.off("msg:custom", onMessage);
}
