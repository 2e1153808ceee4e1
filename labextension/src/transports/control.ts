/**
 * Requests on the kernel's control channel, which is answered while a cell is busy; pushes come
 * over IOPub. Works with any kernel connection of JupyterLab's services, however we got hold of
 * it: the notebook's own, or the one a widget manager holds.
 */

import { TransportError } from "../transport";
import { type Ask, type Content, KernelTransport, type Listen, newToken } from "./kernel";

/** What is used of a kernel connection (`Kernel.IKernelConnection`). */
export interface ControlKernel {
  readonly clientId: string;
  readonly username: string;
  // biome-ignore lint/suspicious/noExplicitAny: the message types of services have no room for ours
  sendControlMessage(message: any, expectReply?: boolean, disposeOnDone?: boolean): ControlFuture;
  readonly connectionStatus?: string;
  readonly connectionStatusChanged?: Signal;
  readonly iopubMessage: Signal;
}

interface Signal {
  // biome-ignore lint/suspicious/noExplicitAny: likewise
  connect(slot: (sender: any, value: any) => void): boolean;
  // biome-ignore lint/suspicious/noExplicitAny: likewise
  disconnect(slot: (sender: any, value: any) => void): boolean;
}

interface ControlFuture {
  // biome-ignore lint/suspicious/noExplicitAny: likewise
  onReply: (message: any) => void | PromiseLike<void>;
  dispose(): void;
}

/** A notebook's kernel connection that is still to come: told by another transport. */
export function absentTransport(run: string): KernelTransport {
  const ask: Ask = (_, seconds) =>
    new Promise((_resolve, reject) => {
      const absent = () => reject(new TransportError("absent", "No kernel is connected yet."));
      setTimeout(absent, seconds * 1000);
    });
  return new KernelTransport("live", run, ask, () => () => {});
}

export function controlTransport(kernel: ControlKernel, run: string): KernelTransport {
  return new KernelTransport("live", run, askOnControl(kernel), listenOnIopub(kernel));
}

/**
 * A message is sent only once the connection is open. One that is given to it before waits until
 * the kernel has answered on its shell channel, seconds later when a cell is running, and holds up
 * all that follow.
 */
function askOnControl(kernel: ControlKernel): Ask {
  return (content, seconds) =>
    new Promise<Content>((resolve, reject) => {
      let future: ControlFuture | null = null;
      const changed = kernel.connectionStatusChanged;

      const end = () => {
        clearTimeout(timer);
        changed?.disconnect(send);
      };
      const silent = () => {
        end();
        future?.dispose();
        reject(new TransportError("silent", "The kernel does not answer. Try again."));
      };
      const send = () => {
        if (kernel.connectionStatus && kernel.connectionStatus !== "connected") return;
        changed?.disconnect(send);
        try {
          future = kernel.sendControlMessage(message(kernel, content), true, true);
        } catch {
          silent(); // the kernel is dead
          return;
        }
        future.onReply = (reply) => {
          end();
          resolve(reply.content);
        };
      };

      const timer = setTimeout(silent, seconds * 1000);
      changed?.connect(send);
      send();
    });
}

function listenOnIopub(kernel: ControlKernel): Listen {
  return (listener) => {
    const slot = (
      _: unknown,
      message: { header: { msg_type: string }; content: unknown },
    ): void => {
      if (message.header.msg_type === "flows_changed") listener(message.content);
    };
    kernel.iopubMessage.connect(slot);
    return () => kernel.iopubMessage.disconnect(slot);
  };
}

function message(kernel: ControlKernel, content: Content) {
  return {
    channel: "control",
    header: {
      msg_id: newToken(),
      msg_type: "flows_request",
      session: kernel.clientId,
      username: kernel.username,
      version: "5.3",
      date: new Date().toISOString(),
    },
    parent_header: {},
    metadata: {},
    content,
    buffers: [],
  };
}
