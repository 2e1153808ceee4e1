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
  readonly iopubMessage: {
    // biome-ignore lint/suspicious/noExplicitAny: likewise
    connect(slot: (sender: any, message: any) => void): boolean;
    // biome-ignore lint/suspicious/noExplicitAny: likewise
    disconnect(slot: (sender: any, message: any) => void): boolean;
  };
}

interface ControlFuture {
  // biome-ignore lint/suspicious/noExplicitAny: likewise
  onReply: (message: any) => void | PromiseLike<void>;
  dispose(): void;
}

const SECONDS_TO_ANSWER = 1.5;

export function controlTransport(kernel: ControlKernel, run: string): KernelTransport {
  return new KernelTransport("live", run, askOnControl(kernel), listenOnIopub(kernel));
}

function askOnControl(kernel: ControlKernel): Ask {
  return (content) =>
    new Promise<Content>((resolve, reject) => {
      const silent = () =>
        reject(new TransportError("silent", "The kernel does not answer. Try again."));
      let future: ControlFuture;
      try {
        future = kernel.sendControlMessage(message(kernel, content), true, true);
      } catch {
        silent(); // the kernel is dead or the connection is closed
        return;
      }
      const timer = setTimeout(() => {
        future.dispose();
        silent();
      }, SECONDS_TO_ANSWER * 1000);
      future.onReply = (reply) => {
        clearTimeout(timer);
        resolve(reply.content);
      };
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
